"""What a plan tells grows with what is planned, and says what it rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from matplotlib.image import imread

from pipeline_lib.config import Area, Config, parse_before_models, parts_of
from pipeline_lib.config.check import check
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json, write_json
from pipeline_lib.plan import Plan, Rates, Work, as_markdown, summarise, work_of, write_plan
from pipeline_lib.plan.cubes import cubes_of, sequences
from pipeline_lib.plan.figure import draw_plans
from pipeline_lib.plan.flops import Flops, count_flops
from pipeline_lib.plan.summary import told_bytes

FLOPS = Flops(
    training={"sentinel-1": 0.25, "sentinel-2": 0.3, "fusion": 0.25},
    frame={"sentinel-1": 3e-4, "sentinel-2": 3e-4},
    window=1.5e-3,
)
VALLEY = {"bounds": [11.0, 48.0, 11.6, 48.4], "start": "2021-01-01", "end": "2021-12-31"}


@pytest.fixture(scope="module")
def rates(project_root: Path) -> Rates:
    return Rates.read(project_root / "benchmarks" / "rates.json")


def use(areas: Mapping[str, object], **more: object) -> Config:
    return parse_before_models({"run": "mine", "models": "nowhere", "areas": areas, **more})


def work(config: Config, rates: Rates) -> dict[str, Work]:
    return {one.rule: one for one in work_of(config, parts_of(config.areas), rates, FLOPS)}


def test_every_rate_tells_its_unit_and_its_origin(rates: Rates) -> None:
    assert rates.machine and date.fromisoformat(rates.day)
    for name, rate in rates.rates.items():
        assert set(rate) == {"value", "unit", "by"} and rate["unit"] and rate["by"], name
        assert rate["by"].split(":")[0] in (
            *("assumption", "demo", "cube.py", "rates.py", "training.py", "quantisation.py"),
            "dense_export.py, with the operations counted by flops.py",
        )
    # No GPU was there, and no scene of Planetary Computer.
    assert {"gpu.speed", "passes.sentinel-2-l2a.revisit"} <= rates.assumed().keys()


def test_rates_that_are_missing_are_told(rates: Rates, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks the rate nothing; run benchmarks/rates.py"):
        rates("nothing")
    path = tmp_path / "rates.json"
    write_json(path, {"machine": "mine"})
    with pytest.raises(UserError, match=r"rates.json: holds no rates .*; run benchmarks/rates.py"):
        Rates.read(path)


def test_satellites_return_as_they_did_in_those_years(rates: Rates) -> None:
    def year(loader: str, number: int) -> float:
        return rates.cycles(loader, date(number, 1, 1), date(number, 12, 31))

    assert year("sentinel-2-l2a", 2021) == 73
    assert year("sentinel-2-l2a", 2016) == pytest.approx(36.6)
    # Two satellites until one of them failed at the end of 2021.
    assert year("sentinel-1-rtc", 2020) == 61
    assert year("sentinel-1-rtc", 2022) == pytest.approx(365 / 12)
    assert year("sentinel-2-l2a", 2014) == 0


def test_more_tracks_see_a_place_in_the_north(rates: Rates) -> None:
    def passes(south: float) -> dict[str, float]:
        small = VALLEY | {"bounds": [11.0, south, 11.01, south + 0.01]}
        config = use({"a": small})
        return {cubes.sensor: cubes.passes for cubes in cubes_of(config, config.areas, rates)}

    near, far = passes(0.0), passes(60.0)
    # The swath of 290 km covers the 280 km between two tracks at the equator; at 60 degrees,
    # 140 km.
    assert near["sentinel-2"] == pytest.approx(73 * 290 / 280, rel=0.02)
    assert far["sentinel-2"] == pytest.approx(2 * near["sentinel-2"], rel=0.02)


def test_the_demo_is_planned_with_its_own_passes(project_root: Path, rates: Rates) -> None:
    config = check([project_root / "config" / "demo.yaml"])
    found = cubes_of(config, {}, rates)
    sites = {cubes.sensor: cubes for cubes in found if cubes.learned}
    assert sites["sentinel-2"].passes == pytest.approx(73, abs=0.5)
    assert sites["sentinel-1"].passes == pytest.approx(61, abs=0.5)
    assert sites["sentinel-1"].count == 16
    assert sum(cubes.count for cubes in found if not cubes.learned) == 12


def test_an_area_costs_as_much_as_its_parts(rates: Rates) -> None:
    west, south, east, north = VALLEY["bounds"]
    one = work(use({"a": VALLEY}), rates)
    half = VALLEY | {"bounds": [west, south, (west + east) / 2, north]}
    two = work(use({"a": half, "b": half}), rates)
    assert one["embed_cube"].jobs == 1 and two["embed_cube"].jobs == 2
    for rule in ("build_cube", "embed_cube"):
        assert two[rule].core_seconds == pytest.approx(one[rule].core_seconds, rel=0.1)
        assert two[rule].kept == pytest.approx(one[rule].kept, rel=0.01)
    later = work(use({"a": VALLEY | {"start": "2020-01-01"}}), rates)
    assert later["embed_cube"].kept == pytest.approx(2 * one["embed_cube"].kept, rel=0.01)


def test_a_small_cube_reads_more_than_its_share(rates: Rates) -> None:
    """What is read comes in whole blocks, and around a cube for the cloud model."""
    small = VALLEY | {"bounds": [11.0, 48.0, 11.012, 48.008]}
    found = {name: work(use({"a": area}), rates) for name, area in (("s", small), ("l", VALLEY))}
    per_byte = {
        name: one["build_cube"].read / one["build_cube"].kept for name, one in found.items()
    }
    assert per_byte["s"] > 5 * per_byte["l"]


def test_choices_of_the_config_change_the_plan(rates: Rates) -> None:
    usual = work(use({"a": VALLEY}), rates)
    small = work(use({"a": VALLEY}, embed={"dtype": "int8"}), rates)
    assert small["embed_cube"].kept == pytest.approx(usual["embed_cube"].kept * 8.1 / 15.2)
    content = Config().model_dump(mode="json")
    content["sensors"]["sentinel-2"] |= {"clouds": "scl"}
    cheap = work(use({"a": VALLEY}, sensors=content["sensors"]), rates)
    assert cheap["build_cube"].core_seconds < 0.5 * usual["build_cube"].core_seconds
    assert usual["embed_cube"].gpu_seconds and usual["build_cube"].gpu_seconds is None


def test_trainings_grow_with_epochs_and_end_at_their_samples(rates: Rates) -> None:
    def trained(**training: object) -> float:
        config = Config.model_validate({"training": training})
        return work(config, rates)["train_encoder"].core_seconds

    assert trained(max_epochs=100) == pytest.approx(trained() / 2, rel=0.05)
    assert trained(max_samples=1000) < trained() / 20
    config = Config()
    (cubes,) = (c for c in cubes_of(config, {}, rates) if c.sensor == "sentinel-2")
    runs = (int(cubes.frames) - 20) // 17 + 1
    # 90 pixels hold patches of 15 at nine places, every 9 pixels.
    assert sequences(cubes, config.sensors["sentinel-2"], config.context) == runs * 81


def test_a_plan_adds_its_rules_up_by_stage() -> None:
    rows = [
        Work("pin_items", "cubes", 4, 3600.0, None, 1.0, 2.0, 3.0),
        Work("build_cube", "cubes", 4, 7200.0, None, 10.0, 20.0, 30.0),
        Work("embed_cube", "embeddings", 2, 36000.0, 360.0, 0.0, 5e9, 5e9),
    ]
    plan = summarise("mine", rows, {"build_cube": 4000, "embed_cube": 6000}, ["A note."])
    cubes, embeddings = plan.stages
    assert (cubes.jobs, cubes.core_hours, cubes.gpu_hours) == (8, 3.0, None)
    assert (cubes.read, cubes.written, cubes.kept, cubes.memory_mb) == (11.0, 22.0, 33.0, 4000)
    assert embeddings.gpu_hours == 0.1
    assert plan.total.jobs == 10 and plan.total.core_hours == 13 and plan.total.memory_mb == 6000
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    page = as_markdown(plan)
    rows_of_text = [line for line in page.splitlines() if line.startswith("|")]
    assert len({len(line) for line in rows_of_text}) == 1 and len(rows_of_text) == 5
    assert "| embeddings |    2 |         10 |       0.1 |" in page
    assert "pin_items 4, build_cube 4, embed_cube 2" in page and "* A note." in page


@pytest.mark.parametrize(
    ("size", "told"),
    [(0, ""), (12, "12 B"), (1500, "1.5 kB"), (43e9, "43 GB"), (1.23e15, "1.2 PB")],
)
def test_bytes_are_told_with_a_unit(size: float, told: str) -> None:
    assert told_bytes(size) == told


def test_operations_are_those_of_the_networks_of_the_config() -> None:
    content = Config().model_dump(mode="json")
    usual = count_flops(Config())
    for sensor in content["sensors"].values():
        sensor["encoder"]["width"] //= 2
    narrow = count_flops(Config.model_validate(content))
    for name in ("sentinel-1", "sentinel-2"):
        # Convolutions between channels are a quarter, those to and from bands a half.
        assert 0.2 < narrow.frame[name] / usual.frame[name] < 0.55
        assert narrow.training[name] < usual.training[name]
    # A training step goes there and back through eleven frames of a patch.
    assert usual.training["sentinel-2"] > 11 * usual.frame["sentinel-2"]
    assert 0 < usual.window < 0.1 * usual.training["fusion"]


def test_a_plan_is_written_with_a_picture_before_its_models_exist(
    project_root: Path, tmp_path: Path
) -> None:
    outline = tmp_path / "outline.geojson"
    ring = [[11, 48], [11.3, 48], [11.3, 48.3], [11, 48]]
    outline.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    large = VALLEY | {"bounds": [11.0, 48.0, 13.0, 49.0], "outline": str(outline)}
    write_plan(
        config=use({"valley": large}, embed={"geotiff_dates": ["2021-06-01"]}),
        rates=project_root / "benchmarks" / "rates.json",
        memory_mb={"build_cube": 79000},
        json=tmp_path / "plan.json",
        page=tmp_path / "plan.md",
        figure=tmp_path / "plan.png",
    )
    plan = Plan.from_json(read_json(tmp_path / "plan.json"))
    notes = "\n".join(plan.notes)
    assert "There are no models at nowhere yet" in notes and "over 50 km are cut: 1 parts" in notes
    assert "5 TFLOP/s, which is an assumption" in notes and "GeoTIFFs, up to 1 of each" in notes
    assert plan.total.memory_mb == 79000 and plan.jobs["build_cube"] == 2
    draw_plans([plan, plan], tmp_path / "both.png")
    one, both = (imread(tmp_path / name) for name in ("plan.png", "both.png"))
    assert both.shape[1] > one.shape[1] and one.std() > 0.1


def test_areas_are_planned_where_they_lie(rates: Rates) -> None:
    """Parts far in the north have more passes than those in the south, and cost more."""
    at = {"south": [11.0, 36.0, 11.4, 36.3], "north": [11.0, 66.0, 11.4, 66.3]}
    areas = {name: VALLEY | {"bounds": bounds} for name, bounds in at.items()}
    config = use(areas)
    by_place: dict[str, float] = {}
    for name in at:
        only = {name: Area.model_validate(areas[name])}
        found = {one.rule: one for one in work_of(config, only, rates, FLOPS)}
        width, height = only[name].sides_km
        by_place[name] = found["build_cube"].core_seconds / (width * height)
    assert by_place["north"] > 1.5 * by_place["south"]
