"""Cubes are read as they were written, by us and by other readers; damage is an error."""

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor
import xarray as xr
import zarr

from pipeline_lib.config import CubeGrid
from pipeline_lib.cubes import (
    CLEAR,
    NO_DATA,
    THIN_CLOUD,
    clear_counts,
    frames_per_part,
    grid_at,
    grid_of,
    make_cube,
    read_cube,
    write_cube,
    write_parts,
)
from pipeline_lib.cubes.schema import INTEGER_FILL
from pipeline_lib.errors import UserError

GRID = grid_at(11.9, 48.1, CubeGrid(size_px=12))


def example(quantity: str = "reflectance", frames: int = 5) -> xr.Dataset:
    rng = np.random.default_rng(1)
    values = rng.uniform(-0.05, 1.4, (frames, 2, *GRID.shape)).astype(np.float32)
    values[0, :, 0, 0] = np.nan
    mask = np.full((frames, *GRID.shape), CLEAR, np.uint8)
    mask[0, 0, 0] = NO_DATA
    mask[1, 2:5] = THIN_CLOUD
    return make_cube(
        values=values,
        mask=mask,
        times=np.datetime64("2020-03-01T10:15:32") + np.arange(frames) * np.timedelta64(5, "D"),
        bands=["B02", "B8A"],
        grid=GRID,
        quantity=quantity,
        frames={
            "item": [f"scene {n}" for n in range(frames)],
            "sun_zenith": np.arange(frames) * 9.0,
        },
        attributes={"sensor": "s", "cube": "c", "site": "c", "missing": ["one scene: gone"]},
    )


@pytest.mark.parametrize(("quantity", "step"), [("reflectance", 1e-4), ("backscatter", 0)])
def test_round_trip(tmp_path: Path, quantity: str, step: float) -> None:
    cube = example(quantity)
    write_cube(cube, tmp_path / "c.zarr.zip")
    read = read_cube(tmp_path / "c.zarr.zip")
    assert read[quantity].dtype == np.float32
    np.testing.assert_allclose(read[quantity], cube[quantity], atol=step / 2 + 1e-7)
    assert (read["mask"] == cube["mask"]).all()
    assert (read["time"] == cube["time"]).all()
    assert read["item"].values.tolist() == cube["item"].values.tolist()
    assert grid_of(read) == GRID


def test_values_beyond_the_integers_are_clipped(tmp_path: Path) -> None:
    cube = example()
    cube["reflectance"][0, 0, 3, 3] = 6.5
    write_cube(cube, tmp_path / "c.zarr.zip")
    assert read_cube(tmp_path / "c.zarr.zip")["reflectance"][0, 0, 3, 3] == pytest.approx(3.2766)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_cube(example(), tmp_path / "c.zarr.zip")
    return tmp_path / "c.zarr.zip"


def test_other_readers_read_it(written: Path) -> None:
    plain = xr.open_zarr(f"zip::{written}", consolidated=False)
    np.testing.assert_allclose(plain["reflectance"], example()["reflectance"], atol=6e-5)
    assert plain.rio.crs.to_epsg() == GRID.epsg
    assert plain.rio.bounds() == pytest.approx(GRID.bounds)
    assert plain["mask"].attrs["flag_meanings"].split()[NO_DATA] == "no_data"
    # Those without CF see no data by Zarr's fill value.
    store = zarr.open_group(zarr.storage.ZipStore(written, mode="r"), mode="r")
    assert store["reflectance"].fill_value == INTEGER_FILL
    assert store["mask"].fill_value == NO_DATA


def gdal_reads_zarr_v3() -> bool:
    """Whether there is a gdalinfo that knows the final Zarr v3 and its text arrays."""
    if shutil.which("gdalinfo") is None:
        return False
    shown = subprocess.run(["gdalinfo", "--version"], capture_output=True, text=True, check=True)
    return tuple(int(n) for n in re.findall(r"\d+", shown.stdout)[:2]) >= (3, 13)


@pytest.mark.skipif(not gdal_reads_zarr_v3(), reason="needs gdalinfo 3.13 or newer")
def test_gdal_reads_the_zip(written: Path) -> None:
    cube = example()
    address = f'ZARR:"/vsizip/{written}":/reflectance'
    shown = subprocess.run(["gdalinfo", "-json", address], capture_output=True, text=True)
    info = json.loads(shown.stdout)
    assert info["geoTransform"] == [GRID.left, 10, 0, GRID.top, 0, -10]
    assert f'ID["EPSG",{GRID.epsg}]' in info["coordinateSystem"]["wkt"]
    assert len(info["bands"]) == cube.sizes["time"] * cube.sizes["band"]
    band = info["bands"][0]
    assert band["noDataValue"] == INTEGER_FILL and band["scale"] == pytest.approx(1e-4)
    seconds = int(band["metadata"][""]["DIM_time_VALUE"])
    assert np.datetime64(seconds, "s") == cube["time"].values[0]


def test_equal_cubes_and_one_in_parts_have_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_lib.cubes.schema.PART_PX", 2 * GRID.height * GRID.width)
    assert frames_per_part(GRID) == 2
    cube = example()
    write_cube(cube, tmp_path / "whole")
    write_cube(example(), tmp_path / "again")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "again").read_bytes()
    first, second, third = (cube.isel(time=slice(n, n + 2)) for n in (0, 2, 4))
    early = first.assign_attrs(missing="[]"), second.assign_attrs(missing="[]")
    write_parts([*early, third], tmp_path / "parts")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    xr.testing.assert_equal(read_cube(tmp_path / "parts")["mask"], cube["mask"])
    with pytest.raises(ValueError, match="increase"):
        write_parts([second, first], tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Change the members of a cube's zip; those that become None are left out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if (changed := change(name, content)) is not None:
                archive.writestr(name, changed)


def test_a_damaged_or_absent_file_is_an_error(written: Path) -> None:
    whole = written.read_bytes()
    rewrite(written, lambda name, content: None if name.startswith("mask/c/") else content)
    with pytest.raises(UserError, match="damaged"):
        read_cube(written)
    with pytest.raises(UserError, match="damaged"):
        clear_counts(read_cube(written, load=False), written)
    written.write_bytes(whole[:-2000])
    with pytest.raises(UserError, match="not a readable cube"):
        read_cube(written)
    written.unlink()
    with pytest.raises(UserError, match="cube not found"):
        read_cube(written)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("zarr.json", {"attributes": {}}),
        ("mask/zarr.json", {"data_type": "float32"}),
        ("x/zarr.json", {"shape": [3]}),
    ],
)
def test_a_store_of_another_layout_is_an_error(
    written: Path, name: str, change: dict[str, object]
) -> None:
    rewrite(
        written,
        lambda own, content: (
            json.dumps(json.loads(content) | change).encode() if own == name else content
        ),
    )
    with pytest.raises(UserError, match=r"not a readable cube .*; delete it and run again"):
        read_cube(written)


def test_wrong_shapes_and_times_are_an_error() -> None:
    cube = example()
    values, mask = cube["reflectance"].values, cube["mask"].values
    common = {"bands": ["a", "b"], "grid": GRID, "quantity": "reflectance"}
    common |= {"frames": {}, "attributes": {}}
    with pytest.raises(ValueError, match="fit"):
        make_cube(values=values, mask=mask[:, 1:], times=cube["time"], **common)
    with pytest.raises(ValueError, match="increase"):
        make_cube(values=values, mask=mask, times=cube["time"][::-1], **common)
