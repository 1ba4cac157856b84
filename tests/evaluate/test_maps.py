"""Maps in numbers: values computed by hand, and a whole run that is standardised fairly."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from made_cubes import write_made_cube, write_made_embeddings, write_split, write_truth

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Sensor
from pipeline_lib.cubes import CLEAR, THICK_CLOUD
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.maps import (
    MAX_DAYS,
    MEASURED,
    REACH,
    CubeFeatures,
    FeatureSets,
    assess_maps,
    boundaries,
    measure,
    numbers,
)

HALVES = np.repeat([[0] * 6 + [1] * 6], 12, axis=0)
"""A class map with one straight boundary."""


def measured(
    values: np.ndarray, *, valid: Any = None, days: Any = None, cover: Any = None
) -> SimpleNamespace:
    """Numbers of values ``(time, y, x, feature)``, and how many squares were counted."""
    valid = np.ones(values.shape[:3], bool) if valid is None else valid
    days = 10.0 * np.arange(len(values)) if days is None else np.asarray(days, float)
    times = np.datetime64("2021-01-01") + (days * 86400).astype("timedelta64[s]")
    sums = measure(values.astype(np.float32), valid, times, cover)
    counts = dict(zip(MEASURED, sums[:, 0], strict=True))
    return SimpleNamespace(**numbers(sums), counts=counts, sums=sums)


def series(values: list[float], days: list[float], valid: list[bool] | None = None) -> Any:
    """Numbers of one pixel with one feature."""
    seen = None if valid is None else np.array(valid)[:, None, None]
    return measured(np.array(values, float)[:, None, None, None], days=days, valid=seen)


def test_a_straight_line_has_no_noise_whatever_its_dates() -> None:
    days = np.array([0, 1, 3, 17, 20, 40, 43], float)
    slopes = np.arange(12).reshape(1, 2, 2, 3) - 5
    found = measured(0.3 * slopes * days[:, None, None, None] + slopes, days=days)
    assert found.noise == pytest.approx(0, abs=1e-5)
    assert found.counts["noise"] == 5 * 4


@pytest.mark.parametrize(("days", "factor"), [([0, 10, 20], 1.5), ([0, 2, 20], 1 + 0.01 + 0.81)])
def test_white_noise_gives_its_deviation_times_what_the_dates_make_of_it(
    days: list[float], factor: float
) -> None:
    rng = np.random.default_rng(1)
    found = measured(0.2 * rng.standard_normal((3, 150, 150, 4)), days=days)
    assert found.noise == pytest.approx(0.2 * np.sqrt(factor), rel=0.01)
    assert found.step == pytest.approx(0.2 * np.sqrt(2), rel=0.01)


def test_dates_weigh_by_their_distance_and_cloudy_or_distant_ones_are_skipped() -> None:
    assert series([0, 5, 8], [0, 10, 40]).noise == pytest.approx(5 - 2)
    known = series([0, 5, 99, 8], [0, 10, 15, 40], [True, True, False, True])
    assert known.noise == pytest.approx(3) and known.counts["noise"] == 1
    # The line from 5 to 0 passes 1.25 after 30 of 40 days.
    two = series([0, 5, 8, 0], [0, 10, 40, 50])
    assert two.noise == pytest.approx(np.sqrt((3**2 + 6.75**2) / 2))
    assert series([0, 5, 8], [0, 10, MAX_DAYS]).counts["noise"] == 1
    assert series([0, 5, 8], [0, 10, MAX_DAYS + 1]).noise is None
    assert series([0, 5], [0, 10]).noise is None


def test_contrast_and_steps_are_as_computed_by_hand() -> None:
    # Stripes of 0 and 1 within the classes, which lie 4 apart: 1 to 4 at the boundary.
    picture = 4.0 * HALVES + np.arange(12) % 2
    for turned, cover in ((picture, HALVES), (picture.T, HALVES.T)):
        found = measured(turned[None, ..., None], cover=cover)
        rows, columns = 12 * 10, 11 * 12
        assert found.counts["step_within_field"] == rows + columns
        assert found.counts["boundary"] == 12
        assert found.step_within_field == pytest.approx(np.sqrt(rows / (rows + columns)))
        assert found.contrast == pytest.approx(3 / found.step_within_field)
        assert found.step == pytest.approx(np.sqrt((rows + 12 * 9) / (rows + columns + 12)))
    unknown = measured(turned[None, ..., None])
    assert unknown.step == found.step
    assert unknown.step_within_field is None and unknown.contrast is None


def test_noise_alone_has_no_contrast() -> None:
    rng = np.random.default_rng(2)
    found = measured(rng.standard_normal((2, 120, 120, 5)), cover=np.tile(HALVES, (10, 10)))
    assert found.contrast == pytest.approx(1, abs=0.02)


def test_a_boundary_has_three_pixels_of_one_class_on_each_side() -> None:
    assert REACH == 3
    row = np.array([[0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3]])
    assert np.flatnonzero(boundaries(row)).tolist() == [0]
    assert np.flatnonzero(boundaries(row[:, ::-1])).tolist() == [7]
    assert boundaries(np.zeros((4, 5), int)).shape == (4, 0)
    assert not boundaries(np.array([[0, 0, 0, 1, 0, 1, 1]])).any()


def test_values_of_invalid_pixels_have_no_influence() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        values, valid = rng.normal(size=(6, 12, 12, 3)), rng.random((6, 12, 12)) < 0.7
        hidden = np.where(valid[..., None], values, np.nan)
        days = rng.uniform(1, 12, 6).cumsum()
        found, other = (
            measured(each, valid=valid, days=days, cover=HALVES) for each in (values, hidden)
        )
        assert numbers(other.sums) == numbers(found.sums)


def made(rng: np.random.Generator) -> CubeFeatures:
    """Bands and embeddings that are related, some hidden, the last band sometimes absent."""
    embedding = rng.normal(size=(7, 12, 12, 2)) * [1, 3]
    bands = embedding @ rng.normal(size=(2, 5))
    bands = bands + 0.3 * rng.normal(size=bands.shape)
    hidden = rng.random((7, 12, 12, 1)) < 0.2
    bands, embedding = (
        np.where(hidden, np.nan, part).astype(np.float32) for part in (bands, embedding)
    )
    bands[:, :3, :, -1] = np.nan
    return CubeFeatures(np.datetime64("2021-01-01") + np.arange(7) * 9, bands, embedding)


def sets_of(cube: CubeFeatures) -> dict[str, np.ndarray]:
    fit = FeatureSets.fit(cube.bands[cube.valid], cube.embedding[cube.valid])
    return dict(fit.of(cube))


def test_features_are_standardised_and_absent_bands_have_the_mean() -> None:
    cube = made(np.random.default_rng(4))
    found = sets_of(cube)
    assert list(found) == ["bands", "pca_2", "embedding"]
    for name in ("bands", "embedding"):
        flat = found[name][cube.valid]
        np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(flat[:, :2].std(axis=0), 1, rtol=1e-4)
    assert (found["bands"][:, :3, :, -1][cube.valid[:, :3]] == 0).all()
    complete = np.isfinite(cube.bands).all(axis=-1)
    np.testing.assert_allclose(found["pca_2"][complete].std(axis=0), 1, rtol=1e-3)
    few = CubeFeatures(cube.times, cube.bands[..., :2], cube.embedding)
    assert list(sets_of(few)) == ["bands", "embedding"]


SIZE = 24
COVER = np.kron([[0, 1], [2, 0]], np.ones((12, 12), int))
SPLIT = {"a": "training", "b": "training", "c": "validation", "d": "test", "e": "unused"}
OPTICAL = SENTINEL_2.model_copy(update={"bands": ("B02", "B03", "B04")})
RADAR = SENTINEL_1.model_copy(update={"bands": ("vv",)})


def product(root: Path, name: str, *, factor: float = 1.0, model: str = "m") -> None:
    """Cubes of both sensors and embeddings of one place: fields, and noise in all of it."""
    rng = np.random.default_rng(ord(name))
    mask = np.where(rng.random((9, SIZE, SIZE)) < 0.2, THICK_CLOUD, CLEAR)
    fields = np.array([0.1, 0.2, 0.3])[COVER]

    def cube(folder: str, sensor: Sensor, mask: np.ndarray, start: str) -> Path:
        noise = rng.normal(size=(len(mask), len(sensor.bands), SIZE, SIZE))
        values = (fields + 0.02 * noise).clip(0.001)
        path = root / folder / f"{name}.zarr.zip"
        return write_made_cube(path, values, mask, sensor, start=start, days=12)

    optical = cube("optical", OPTICAL, mask, "2022-01-01")
    cube("radar", RADAR, np.full_like(mask[:5], CLEAR), "2022-01-02")
    values = factor * (10 * fields + rng.normal(size=(9, 2, SIZE, SIZE)))
    hidden = np.where((mask != CLEAR)[:, None], np.nan, values)
    write_made_embeddings(root, optical, hidden, model=model)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("maps")
    for name in SPLIT:
        product(root, name)
    write_split(root / "split.csv", SPLIT)
    truth(root / "truth.npz", COVER)
    return root


def truth(path: Path, cover: np.ndarray) -> None:
    write_truth(path, cover, np.zeros((1, *cover.shape)), ["2022-01-01T10:30:00+00:00"])


def inputs(root: Path, names: str = "abcde", mapped: str = "cd") -> dict[str, Any]:
    return {
        "embeddings": {name: root / "embeddings" / name / "manifest.json" for name in names},
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
    assert found["fit_cubes"] == 2 and found["model_digest"] == "m" and found["skipped"] == {}
    assert list(found["splits"]) == ["validation", "test"]
    for part in found["splits"].values():
        sizes = {name: one["features"] for name, one in part["sets"].items()}
        assert sizes == {"bands": 4, "pca_2": 2, "embedding": 2}
        assert part["cubes"] == part["mapped_cubes"] == 1
        counts = part["counts"]
        assert 0 < counts["boundary"] < 9 * 48
        assert counts["step"] > counts["step_within_field"] > 0
        # Independent noise of three evenly spaced dates, of an embedding whose fields stand out.
        own = part["sets"]["embedding"]
        assert own["noise"] == pytest.approx(own["step_within_field"] * np.sqrt(1.5 / 2), rel=0.1)
        assert own["contrast"] > 1.2
    assert assessed(world, tmp_path / "again.json") == found


def test_features_are_standardised_by_training_pixels_alone(world: Path, tmp_path: Path) -> None:
    found = assessed(world, tmp_path / "maps.json")
    for name, split in SPLIT.items():
        product(tmp_path, name, factor=1.0 if split == "training" else 3.0)
    given = inputs(tmp_path) | {"truth": inputs(world)["truth"]}
    other = assessed(world, tmp_path / "other.json", **given)
    for split in found["splits"]:
        one, three = (each["splits"][split]["sets"] for each in (found, other))
        assert three["bands"] == one["bands"]
        assert three["embedding"]["noise"] == pytest.approx(3 * one["embedding"]["noise"])
        contrast = one["embedding"]["contrast"]
        assert three["embedding"]["contrast"] == pytest.approx(contrast, rel=1e-4)


def test_other_sensors_are_seen_on_their_closest_date_or_not_at_all(world: Path) -> None:
    manifest = world / "embeddings" / "c" / "manifest.json"
    radar, optical = (world / name / "c.zarr.zip" for name in ("radar", "optical"))
    seen = CubeFeatures.read(manifest, {"optical": optical, "radar": radar})
    stored = xr.open_zarr(f"zip::{radar}", consolidated=False)["backscatter"].values
    assert seen.bands.shape == (9, SIZE, SIZE, 4)
    for date, closest in ((0, 0), (3, 3), (4, 4), (8, 4)):
        np.testing.assert_array_equal(seen.bands[date, ..., 3], stored[closest, 0])
    alone = CubeFeatures.read(manifest, {"optical": optical, "radar": 1})
    assert np.isnan(alone.bands[..., 3]).all()


def test_cubes_without_a_sensor_or_a_class_map_are_measured_all_the_same(
    world: Path, tmp_path: Path
) -> None:
    whole = assessed(world, tmp_path / "whole.json")["splits"]
    cubes = inputs(world)["cubes"]
    del cubes["radar"]["d"]
    lone = assessed(world, tmp_path / "maps.json", cubes=cubes)["splits"]
    assert lone["validation"] == whole["validation"]
    assert lone["test"]["sets"]["embedding"] == whole["test"]["sets"]["embedding"]
    assert lone["test"]["sets"]["bands"]["noise"] < whole["test"]["sets"]["bands"]["noise"]
    known = inputs(world, mapped="c")["truth"]
    unmapped = assessed(world, tmp_path / "maps.json", truth=known)["splits"]
    assert unmapped["validation"] == whole["validation"]
    own, known = unmapped["test"]["sets"]["embedding"], whole["test"]["sets"]["embedding"]
    assert own["contrast"] is None and own["step_within_field"] is None
    assert own["step"] == known["step"] and unmapped["test"]["mapped_cubes"] == 0


def test_splits_without_embeddings_are_skipped(world: Path, tmp_path: Path) -> None:
    found = assessed(world, tmp_path / "maps.json", **inputs(world, "abd", "d"))
    assert list(found["splits"]) == ["test"] and list(found["skipped"]) == ["validation"]
    found = assessed(world, tmp_path / "maps.json", **inputs(world, "d", "d"))
    assert found["splits"] == {} and len(found["skipped"]) == 2
    nothing = {"embeddings": {}, "cubes": {"optical": {}, "radar": {}}, "truth": {}}
    found = assessed(world, tmp_path / "maps.json", **nothing)
    assert found["splits"] == {} and found["model_digest"] is None


def test_a_foreign_truth_or_model_is_an_error(world: Path, tmp_path: Path) -> None:
    truth(tmp_path / "truth.npz", COVER[:9, :9])
    with pytest.raises(UserError, match=r"cube c: .* another grid"):
        assessed(world, tmp_path / "maps.json", truth={"c": tmp_path / "truth.npz"})
    product(tmp_path, "d", model="another")
    given = inputs(world)
    given["embeddings"]["d"] = tmp_path / "embeddings" / "d" / "manifest.json"
    with pytest.raises(UserError, match="d come from another model than those of a"):
        assessed(world, tmp_path / "maps.json", **given)
    assert not (tmp_path / "maps.json").exists()
