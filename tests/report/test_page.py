"""The report: one file, nothing besides it, the same bytes for the same inputs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_cubes import write_made_cube, write_split
from made_scores import maps, probes

from pipeline_lib.config import SENTINEL_2, Config, Demo, parse
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_json
from pipeline_lib.report.gpp import verdict
from pipeline_lib.report.page import write_report
from pipeline_lib.report.style import drawing
from pipeline_lib.report.tables import (
    comparison_table,
    embeddings_tables,
    encoder_tables,
    facts_of_cubes,
    fusion_tables,
    number,
)

DEMO = Demo(tile_px=222, radar_tile_px=90)
SENSORS = ("sentinel-1", "sentinel-2")
SPLITS = ("training", "validation", "test")
CAPTIONS = (Path(__file__).parents[2] / "workflow" / "report" / "figure.rst").read_text()


def errors(scale: float) -> dict[str, Any]:
    return {
        "centre_mae": 0.0123 * scale,
        "centre_mae_scaled": 0.0345 * scale,
        "context_mae": 0.0456 * scale,
        "samples": 1234,
    }


def scores(rmse: float, first: str = "2020-03-30") -> list[dict[str, Any]]:
    """Rows of one method with two fits."""
    one = {
        "n": 50,
        "rmse": rmse,
        "nrmse": rmse / 20,
        "mae": rmse,
        "r2": 0.5,
        "bias": -0.1,
        "sites": 1,
    }
    one |= {"first": first, "last": "2020-12-05"}
    groups = [("all", ""), ("vegetation", "DBF"), ("site", "FR-Hes"), ("fit", "0"), ("fit", "1")]
    rows = [one | {"by": by, "group": group} for by, group in groups]
    rows[3]["rmse"], rows[4]["rmse"] = rmse - 0.1, rmse + 0.1
    rows += [one | {"by": "tail", "group": tail, "rmse": 7.25} for tail in ("low", "high")]
    return rows


def gpp(baseline: float, low: float, high: float) -> dict[str, Any]:
    """Metrics of GPP where the embeddings have an RMSE of 3.5 in the validation years."""
    errors = {
        "embedding-transformer": 3.5,
        "bands-transformer": baseline,
        "embedding+weather-transformer": 1.75,
    }
    parts = {
        ("temporal_holdout", "training"): lambda rmse: 2.5,
        ("temporal_holdout", "validation"): lambda rmse: rmse,
        ("leave_one_site_out", "validation"): lambda rmse: rmse + 1,
    }
    site = {"site": "DE-X", "vegetation": "DBF", "lon": 7.1, "lat": 48.6, "files": "DE-X_DD.csv"}
    site |= {"measured": 300, "good": 100, "kept": 90, "good_fraction": 0.33}
    site |= {"mean_gpp": 5.0, "max_gpp": 20.0}
    difference = {"rmse": 3.5 - baseline, "low": low, "high": high}
    return {
        "sites": [site | {"used": False, "reason": "33% good days <of> few"}],
        "methods": {method: {"label": method.split("-")} for method in errors},
        "scores": [
            {"method": method, "scheme": scheme, "part": part} | row
            for method, rmse in errors.items()
            for (scheme, part), error in parts.items()
            for row in scores(error(rmse))
        ],
        "difference": {
            "method": "embedding-transformer",
            "baseline": "bands-transformer",
            "temporal_holdout": difference,
            "leave_one_site_out": difference,
        },
        "paper": {split: {"rmse": 4.4, "nrmse": 0.0958} for split in ("training", "validation")},
        "lengths": [
            {"inputs": "embedding", "window_days": length} | row
            for length in (60, 90)
            for row in scores(3.6, "2020-04-29")
        ],
        "look_ahead_days": {"embedding": 47.0, "sentinel-2": 5.0, "sentinel-1": 3.0},
    }


def write_inputs(folder: Path) -> dict[str, Any]:
    """Small files of every kind that the report reads."""
    encoders = {sensor: folder / f"{sensor}.json" for sensor in SENSORS}
    part = {"model": errors(1), "baselines": {"nearest_date": errors(2)}}
    for path in encoders.values():
        write_json(path, {"splits": dict.fromkeys(SPLITS, part)})
    fusion = {split: {"model": {sensor: errors(3) for sensor in SENSORS}} for split in SPLITS}
    write_json(folder / "fusion.json", {"splits": fusion})
    write_json(folder / "gpp.json", gpp(baseline=4.0, low=-0.8, high=-0.2))
    for sensor in SENSORS:
        write_json(folder / f"probes-{sensor}.json", probes("test"))
    write_json(folder / "maps.json", maps(mapped=True))
    manifest = folder / "embeddings" / "site-000-a" / "manifest.json"
    about = {"embeddings": [100, 44], "clipped_share": 0.0, "files": {"c/0": 2_500_000}}
    write_json(manifest, {"model_digest": "0123456789abcdef00"} | about)
    write_made_cube(
        folder / "sentinel-2" / "cube.zarr.zip",
        np.full((3, 1, 4, 4), 0.1),
        np.zeros((3, 4, 4)),
        SENTINEL_2.model_copy(update={"bands": ("B02",)}),
        frames={"clear_share": [0.25, 0.5, 0.75]},
        missing=["scene <X>"],
    )
    split = {"site-000-a": "training", "site-001-a": "test", "site-002-a": "test"}
    write_split(folder / "split.csv", split)
    figure = folder / "sites.png"
    with drawing(figure, width=2, height=1) as drawn:
        drawn.subplots().plot([0, 1])
    shown = ("sites", "optical-sentinel-2", "probes-sentinel-2", "maps")
    return {
        "figures": dict.fromkeys(shown, figure),
        "split": folder / "split.csv",
        "cubes": [folder / "sentinel-2" / "cube.zarr.zip"],
        "encoder_evaluations": encoders,
        "fusion_evaluation": folder / "fusion.json",
        "probes": {sensor: folder / f"probes-{sensor}.json" for sensor in SENSORS},
        "maps": folder / "maps.json",
        "embeddings": [manifest],
        "gpp_metrics": folder / "gpp.json",
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


class Outline(HTMLParser):
    """What a page is made of: links, ids, and whether its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                self.addresses.append(str(value))
            if name == "id":
                self.ids.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def report(inputs: dict[str, Any], output: Path, config: Config) -> str:
    write_report(config=config, captions=CAPTIONS, output=output, **inputs)
    return output.read_text()


@pytest.fixture(scope="module")
def page(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run with everything."""
    return report(inputs, tmp_path_factory.mktemp("page") / "report.html", Config())


def section(text: str, anchor: str) -> str:
    return text[text.index(f'<section id="{anchor}">') :].partition("</section>")[0]


def test_the_report_needs_nothing_besides_itself(
    page: str, inputs: dict[str, Any], tmp_path: Path
) -> None:
    outline = Outline()
    outline.feed(page)
    assert not outline.open
    anchors = [a for a in outline.addresses if a.startswith("#")]
    assert {a.removeprefix("#") for a in anchors} == set(outline.ids)
    others = set(outline.addresses) - set(anchors)
    assert others and all(a.startswith("data:image/png;base64,") for a in others)
    assert not outline.tags & {"script", "link", "iframe"}
    # Equal inputs give equal bytes, which name no file of this machine.
    assert report(inputs, tmp_path / "again.html", Config()) == page
    assert str(inputs["split"].parent) not in page


def test_a_simulated_run_says_so_and_a_real_one_does_not(
    page: str, inputs: dict[str, Any], tmp_path: Path
) -> None:
    simulated = report(inputs, tmp_path / "a.html", Config(run="demo", demo=DEMO))
    assert "Simulated archive: figures are no statement about real land" in simulated
    assert re.search(r"<figcaption>[^<]*Simulated archive\.</figcaption>", simulated)
    assert "truth of the simulated archive" in simulated and "NDVI stands" not in simulated
    assert "imulated" not in page and "NDVI stands" in page


def test_a_run_has_no_section_without_content(inputs: dict[str, Any], tmp_path: Path) -> None:
    file = {"file": "a.nc", "variable": "v"}
    files = {"sentinel-1": file, "sentinel-2": file}
    own = {name: {"site": name, "files": files} for name in "ab"}
    (tmp_path / "a.nc").touch()
    content = {"sites": None, "gpp": None, "own_cubes": own}
    config = parse(content, base=tmp_path)
    reduced = inputs | {"gpp_metrics": None, "figures": {}, "embeddings": []}
    text = report(reduced, tmp_path / "report.html", config)
    assert not any(f'id="{anchor}"' in text for anchor in ("gpp", "places", "towers", "sites"))
    assert "2 cubes of the user" in text and config.catalog.source not in text


def test_a_figure_without_file_or_caption_is_an_error(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "report.html"
    with pytest.raises(UserError, match=r"none\.png"):
        report(inputs | {"figures": {"sites": tmp_path / "none.png"}}, output, Config())
    with pytest.raises(ValueError, match="map: a figure without a caption"):
        report(inputs | {"figures": {"map": tmp_path / "x.png"}}, output, Config())
    assert not output.exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0, "0"), (0.0, "0.0"), (12345, "12,345"), (0.09, "0.0900")],
)
def test_numbers_have_three_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(-1e6, 1e6))
def test_a_number_is_printed_to_half_a_percent(value: float) -> None:
    printed = float(number(value).replace(",", ""))
    assert printed == pytest.approx(value, rel=0.0051, abs=1e-300)


def test_the_comparison_sets_ours_beside_the_papers() -> None:
    part = {"validation": {"model": {"sam": 0.0456}}}
    table = comparison_table({"sentinel-2": {"splits": part}}, {}, {})
    rows = {row[:3]: row[4:] for row in table.rows}
    angle = rows["encoder", "sentinel-2", "spectral angle of the centre"]
    assert angle == (None, 0.0456, None, "0.0259", "0.0278", "–")
    assert rows["GPP", "all", "RMSE of daily GPP"] == (None, None, None, "3.09", "4.40", "–")
    assert len(table.rows) == 10 and all(len(row) == len(table.columns) for row in table.rows)


def test_what_evaluations_hold_reaches_its_section(
    page: str, inputs: dict[str, Any], tmp_path: Path
) -> None:
    comparison = section(page, "results")
    assert comparison.count(">0.0345<") == 6 and comparison.count(">0.104<") == 6
    assert ">2.50<" in comparison and ">3.50<" in comparison and "4.50" not in comparison
    data = section(page, "data")
    assert 'alt="sentinel-2: one cube through its record"' in data
    assert "scene &lt;X&gt;" in data and "<X>" not in data
    rows = [re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", row) for row in data.split("<tr>")]
    assert ["test", "site-001-a, site-002-a", "2"] in rows and ["validation", "–", "0"] in rows
    context = section(page, "context")
    assert 'alt="sentinel-2: scores of probes by target"' in context
    assert context.count(">0.750<") == 6, "of each sensor one by split, two at sites left out"
    assert context.count(">land cover, linear<") == context.count(">land cover, k nearest<") == 2
    shown = section(page, "maps")
    assert "<h2>Are the maps smooth in time and sharp in space?</h2>" in shown
    assert 'alt="Noise in time, steps in space and contrast' in shown
    assert "three pixels of one class" in shown and "for lack of a map" not in shown
    assert shown.count(">2.00<") == 8 and "none of its cubes is embedded" in shown
    for content in (maps(mapped=False), {"splits": {}, "skipped": {}}):
        write_json(tmp_path / "maps.json", content)
        changed = inputs | {"maps": tmp_path / "maps.json"}
        text = report(changed, tmp_path / "report.html", Config())
        assert "for lack of a map" in section(text, "maps")


def test_an_encoder_is_shown_with_its_baselines() -> None:
    part = {"model": errors(1), "baselines": {"pca_9": {"centre_mae": 0.5, "samples": 7}}}
    seasons = {"DJF": part, "JJA": {"model": errors(2), "baselines": {}}}
    evaluation = {"splits": {"test": part | {"seasons": seasons}, "training": part}}
    evaluation |= {"skipped": {"validation": "empty"}}
    tables = encoder_tables("sentinel-2", evaluation, "reflectance")
    table, by_class, by_season, skipped = tables
    assert [row[:2] for row in table.rows] == [
        (split, method)
        for split in ("training", "test")
        for method in ("this model", "9 principal components")
    ]
    assert "centre MAE (reflectance)" in table.columns
    assert "spectral angle of the centre (rad)" not in table.columns
    assert table.rows[1][2:] == (0.5, None, None, 7)
    assert by_class.rows == () and skipped.rows == (("validation", "empty"),)
    assert [row[1:4] for row in by_season.rows] == [
        ("DJF", "this model", pytest.approx(0.0123)),
        ("DJF", "9 principal components", 0.5),
        ("JJA", "this model", pytest.approx(0.0246)),
    ]
    assert by_season.columns[:3] == ("split", "season", "method") and by_season.words == 3
    assert [t.folded for t in tables] == [False, True, True, False]


def test_a_fusion_is_shown_by_sensor_beside_each_sensor_alone() -> None:
    urban = {"model": {"sentinel-1": errors(3)}, "baselines": {"pca_7": {"sentinel-1": errors(4)}}}
    part = {
        "model": {sensor: errors(1) for sensor in SENSORS},
        "baselines": {"encoder_alone": {"sentinel-2": errors(2)}},
        "land_cover": {"urban": urban},
    }
    table, gaps, by_class, by_season, _ = fusion_tables({"splits": {"test": part}})
    assert [row[1:4] for row in table.rows] == [
        ("sentinel-1", "from the embedding", pytest.approx(0.0123)),
        ("sentinel-2", "from the embedding", pytest.approx(0.0123)),
        ("sentinel-2", "encoder alone", pytest.approx(0.0246)),
    ]
    assert [row[1:5] for row in by_class.rows] == [
        ("urban", "sentinel-1", "from the embedding", pytest.approx(0.0369)),
        ("urban", "sentinel-1", "7 principal components", pytest.approx(0.0492)),
    ]
    assert by_season.rows == gaps.rows == ()


def test_evaluations_without_content_give_empty_tables() -> None:
    empty = [*encoder_tables("a", {}, "reflectance"), *fusion_tables({})]
    assert all(table.rows == () for table in empty)


def test_embeddings_are_counted() -> None:
    manifest = {"embeddings": [3, 4], "files": {"a": 500_000, "b": 600_000}}
    manifests = {"x": manifest | {"clipped_share": 0.0}, "y": manifest | {"clipped_share": 0.02}}
    total, each = embeddings_tables(manifests)
    assert total.rows == ((2, 4, 14, 1, 2.2),)
    assert each.rows == (("x", 2, 7, 0, 1.1), ("y", 2, 7, 2, 1.1))


def test_cubes_are_counted_with_what_is_missing(inputs: dict[str, Any]) -> None:
    summary, missing = facts_of_cubes(inputs["cubes"] * 2, Config().sensors)
    assert ("sentinel-1", 0, 0, None, None, 0) in summary.rows
    assert ("sentinel-2", 2, 6, "3 to 3", "50 %", 2) in summary.rows
    assert missing.rows == (("sentinel-2", "scene <X>", 2),)


@pytest.mark.parametrize(
    ("baseline", "low", "high", "said"),
    [
        (4.0, -0.8, -0.2, "the embeddings beat the bands"),
        (3.0, 0.1, 0.9, "the embeddings do not reach the bands"),
        (3.6, -0.4, 0.2, "this may be chance"),
    ],
)
def test_the_report_says_whether_embeddings_beat_what_they_were_made_from(
    baseline: float, low: float, high: float, said: str
) -> None:
    first, second = verdict(gpp(baseline, low, high), "temporal_holdout")
    assert said in first and "3.50 g C" in first
    ahead = (
        "No other method without weather"
        if baseline > 3.5
        else "bands by transformer has the smallest error"
    )
    assert ahead in second


def test_an_advantage_of_the_useless_is_none() -> None:
    metrics = gpp(4.0, -0.8, -0.2)
    for row in metrics["scores"]:
        row["r2"] = -0.2
    assert "neither is better" in verdict(metrics, "leave_one_site_out")[0]


def test_gpp_has_a_section_per_question(page: str) -> None:
    found = {
        anchor: section(page, anchor)
        for anchor in ("towers", "gpp", "places", "windows", "weather")
    }
    assert "33% good days &lt;of&gt; few" in found["towers"]
    assert ">4.40<" in found["gpp"] and ">0.0958<" in found["gpp"]
    assert ">3.50<" in found["gpp"] and ">3.50 ± 0.14<" in found["gpp"]
    assert ">4.50<" in found["places"] and "FR-Hes" in found["places"]
    assert "2020-03-30 to 2020-12-05" in found["gpp"] and "47.0 days later" in found["gpp"]
    assert "5th (low)" in found["places"] and ">7.25<" in found["places"]
    assert ">3.60<" in found["windows"] and "2020-04-29" in found["windows"]
    assert ">1.75<" in found["weather"] and ">1.75<" not in found["gpp"].partition("<details")[0]


def test_faults_stand_at_the_head_of_the_page_and_nothing_without_them(
    inputs: dict[str, Any], tmp_path: Path
) -> None:
    without = inputs | {"probes": {}}
    assert "To know first" not in report(without, tmp_path / "good.html", Config())
    worse = {"model": errors(2), "baselines": {"nearest_date": errors(1)}}
    write_json(tmp_path / "s1.json", {"splits": {"test": worse}, "remarks": ["a <warm-up>"]})
    evaluations = inputs["encoder_evaluations"] | {"sentinel-1": tmp_path / "s1.json"}
    text = report(
        without | {"encoder_evaluations": evaluations}, tmp_path / "report.html", Config()
    )
    head = text[: text.index("<nav")]
    assert "<li>Training of sentinel-1: a &lt;warm-up&gt;.</li>" in head
    assert "worse at the target pixel (MAE 0.0246) than nearest date (0.0123)" in head
