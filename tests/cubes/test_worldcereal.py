"""Real windows of WorldCereal, whose bands lie in files of 10 and 20 m, against plain xarray."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipeline_lib.config.check import check
from pipeline_lib.cubes import CLEAR, ingest_cube, read_cube


def stored(path: Path, variable: str) -> xr.DataArray:
    """A variable as it lies in a file, by day."""
    with xr.open_dataset(path, engine="h5netcdf", mask_and_scale=False) as source:
        return source[variable].rename(timestamp="time").load()


def on_day(array: xr.DataArray, day: np.datetime64) -> xr.DataArray:
    return array[array["time"].values.astype("M8[D]") == day.astype("M8[D]")]


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize(
    ("config", "cube", "shape", "radar_dates", "dates", "clear"),
    [
        # Of 118, 146 and 136 frames; where min_clear is 0, a few more are kept.
        ("config.yaml", "belgium-2018", (40, 64), 159, 75, 0.7827),
        ("worldcereal.yaml", "belgium-2018", (32, 32), 159, 71, 0.8132),
        ("worldcereal.yaml", "belgium-2019", (32, 32), 157, 92, 0.7691),
        ("worldcereal.yaml", "tanzania-2020", (32, 32), 60, 83, 0.7271),
    ],
)
def test_windows_in_several_files(
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    cube: str,
    shape: tuple[int, int],
    radar_dates: int,
    dates: int,
    clear: float,
) -> None:
    monkeypatch.chdir(project_root)
    content = check([Path("tests/real") / config])
    own, made = content.own_cubes[cube], {}
    for name in ("sentinel-1", "sentinel-2"):
        output = tmp_path / f"{name}.zarr.zip"
        ingest_cube(
            name=cube,
            sensor_name=name,
            sensor=content.sensors[name].source(),
            own=own,
            resolution_m=content.cube.resolution_m,
            config_digest="",
            output=output,
        )
        made[name] = read_cube(output)
    radar, optical = made["sentinel-1"], made["sentinel-2"]
    for side in ("x", "y", "spatial_ref"):
        xr.testing.assert_identical(radar[side], optical[side])
    assert (radar.sizes["y"], radar.sizes["x"]) == shape
    assert radar.sizes["time"] == radar_dates and (radar["mask"] == CLEAR).all()
    assert optical.sizes["time"] == dates
    assert float((optical["mask"] == CLEAR).mean()) == pytest.approx(clear, abs=1e-4)

    decibels = stored(own.files["sentinel-1"][0].file, "VV") * 1e-4
    files = {band: block.file for block in own.files["sentinel-2"] for band in block.bands or ()}
    classes = stored(own.files["sentinel-2"][-1].file, "SCL")
    frame, row, column = 30, 17, 20
    place = {"x": float(radar["x"][column]), "y": float(radar["y"][row])}
    power = 10 ** (on_day(decibels, radar["time"].values[frame]) / 10)
    found = radar["backscatter_unfiltered"].sel(band="vv")[frame, row, column]
    assert float(found) == pytest.approx(float(power.mean("time").interp(place)), rel=1e-4)
    frame = int(np.flatnonzero((optical["mask"] == CLEAR)[:, row, column])[20])
    day = optical["time"].values[frame]
    seen = on_day(classes, day).sel(place, method="nearest").isin([4, 5, 6, 7])
    for band, file in files.items():
        frames = on_day(stored(file, band), day)[seen.values] * 1e-4
        value = optical["reflectance"].sel(band=band)[frame, row, column]
        assert float(value) == pytest.approx(float(frames.mean("time").interp(place)), abs=6e-5)
