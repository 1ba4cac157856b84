"""Classes that the user knows of a cube's land: on its pixels, or refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pipeline_lib.config import OwnCube
from pipeline_lib.config.check import check
from pipeline_lib.cubes.labels import write_labels
from pipeline_lib.errors import UserError


def raster(path: Path, size: int, pixel: float, name: str, values: Any, **changes: float) -> Path:
    """A NetCDF file of ``(y, x)``, or with a date, from 500000 E, 5600000 N on (UTM 31 N)."""
    left, top = changes.get("left", 500000), changes.get("top", 5600000)
    axis = (np.arange(size) + 0.5) * pixel
    values = np.broadcast_to(values, (size, size))
    epsg = f"EPSG:{changes.get('epsg', 32631)}"
    dataset = xr.Dataset(
        {name: (("y", "x"), values)},
        coords={"x": left + axis, "y": top - axis},
        attrs={"proj:code": epsg},
    )
    if name == "vv":
        dataset = dataset.expand_dims(time=[np.datetime64("2020-05-01", "ns")])
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


def labelled(
    tmp_path: Path, classes: Any, pixel: float, *, block: dict[str, Any] | None = None, **file: Any
) -> tuple[list[list[int]], list[str]]:
    """Labels and names of a cube of 4 x 4 pixels of 20 m."""
    backscatter = raster(tmp_path / "radar.nc", 4, 20, "vv", 0.1)
    size = len(classes)
    path = raster(tmp_path / "classes.nc", size, pixel, "crop", np.array(classes), **file)
    own = OwnCube.model_validate(
        {
            "site": "a",
            "files": {"radar": {"file": backscatter, "bands": {"vv": "vv"}}},
            "labels": {"file": path, "variable": "crop", **(block or {})},
        }
    )
    assert own.labels is not None
    write_labels(own=own, labels=own.labels, resolution_m=20, output=tmp_path / "labels.npz")
    with np.load(tmp_path / "labels.npz", allow_pickle=False) as content:
        return content["labels"].tolist(), content["names"].tolist()


CROPS = [[0, 7, 7, 3], [3, 3, 9, 9], [0, 0, 0, 0], [7, 9, 3, 0]]


def test_classes_are_numbered_by_name(tmp_path: Path) -> None:
    assert labelled(tmp_path, CROPS, 20) == (
        [[0, 2, 2, 1], [1, 1, 3, 3], [0, 0, 0, 0], [2, 3, 1, 0]],
        ["3", "7", "9"],
    )
    names = {9: "grass", 3: "maize", 7: "grass"}
    assert labelled(tmp_path, CROPS, 20, block={"names": names}) == (
        [[0, 1, 1, 2], [2, 2, 1, 1], [0, 0, 0, 0], [1, 1, 2, 0]],
        ["grass", "maize"],
    )
    # Those without a name, and the class that stands for none.
    block = {"names": {3: "maize", 0: "bare"}, "none": 3}
    assert labelled(tmp_path, CROPS, 20, block=block)[0] == [
        [2, 0, 0, 0],
        [0, 0, 0, 0],
        [2, 2, 2, 2],
        [0, 0, 0, 2],
    ]


def test_pixels_of_other_sizes(tmp_path: Path) -> None:
    fine = np.kron(CROPS, np.ones((2, 2), int))
    fine[0, 2] = 3  # a quarter of a pixel of the cube
    found = labelled(tmp_path, fine.tolist(), 10)
    assert found[0] == [[0, 0, 2, 1], [1, 1, 3, 3], [0, 0, 0, 0], [2, 3, 1, 0]]
    coarse = labelled(tmp_path, [[3, 0], [0, 7]], 40)[0]
    assert coarse == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]
    # A file of a larger area: the cube's part of it.
    wide = np.pad(CROPS, ((1, 1), (1, 1)))
    found = labelled(tmp_path, wide.tolist(), 20, left=500000 - 20, top=5600000 + 20)
    assert found[0] == [[0, 2, 2, 1], [1, 1, 3, 3], [0, 0, 0, 0], [2, 3, 1, 0]]


@pytest.mark.parametrize(
    ("pixel", "block", "file", "message"),
    [
        (20, {}, {"left": 500007}, "do not nest with those of the cube, 20 m"),
        (15, {}, {}, "its pixels of 15 m .* do not nest"),
        (20, {}, {"left": 500020}, "does not cover the cube"),
        (20, {}, {"epsg": 32632}, "is in EPSG:32632, and the cube in EPSG:32631"),
        (20, {"variable": "crops"}, {}, "no variable 'crops'; name one of crop"),
        (20, {"names": {8: "rye"}}, {}, "no label within the cube; its classes are 3, 7, 9"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, pixel: float, block: dict[str, Any], file: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        labelled(tmp_path, CROPS, pixel, block=block, **file)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "labels.npz").exists()


def test_decimals_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'crop' holds no classes, but decimals"):
        labelled(tmp_path, [[0.0, 7.5], [3.0, 3.0]], 40)


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize(
    ("config", "cube", "window"),
    [
        ("config.yaml", "belgium-2018", np.s_[24:64]),
        ("worldcereal.yaml", "belgium-2019", np.s_[:]),
        ("worldcereal.yaml", "tanzania-2020", np.s_[:]),
    ],
)
def test_real_crops(
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    cube: str,
    window: slice,
) -> None:
    monkeypatch.chdir(project_root)
    content = check([Path("tests/real") / config])
    own = content.own_cubes[cube]
    assert own.labels is not None and own.labels.names is not None
    output = tmp_path / "labels.npz"
    write_labels(own=own, labels=own.labels, resolution_m=content.cube.resolution_m, output=output)
    with xr.open_dataset(own.labels.file, engine="h5netcdf", mask_and_scale=False) as file:
        codes = file["CT"].values[window]
    with np.load(output, allow_pickle=False) as found:
        labels, names = found["labels"], ["", *found["names"].tolist()]
    step = codes.shape[0] // labels.shape[0]
    for y, x in np.ndindex(labels.shape):
        part = codes[step * y : step * (y + 1), step * x : step * (x + 1)]
        inside = {own.labels.names.get(int(code), "") for code in part.ravel()}
        assert names[labels[y, x]] == (inside.pop() if len(inside) == 1 else "")
