"""The figures of a run: what they choose to show, and that they come out whole."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_cubes import write_made_cube, write_split
from numpy.typing import NDArray

from pipeline_lib.config import SENTINEL_1, SENTINEL_2
from pipeline_lib.cubes import CLEAR, NO_DATA, THICK_CLOUD, CubeRequest, read_cube
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_csv
from pipeline_lib.report.curves import plot_curves, shown_metrics
from pipeline_lib.report.optical import (
    plot_optical_strip,
    spread_dates,
    stretch_limit,
    true_colour,
)
from pipeline_lib.report.radar import decibel, fullest_run, orbit_states, plot_radar_strip
from pipeline_lib.report.site_map import plot_sites, site_classes
from pipeline_lib.report.windows import cumulative, plot_windows

RGB = ("B04", "B03", "B02")
OPTICAL = SENTINEL_2.model_copy(update={"bands": (*RGB, "B08")})
SIZE = 12
LIMIT_BYTES = 400_000


def picture(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    # A report embeds its figures.
    assert path.stat().st_size <= LIMIT_BYTES
    return np.asarray(Image.open(path).convert("RGB"))


def optical_cube(path: Path, *, frames: int = 24, c_factor: float | None = 0.5) -> Path:
    rng = np.random.default_rng(1)
    values = rng.uniform(0.02, 0.3, (frames, 4, SIZE, SIZE))
    mask = rng.choice([CLEAR, THICK_CLOUD], size=(frames, SIZE, SIZE))
    values[0], mask[0] = np.nan, NO_DATA
    return write_made_cube(path, values, mask, OPTICAL, days=15, c_factor=c_factor)


def radar_cube(path: Path, *, frames: int, known: bool) -> Path:
    """A cube whose orbits and unfiltered values are known, or not."""
    values = np.random.default_rng(2).gamma(4, 0.02, (frames, 2, SIZE, SIZE))
    states = np.where(np.arange(frames) % 2, "ascending", "descending")
    return write_made_cube(
        path,
        values,
        np.full((frames, SIZE, SIZE), CLEAR),
        SENTINEL_1,
        unfiltered=(values * 1.1).astype(np.float32) if known else None,
        frames={"orbit_state": states} if known else {},
    )


def site_table(path: Path, classes: dict[str, str]) -> Path:
    rows = [
        CubeRequest(
            f"{site}-{letter}", site, kind, 5.0 + i, 45.0 + i, date(2018, 1, 1), date(2018, 12, 31)
        ).to_row()
        for i, (site, kind) in enumerate(classes.items())
        for letter in "ab"
    ]
    write_csv(path, rows)
    return path


def test_a_site_counts_once_a_tower_is_no_site_and_classes_are_known(tmp_path: Path) -> None:
    table = site_table(
        tmp_path / "sites.csv",
        {"site-000": "urban", "site-001": "grassland", "FR-Hes": "others"},
    )
    found = site_classes(table, ("urban", "grassland"), ["FR-Hes"])
    assert list(found["site"]) == ["site-000", "site-001"]
    assert list(found["land_cover"]) == ["urban", "grassland"]
    with pytest.raises(UserError, match="'others' is not among"):
        site_classes(table, ("urban", "grassland"))


def test_the_site_map_is_drawn_with_and_without_towers(tmp_path: Path) -> None:
    table = site_table(tmp_path / "sites.csv", {"site-000": "urban", "site-001": "grassland"})
    outputs = []
    for towers in ({}, {"FR-Hes": (7.06, 48.67)}):
        output = tmp_path / f"{len(towers)}.png"
        plot_sites(
            sites=table,
            fractions={"urban": 0.5, "grassland": 0.5},
            bounds=(0, 42, 30, 62),
            towers=towers,
            output=output,
            planned=not towers,
        )
        outputs.append(picture(output))
    assert not np.array_equal(*(np.resize(image, outputs[0].shape) for image in outputs))


@given(
    clear=st.lists(st.floats(0, 1), min_size=1, max_size=60),
    count=st.integers(1, 8),
    gaps=st.randoms(use_true_random=False),
)
def test_dates_are_spread_over_the_record(clear: list[float], count: int, gaps: object) -> None:
    steps = [gaps.randint(1, 40) for _ in clear]  # type: ignore[attr-defined]
    times = np.datetime64("2018-01-01", "ns") + np.cumsum(steps).astype("timedelta64[D]")
    chosen = spread_dates(times, np.asarray(clear), count)
    assert 1 <= len(chosen) <= count
    assert np.all(np.diff(chosen) > 0)
    assert chosen[0] < max(1, len(times)) and chosen[-1] < len(times)


def test_dates_are_clear_but_every_third_is_half_cloudy() -> None:
    times = np.datetime64("2018-01-01", "ns") + 10 * np.arange(36).astype("timedelta64[D]")
    clear = np.tile([0.1, 0.5, 1.0], 12)
    assert list(clear[spread_dates(times, clear, 6)]) == [1, 0.5, 1, 1, 0.5, 1]


def test_the_stretch_follows_clear_pixels_alone() -> None:
    values = np.full((1, 3, 4, 4), 0.2, np.float32)
    mask = np.zeros((1, 4, 4), np.uint8)
    values[:, :, 0], mask[:, 0] = 0.9, THICK_CLOUD
    assert stretch_limit(values, mask) == pytest.approx(0.2)
    assert stretch_limit(values, np.full_like(mask, NO_DATA)) == 1.0


def test_missing_pixels_are_grey_and_clear_ones_have_their_colour() -> None:
    values = np.zeros((3, 1, 2), np.float32)
    values[:, 0, 0] = (0.3, 0.0, 0.6)
    values[1, 0, 1] = np.nan
    colours = true_colour(values, 0.3)
    assert colours[0, 0] == pytest.approx([1, 0, 1])
    assert len(set(colours[0, 1])) == 1 and 0.8 < colours[0, 1, 0] < 1


@pytest.mark.parametrize(("frames", "c_factor"), [(24, 0.5), (24, None), (1, 0.5)])
def test_the_optical_strip_has_a_row_more_with_a_correction(
    tmp_path: Path, frames: int, c_factor: float | None
) -> None:
    cube = optical_cube(tmp_path / "cube.zarr.zip", frames=frames, c_factor=c_factor)
    plot_optical_strip(cube=cube, rgb=RGB, output=tmp_path / "strip.png")
    height, width = picture(tmp_path / "strip.png").shape[:2]
    assert (height / width > 0.5) == (c_factor is not None)


def test_a_picture_of_a_band_that_is_not_there_is_refused(tmp_path: Path) -> None:
    cube = optical_cube(tmp_path / "cube.zarr.zip", frames=2)
    with pytest.raises(UserError, match="B11"):
        plot_optical_strip(cube=cube, rgb=("B11", "B04", "B03"), output=tmp_path / "strip.png")
    assert not (tmp_path / "strip.png").exists()


def test_decibel() -> None:
    power = np.array([1.0, 0.1, 0.0, -1.0, np.nan], np.float32)
    assert decibel(power) == pytest.approx([0, -10, np.nan, np.nan, np.nan], nan_ok=True)


def test_the_fullest_run_lies_nearest_to_the_middle() -> None:
    share = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0.5])
    assert fullest_run(share, 3) == 4
    assert fullest_run(np.ones(11), 3) == 4
    assert fullest_run(np.ones(2), 6) == 0


@pytest.mark.parametrize(("frames", "filtered"), [(9, True), (9, False), (1, True)])
def test_the_radar_strip_shows_what_the_cube_has(
    tmp_path: Path, frames: int, filtered: bool
) -> None:
    cube = radar_cube(tmp_path / "cube.zarr.zip", frames=frames, known=filtered)
    states = orbit_states(read_cube(cube)).tolist()
    known = ["descending", "ascending"] if filtered else ["orbit unknown"] * 2
    assert states[:2] == known[:frames]
    plot_radar_strip(cube=cube, output=tmp_path / "strip.png")
    height, width = picture(tmp_path / "strip.png").shape[:2]
    assert (height / width > 0.45) == filtered
    assert b"tEXt" not in (tmp_path / "strip.png").read_bytes()


def curves_table(path: Path, columns: tuple[str, ...]) -> Path:
    rows = [
        {"epoch": e, "step": e, "split": split, "loss": 1.0} | dict.fromkeys(columns, 0.1 / (e + 1))
        for e in range(3)
        for split in ("train", "validation")
    ]
    write_csv(path, rows)
    return path


def test_metrics_with_values_are_found_with_and_without_a_sensor_before_them() -> None:
    columns = {"centre_mae": 2, "sentinel-2_centre_mae_scaled": 3, "sentinel-1/sam": 4}
    table = pd.DataFrame([{"epoch": 0, "split": "train", "loss": 1, "sam": np.nan, **columns}])
    assert shown_metrics(table, Path("x")) == [
        ("sentinel-2", "centre_mae_scaled", "sentinel-2_centre_mae_scaled"),
        ("sentinel-1", "sam", "sentinel-1/sam"),
    ]
    assert shown_metrics(table[["epoch", "split", "centre_mae"]], Path("x")) == [
        ("", "centre_mae", "centre_mae")
    ]


def test_curves_of_encoders_and_fusion_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    encoder = ("centre_mae", "centre_mae_scaled", "context_mae", "sam", "ssim_loss")
    curves = {
        "sentinel-2": curves_table(tmp_path / "s2.csv", encoder),
        "fusion": curves_table(
            tmp_path / "fusion.csv", tuple(f"sentinel-{n}.{m}" for n in (1, 2) for m in encoder)
        ),
    }
    plot_curves(curves=curves, output=tmp_path / "1.png")
    plot_curves(curves=curves, output=tmp_path / "2.png")
    assert picture(tmp_path / "1.png").size
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


@pytest.mark.parametrize("columns", [("epoch", "split", "loss"), ("loss", "centre_mae")])
def test_curves_without_metrics_or_epochs_are_refused(
    tmp_path: Path, columns: tuple[str, ...]
) -> None:
    write_csv(tmp_path / "curves.csv", [dict.fromkeys(columns, 1)])
    with pytest.raises(UserError, match=r"curves\.csv"):
        plot_curves(curves={"sentinel-1": tmp_path / "curves.csv"}, output=tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.real
def test_real_reflectance_has_the_colours_of_fields(shared_data: Path, tmp_path: Path) -> None:
    import xarray as xr

    source = shared_data / "s1s2" / "tervuren_BE_2022_dekads_S1S2_10m.nc"
    with xr.open_dataset(source) as real:
        bands = [real[f"S2-L2A-{band}"].values for band in RGB]
        days = real["t"].values
    values = np.stack(bands, axis=1) / 1e4
    values[values < 0] = np.nan
    mask = np.where(np.isfinite(values).all(axis=1), CLEAR, NO_DATA).astype(np.uint8)
    chosen = spread_dates(days, (mask == CLEAR).mean(axis=(1, 2)), 6)
    assert len(chosen) == 6
    shares = (mask[chosen] == CLEAR).mean(axis=(1, 2))
    assert np.all(np.delete(shares, [1, 4]) > 0.95) and np.all(shares[[1, 4]] < 0.95)
    limit = stretch_limit(values[chosen], mask[chosen])
    assert 0.15 < limit < 0.35
    colours = true_colour(values[chosen], limit)[mask[chosen] == CLEAR]
    assert 0.2 < np.median(colours) < 0.8


def test_spans_of_windows_count_by_the_clear_pixels_of_their_centres() -> None:
    spans, share = cumulative(np.array([90, 30, 90, 60]), np.array([1, 2, 3, 4]))
    assert spans.tolist() == [0, 30, 60, 90, 90]
    np.testing.assert_allclose(share, [0, 0.2, 0.6, 0.7, 1.0])


def test_windows_of_sensors_are_drawn_also_without_held_out_cubes(tmp_path: Path) -> None:
    cubes = {
        "sentinel-2": {"a": optical_cube(tmp_path / "sentinel-2" / "a.zarr.zip")},
        "sentinel-1": {
            "b": radar_cube(tmp_path / "sentinel-1" / "b.zarr.zip", frames=9, known=True)
        },
    }
    table = write_split(tmp_path / "split.csv", {"a": "training", "b": "test"}, "crops")
    windows = {name: {"span_days": 195, "rolling_mean": 3} for name in cubes}
    settings = {"split_table": table, "windows": windows, "frames": 11, "seed": 1}
    pictures = []
    for name, embedded in (("whole", ["a", "b"]), ("again", ["a", "b"]), ("part", [])):
        output = tmp_path / f"{name}.png"
        plot_windows(cubes=cubes, embedded=embedded, output=output, **settings)
        pictures.append(picture(output))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
