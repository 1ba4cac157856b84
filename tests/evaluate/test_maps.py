"""Maps in numbers: what is counted, that it is fair, and what of it reaches table and figure."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.cubes import CLEAR, THICK_CLOUD, Grid, make_cube, write_cube
from pipeline_lib.embed.store import Layout, TileStore
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.map_features import Basis, CubeFeatures, Scaling, observe
from pipeline_lib.evaluate.map_scores import MAX_DAYS, REACH, boundaries, measure
from pipeline_lib.evaluate.maps import assess_maps
from pipeline_lib.files import write_csv
from pipeline_lib.report.maps import map_tables, plot_maps

RGB = ("B04", "B03", "B02")
HALVES = np.repeat([[0] * 6 + [1] * 6], 12, axis=0)
"""A class map with one straight boundary."""


def numbers(
    values: np.ndarray, *, valid: Any = None, days: Any = None, cover: Any = None
) -> SimpleNamespace:
    """What is told of values ``(time, feature, y, x)``, and how many were counted."""
    valid = np.ones(np.delete(values.shape, 1), bool) if valid is None else valid
    days = 10.0 * np.arange(len(values)) if days is None else np.asarray(days, float)
    sums = measure(values.astype(np.float32), valid, days, cover)
    return SimpleNamespace(**sums.numbers(), sums=sums)


def series(values: list[float], days: list[float], valid: list[bool] | None = None) -> Any:
    """What is told of one pixel with one feature."""
    seen = None if valid is None else np.array(valid)[:, None, None]
    return numbers(np.array(values, float)[:, None, None, None], days=days, valid=seen)


def test_a_straight_line_has_no_noise_whatever_its_dates() -> None:
    days = np.array([0, 1, 3, 17, 20, 40, 43], float)
    slopes = np.arange(12).reshape(1, 3, 2, 2) - 5
    found = numbers(0.3 * slopes * days[:, None, None, None] + slopes, days=days)
    assert found.noise == pytest.approx(0, abs=1e-5)
    assert found.sums.noise.count == 5 * 4


@pytest.mark.parametrize(("days", "factor"), [([0, 10, 20], 1.5), ([0, 2, 20], 1 + 0.01 + 0.81)])
def test_white_noise_gives_its_deviation_times_what_the_dates_make_of_it(
    days: list[float], factor: float
) -> None:
    rng = np.random.default_rng(1)
    found = numbers(0.2 * rng.standard_normal((3, 4, 150, 150)), days=days)
    assert found.noise == pytest.approx(0.2 * np.sqrt(factor), rel=0.01)
    assert found.spread == pytest.approx(0.2, rel=0.01)
    assert found.noise_to_spread == pytest.approx(np.sqrt(factor), rel=0.01)


def test_dates_weigh_by_their_distance_and_cloudy_ones_are_skipped() -> None:
    assert series([0, 5, 8], [0, 10, 40]).noise == pytest.approx(5 - 2)
    known = series([0, 5, 99, 8], [0, 10, 15, 40], [True, True, False, True])
    assert known.noise == pytest.approx(3) and known.sums.noise.count == 1
    # The line from 5 to 0 passes 1.25 after 30 of 40 days.
    two = series([0, 5, 8, 0], [0, 10, 40, 50])
    assert two.noise == pytest.approx(np.sqrt((3**2 + 6.75**2) / 2))


def test_neighbours_far_apart_in_time_tell_no_noise() -> None:
    assert series([0, 5, 8], [0, 10, MAX_DAYS]).sums.noise.count == 1
    assert series([0, 5, 8], [0, 10, MAX_DAYS + 1]).noise is None
    assert series([0, 5], [0, 10]).noise is None


def blurred(values: np.ndarray, width: int) -> np.ndarray:
    """The mean over some pixels of a row."""
    padded = np.pad(values, ((0, 0), (width // 2, width // 2)), mode="edge")
    return np.mean([padded[:, i : i + values.shape[1]] for i in range(width)], axis=0)


@pytest.mark.parametrize(
    ("picture", "edge"),
    [
        (HALVES, 1),
        (blurred(HALVES, 3), 1 / 3),
        (blurred(HALVES, 5), 1 / 5),
        (np.tile(np.arange(12.0), (12, 1)), 1 / 5),
    ],
    ids=["sharp", "three pixels", "five pixels", "slope"],
)
def test_an_edge_is_as_sharp_as_computed_by_hand(picture: np.ndarray, edge: float) -> None:
    # Two features of differing size on two dates; the rows of the one are the columns of the next.
    values = np.stack([picture, -3.0 * picture])[None].repeat(2, axis=0)
    for turned, cover in ((values, HALVES), (values.swapaxes(2, 3), HALVES.T)):
        found = numbers(turned, cover=cover)
        assert found.edge_norms == pytest.approx(edge, rel=1e-5)
        assert found.edge_share == pytest.approx(edge, rel=1e-5)
        assert found.sums.edges.steps.count == 2 * 12


def test_noise_alone_has_sizes_of_one_no_share_and_no_contrast() -> None:
    rng = np.random.default_rng(2)
    cover = np.tile(HALVES, (10, 10))
    found = numbers(rng.standard_normal((2, 5, 120, 120)), cover=cover)
    assert found.edge_norms == pytest.approx(1, abs=0.02)
    assert found.edge_share == pytest.approx(0, abs=0.02)
    assert found.contrast == pytest.approx(1, abs=0.02)
    assert found.inner_step == pytest.approx(np.sqrt(2), rel=0.02)


def test_contrast_and_steps_are_as_computed_by_hand() -> None:
    # Stripes of 0 and 1 within the classes, which lie 4 apart: 1 to 4 at the boundary.
    picture = 4.0 * HALVES + np.arange(12) % 2
    found = numbers(picture[None, None], cover=HALVES)
    rows, columns = 12 * 10, 11 * 12
    assert found.sums.inner.count == rows + columns
    assert found.inner_step == pytest.approx(np.sqrt(rows / (rows + columns)))
    assert found.contrast == pytest.approx(3 / found.inner_step)
    assert found.step == pytest.approx(np.sqrt((rows + 12 * 9) / (rows + columns + 12)))
    unknown = numbers(picture[None, None])
    assert unknown.step == found.step
    assert {unknown.inner_step, unknown.contrast, unknown.edge_norms, unknown.edge_share} == {None}


def test_a_boundary_has_three_pixels_of_one_class_on_each_side() -> None:
    assert REACH == 3
    row = np.array([[0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3]])
    assert np.flatnonzero(boundaries(row)).tolist() == [0]
    assert np.flatnonzero(boundaries(row[:, ::-1])).tolist() == [7]
    assert boundaries(np.zeros((4, 5), int)).shape == (4, 0)
    assert not boundaries(np.array([[0, 0, 0, 1, 0, 1, 1]])).any()


@given(st.integers(0, 1000))
@settings(max_examples=25)
def test_what_stands_at_invalid_pixels_has_no_influence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, valid = rng.normal(size=(6, 3, 12, 12)), rng.random((6, 12, 12)) < 0.7
    hidden = np.where(valid[:, None], values, np.nan)
    days = rng.uniform(1, 12, 6).cumsum()
    found, other = (
        numbers(each, valid=valid, days=days, cover=HALVES) for each in (values, hidden)
    )
    assert other.sums.numbers() == found.sums.numbers()
    assert found.sums.pixels == valid.sum()
    alone = np.zeros_like(valid)
    alone[:, ::2, ::2] = True
    assert numbers(values, valid=alone, days=days).step is None


def test_the_sums_of_two_cubes_are_those_of_one_beside_the_other_date_by_date() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(6, 2, 12, 12))
    days = np.array([0, 5, 10, 100, 105, 110], float)
    whole = numbers(values, days=days, cover=HALVES)
    first, second = (numbers(values[part], days=days[part], cover=HALVES) for part in np.s_[:3, 3:])
    both = (first.sums + second.sums).numbers()
    assert both == pytest.approx(whole.sums.numbers(), rel=1e-6)


def made(rng: np.random.Generator, size: int = 12) -> CubeFeatures:
    """Bands and embeddings that are related, some hidden, the last band sometimes absent."""
    embedding = rng.normal(size=(7, 2, size, size)) @ np.linalg.qr(rng.normal(size=(size, size)))[0]
    mixed = np.einsum("bf,tfyx->tbyx", rng.normal(size=(5, 2)), embedding)
    bands = mixed + 0.3 * rng.normal(size=mixed.shape)
    hidden = rng.random((7, size, size)) < 0.2
    bands, embedding = (
        np.where(hidden[:, None], np.nan, part).astype(np.float32) for part in (bands, embedding)
    )
    bands[:, -1, :3] = np.nan
    return CubeFeatures(np.datetime64("2021-01-01") + np.arange(7) * 9, bands, embedding)


def samples_of(seen: CubeFeatures) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.moveaxis(part, 1, -1)[seen.valid] for part in (seen.bands, seen.embedding))


def scores(basis: Basis, seen: CubeFeatures) -> dict[str, dict[str, float | None]]:
    return {
        name: measure(values, seen.valid, seen.days, HALVES).numbers()
        for name, values in basis.sets(seen)
    }


@given(
    st.integers(0, 1000),
    st.lists(st.sampled_from([-8.0, -0.25, 0.5, 1.0, 4.0]), min_size=7, max_size=7),
    st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), min_size=7, max_size=7),
)
@settings(max_examples=25, deadline=None)
def test_neither_unit_nor_offset_of_a_feature_matters(
    seed: int, factors: list[float], offsets: list[float]
) -> None:
    seen = made(np.random.default_rng(seed))
    factor, offset = (np.array(part, np.float32)[:, None, None] for part in (factors, offsets))
    other = CubeFeatures(
        seen.times, seen.bands * factor[:5] + offset[:5], seen.embedding * factor[5:] + offset[5:]
    )
    before, after = (scores(Basis.fit(*samples_of(each)), each) for each in (seen, other))
    assert list(before) == ["spectrum", "pca_2", "embedding"] == list(after)
    for name in before:
        assert after[name] == pytest.approx(before[name], rel=2e-3, abs=1e-4)


def test_components_agree_with_scikit_learn_and_have_unit_variance() -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    seen = made(np.random.default_rng(4), 40)
    bands, embedding = samples_of(seen)
    bands = bands[np.isfinite(bands).all(axis=1)]
    basis = Basis.fit(bands, embedding[: len(bands)])
    assert basis.components is not None
    scaler = StandardScaler().fit(bands)
    other = PCA(2, whiten=True).fit_transform(scaler.transform(bands))
    mine = ((bands - basis.bands.mean) / basis.bands.deviation) @ basis.components.T
    np.testing.assert_allclose(np.abs(np.sum(mine * other, 0)) / len(mine), 1, rtol=1e-3)
    np.testing.assert_allclose(mine.std(axis=0), 1, rtol=1e-3)
    assert Basis.fit(bands[:, :2], embedding[: len(bands)]).components is None


def test_what_is_absent_has_the_mean_and_what_is_constant_keeps_its_unit() -> None:
    samples = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]])
    scaling = Scaling.fit(samples)
    np.testing.assert_allclose(scaling.mean, [2, 5])
    np.testing.assert_allclose(scaling.deviation, [1, 1])
    shown = scaling.apply(np.array([4.0, np.nan], np.float32)[:, None, None])
    np.testing.assert_allclose(shown[:, 0, 0], [2, 0])


SIZE = 24
COVER = np.kron([[0, 1], [2, 0]], np.ones((12, 12), int))


def product(folder: Path, name: str, *, factor: float = 1.0, model: str = "m") -> None:
    """Cubes of both sensors and embeddings of one place: fields, and noise in all of it."""
    rng = np.random.default_rng(sum(map(ord, name)))
    grid = Grid(32631, 600000, 5600040, 10, SIZE, SIZE)
    times = np.datetime64("2022-01-01T10:30", "ns") + np.arange(9) * np.timedelta64(12, "D")
    mask = np.where(rng.random((9, SIZE, SIZE)) < 0.2, THICK_CLOUD, CLEAR).astype(np.uint8)
    fields = np.array([0.1, 0.2, 0.3])[COVER]

    def cube(sensor: str, bands: tuple[str, ...], mask: np.ndarray, days: int, kind: str) -> None:
        noise = rng.normal(size=(len(mask), len(bands), SIZE, SIZE))
        made = make_cube(
            values=(fields + 0.02 * noise).clip(0.001).astype(np.float32),
            mask=mask,
            times=times[: len(mask)] + np.timedelta64(days, "D"),
            bands=bands,
            grid=grid,
            quantity=kind,
            frames={},
            attributes={"cube": name, "site": name, "land_cover": "x", "sensor": sensor},
        )
        write_cube(made, folder / sensor / f"{name}.zarr.zip")

    cube("optical", ("B02", "B03", "B04"), mask, 0, "reflectance")
    cube("radar", ("vv",), np.full_like(mask[:5], CLEAR), 1, "backscatter")
    template = xr.Dataset(
        coords={"time": ("time", times), "feature": ("feature", np.arange(2))},
        attrs={"cube": name, "land_cover": "x", "model_digest": model},
    )
    with xr.open_zarr(f"zip::{folder / 'optical' / name}.zarr.zip", consolidated=False) as stored:
        template = template.assign_coords(
            {key: stored[key].load().variable for key in ("y", "x", "spatial_ref")}
        )
    layout = Layout(template, (), "optical", "1", "float32", 64)
    store = TileStore(folder / "state" / name, {"model_digest": model}, layout)
    values = factor * (10 * fields + rng.normal(size=(9, 2, SIZE, SIZE)))
    values = np.where((mask != CLEAR)[:, None], np.nan, values).astype(np.float32)
    (tile,) = store.pending()
    quality = values[:, 0]
    layers = {"embedding": values, "context_share": quality, "reconstruction_error": quality}
    store.write(tile, layers)
    store.finish(folder / "embeddings" / name, {})


SPLIT = {"a": "training", "b": "training", "c": "validation", "d": "test", "e": "unused"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maps")
    for name in SPLIT:
        product(root, name)
    write_csv(
        root / "split.csv",
        [
            {"cube": name, "site": name, "land_cover": "x", "split": split}
            for name, split in SPLIT.items()
        ],
    )
    np.savez_compressed(
        root / "truth.npz",
        time=["2022-01-01T10:30:00+00:00"],
        leaf_area=np.zeros((1, SIZE, SIZE), np.float16),
        cover=COVER.astype(np.int8),
    )
    return root


def inputs(root: Path, names: str = "abcde", mapped: str = "cd") -> dict[str, Any]:
    return {
        "embeddings": {name: root / "embeddings" / name for name in names},
        "cubes": {
            sensor: {name: root / sensor / f"{name}.zarr.zip" for name in names}
            for sensor in ("optical", "radar")
        },
        "truth": dict.fromkeys(mapped, root / "truth.npz"),
    }


def assessed(root: Path, output: Path, **changes: Any) -> dict[str, Any]:
    given = inputs(root) | {"split_table": root / "split.csv", "seed": 1} | changes
    assess_maps(**given, output=output)
    return json.loads(output.read_text())


def test_a_run_is_measured_by_split_and_set_of_features(world: Path, tmp_path: Path) -> None:
    found = assessed(world, tmp_path / "maps.json")
    assert found["fit_cubes"] == 2 and found["model_digest"] == "m" and found["left_out"] == []
    assert list(found["splits"]) == ["validation", "test"] and set(found["cubes"]) == {"c", "d"}
    for part in found["splits"].values():
        assert {name: one["features"] for name, one in part["sets"].items()} == {
            "spectrum": 4,
            "pca_2": 2,
            "embedding": 2,
        }
        assert part["cubes"] == part["mapped_cubes"] == 1
        assert 0 < part["boundaries"] < 9 * 48 and part["pairs"] > part["inner_pairs"] > 0
        # Independent noise of three evenly spaced dates, of an embedding whose fields stand out.
        told = part["sets"]["embedding"]
        assert told["noise"] == pytest.approx(told["inner_step"] * np.sqrt(1.5 / 2), rel=0.1)
        assert told["contrast"] > 1.2
    again = assessed(world, tmp_path / "again.json")
    assert again == found


def test_features_are_standardised_by_training_pixels_alone(world: Path, tmp_path: Path) -> None:
    found = assessed(world, tmp_path / "maps.json")
    for name, split in SPLIT.items():
        product(tmp_path, name, factor=1.0 if split == "training" else 3.0)
    given = inputs(tmp_path) | {"truth": inputs(world)["truth"]}
    other = assessed(world, tmp_path / "other.json", **given)
    for split in found["splits"]:
        one, three = (each["splits"][split]["sets"] for each in (found, other))
        assert three["spectrum"] == one["spectrum"]
        assert three["embedding"]["noise"] == pytest.approx(3 * one["embedding"]["noise"])
        same = ("noise_to_spread", "contrast", "edge_norms", "edge_share")
        for kind in same:
            assert three["embedding"][kind] == pytest.approx(one["embedding"][kind], rel=1e-4)


def test_other_sensors_are_seen_on_their_closest_date_or_not_at_all(world: Path) -> None:
    radar = world / "radar" / "c.zarr.zip"
    seen = observe(
        world / "embeddings" / "c", {"optical": world / "optical" / "c.zarr.zip", "radar": radar}
    )
    stored = xr.open_zarr(f"zip::{radar}", consolidated=False)["backscatter"].values
    assert seen.bands.shape == (9, 4, SIZE, SIZE)
    for date, closest in ((0, 0), (3, 3), (4, 4), (8, 4)):
        np.testing.assert_array_equal(seen.bands[date, 3], stored[closest, 0])
    optical = {"optical": world / "optical" / "c.zarr.zip", "radar": 1}
    assert np.isnan(observe(world / "embeddings" / "c", optical).bands[:, 3]).all()
    assert seen.days[1] - seen.days[0] == 12


def test_a_cube_without_a_sensor_counts_with_its_mean(world: Path, tmp_path: Path) -> None:
    cubes = inputs(world)["cubes"]
    del cubes["radar"]["d"]
    found = assessed(world, tmp_path / "maps.json", cubes=cubes)
    whole = assessed(world, tmp_path / "whole.json")
    assert found["splits"]["validation"] == whole["splits"]["validation"]
    lone, both = (each["splits"]["test"]["sets"] for each in (found, whole))
    assert lone["embedding"] == both["embedding"]
    assert lone["spectrum"]["spread"] < both["spectrum"]["spread"]


def test_a_cube_without_a_class_map_is_left_out_of_the_edges_alone(
    world: Path, tmp_path: Path
) -> None:
    found = assessed(world, tmp_path / "maps.json", truth=inputs(world, mapped="c")["truth"])
    assert found["left_out"] == [
        {"what": "d", "of": "edges", "why": "no map tells the classes of its pixels"}
    ]
    told = found["splits"]["test"]["sets"]["embedding"]
    assert told["edge_norms"] is None and told["inner_step"] is None and told["step"] > 0
    assert found["splits"]["test"]["mapped_cubes"] == 0
    assert found["splits"]["validation"]["sets"]["embedding"]["edge_share"] > 0


def test_splits_without_embeddings_are_left_out(world: Path, tmp_path: Path) -> None:
    found = assessed(world, tmp_path / "maps.json", **inputs(world, "abd", "d"))
    assert list(found["splits"]) == ["test"]
    assert [one["what"] for one in found["left_out"]] == ["validation"]
    found = assessed(world, tmp_path / "maps.json", **inputs(world, "d", "d"))
    assert found["splits"] == {} and len(found["left_out"]) == 2
    nothing = {"embeddings": {}, "cubes": {"optical": {}, "radar": {}}, "truth": {}}
    found = assessed(world, tmp_path / "maps.json", **nothing)
    assert found["splits"] == {} and found["model_digest"] is None
    plot_maps(evaluation=tmp_path / "maps.json", **nothing, rgb=RGB, output=tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert map_tables(found, None)[0].rows == ()


def test_a_foreign_truth_or_model_is_refused(world: Path, tmp_path: Path) -> None:
    np.savez_compressed(
        tmp_path / "truth.npz",
        time=["2022-01-01T10:30:00+00:00"],
        leaf_area=np.zeros((1, 9, 9), np.float16),
        cover=np.zeros((9, 9), np.int8),
    )
    with pytest.raises(UserError, match=r"cube c: .* another grid"):
        assessed(world, tmp_path / "maps.json", truth={"c": tmp_path / "truth.npz"})
    product(tmp_path, "d", model="another")
    given = inputs(world)
    given["embeddings"]["d"] = tmp_path / "embeddings" / "d"
    with pytest.raises(UserError, match="d come from another model than those of a"):
        assessed(world, tmp_path / "maps.json", **given)
    assert not (tmp_path / "maps.json").exists()


@pytest.mark.parametrize("mapped", ["cd", ""])
def test_the_figure_is_drawn_alike_every_time(world: Path, tmp_path: Path, mapped: str) -> None:
    given = inputs(world, mapped=mapped)
    assessed(world, tmp_path / "maps.json", **given)
    for output in ("one.png", "two.png"):
        plot_maps(evaluation=tmp_path / "maps.json", **given, rgb=RGB, output=tmp_path / output)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_tables_tell_the_maps_beside_the_probes(world: Path, tmp_path: Path) -> None:
    maps = assessed(world, tmp_path / "maps.json", truth=inputs(world, mapped="d")["truth"])
    scores = {"spectrum": 0.81, "embedding": 0.5}
    area = {"metric": "r2", "reason": None, "scores": scores, "nearest": {"embedding": 0.625}}
    other = area | {"reason": "too few"}
    targets = {"leaf_area": area, "land_cover": other, "next_change": area}
    probes = {"splits": {"test": {"targets": targets}}}
    measured, counted, left_out = map_tables(maps, probes)
    assert measured.columns[-2:] == ("leaf area, linear (R²)", "leaf area, k nearest (R²)")
    rows = {row[:2]: row[2:] for row in measured.rows}
    assert rows["test", "embedding (2)"][-2:] == ("0.500", "0.625")
    assert rows["test", "bands (4)"][-2:] == ("0.810", "–")
    assert rows["validation", "bands (4)"][-2:] == ("–", "–")
    assert len(rows) == 6 and all(len(row) == len(measured.columns) for row in measured.rows)
    assert sum(span for _, span in measured.groups) == len(measured.columns)
    assert [row[:3] for row in counted.rows] == [("validation", "1", "0"), ("test", "1", "1")]
    assert [row[:2] for row in left_out.rows] == [("c", "edges")]
    alone, *_ = map_tables(maps, None)
    assert len(alone.columns) == len(measured.columns) - 2
    assert sum(span for _, span in alone.groups) == len(alone.columns)


def test_an_absent_evaluation_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json"):
        plot_maps(
            evaluation=tmp_path / "none.json",
            embeddings={},
            cubes={},
            truth={},
            rgb=RGB,
            output=tmp_path / "x.png",
        )
