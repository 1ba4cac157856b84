"""Embedding of a user's arrays in Python: the same numbers as by files and workflow."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from pipeline_lib.config import Embed, OwnCube
from pipeline_lib.cubes import CLEAR, ingest_cube, read_cube
from pipeline_lib.embed import read_embedding
from pipeline_lib.embed.own import embed_xarray
from pipeline_lib.errors import UserError
from pipeline_lib.models import load_encoder

# Quality layers are stored in compact types.
ROUNDING = {
    "context_share": {"rtol": 0, "atol": 0.0021},
    "domain_distance": {"rtol": 0, "atol": 0.0101},
    # To ten bits of the fraction, then to six.
    "reconstruction_error": {"rtol": 2**-7 + 2**-11, "atol": 1e-6},
}


def user_array(path: Path) -> xr.DataArray:
    """What a user may have: clear values as measured, one of them missing in a single band."""
    cube = read_cube(path)
    name = {"reflectance": "reflectance", "backscatter": "backscatter_unfiltered"}
    values = cube[name[cube.attrs["quantity"]]].where(cube["mask"] == CLEAR).values
    values[1, 0, 12, 12] = np.nan
    bands = [str(band) for band in cube["band"].values]
    return xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            **{name: cube[name].values for name in ("time", "y", "x")},
            "band": bands,
            "spatial_ref": cube["spatial_ref"].variable,
            "weight": ("band", np.ones(len(bands))),
        },
        name="values",
    )


@pytest.fixture(scope="module")
def own(field: SimpleNamespace) -> SimpleNamespace:
    """The arrays of two sensors, the folder of the models, and their sensors."""
    folder = field.models["fusion"].parent
    sensors = {name: load_encoder(folder / name).sensor for name in field.cubes}
    cubes = {name: user_array(path) for name, path in field.cubes.items()}
    return SimpleNamespace(cubes=cubes, models=folder, sensors=sensors)


@pytest.fixture(scope="module")
def embedding(own: SimpleNamespace) -> xr.Dataset:
    return embed_xarray(own.cubes, own.models)


def test_python_and_workflow_give_the_same(
    own: SimpleNamespace, embedding: xr.Dataset, field: SimpleNamespace, tmp_path: Path
) -> None:
    paths = {}
    for name, array in own.cubes.items():
        file = tmp_path / f"{name}.nc"
        array.drop_vars(["spatial_ref", "weight"]).to_netcdf(file)
        keys = {"file": file, "variable": "values", "crs": "EPSG:32631"}
        paths[name] = tmp_path / f"{name}.zarr.zip"
        ingest_cube(
            name="field",
            sensor_name=name,
            sensor=own.sensors[name].source(),
            own=OwnCube.model_validate({"site": "field", "files": {name: keys}}),
            resolution_m=10.0,
            config_digest="config",
            output=paths[name],
        )
    field.embed(tmp_path / "out", cubes=paths, embed=Embed(dtype="float32", tile_px=8))
    stored = read_embedding(tmp_path / "out")
    assert set(embedding.data_vars) == set(stored.data_vars)
    assert embedding.sizes == stored.sizes
    assert np.isfinite(stored["embedding"]).any()
    for layer in stored.data_vars:
        assert embedding[layer].dims == stored[layer].dims and embedding[layer].dtype == np.float32
        assert embedding[layer].attrs["units"] == stored[layer].attrs["units"]
        rounding = ROUNDING.get(layer, {"rtol": 0, "atol": 2e-6})
        # 5.08 is the largest distance that is stored.
        most = 5.08 if layer == "domain_distance" else np.inf
        np.testing.assert_allclose(embedding[layer].clip(max=most), stored[layer], **rounding)
    # Cubes of files have days.
    np.testing.assert_array_equal(embedding["time"].dt.floor("D"), stored["time"])
    assert embedding.attrs["model_digest"] == stored.attrs["model_digest"]


def test_the_lines_of_the_page_embed_cubes_of_a_run(
    own: SimpleNamespace,
    field: SimpleNamespace,
    project_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (project_root / "docs/embed-my-area.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "embed_xarray" in b)
    run = tmp_path / "results/demo"
    for name, path in field.cubes.items():
        (run / "cubes" / name).mkdir(parents=True)
        (run / "cubes" / name / "DE-Gra.zarr.zip").symlink_to(path)
    (run / "models").symlink_to(own.models)
    monkeypatch.chdir(tmp_path)
    variables: dict[str, xr.Dataset] = {}
    exec(block.replace("sentinel-2", "optical").replace("sentinel-1", "radar"), variables)
    embedding = variables["embedding"]["embedding"]
    assert embedding.dims == ("time", "feature", "y", "x")
    assert np.isfinite(embedding).any()


def test_place_and_names_are_carried_over(own: SimpleNamespace, embedding: xr.Dataset) -> None:
    optical = own.cubes["optical"]
    # One of nine dates shows nothing.
    np.testing.assert_array_equal(embedding["time"], np.delete(optical["time"].values, 4))
    for side in ("x", "y"):
        np.testing.assert_array_equal(embedding[side], optical[side])
    assert embedding["spatial_ref"].attrs == optical["spatial_ref"].attrs
    assert embedding["embedding"].attrs["grid_mapping"] == "spatial_ref"
    assert "weight" not in embedding.coords and "band" not in embedding.coords


def bare(array: xr.DataArray) -> xr.DataArray:
    """Without place, in another order, and lazy."""
    return array.drop_vars(["x", "y", "spatial_ref"]).transpose("y", "x", "time", "band").chunk()


def infinite(array: xr.DataArray) -> xr.DataArray:
    """Infinite where values are missing, with coordinates of single precision."""
    single = array.assign_coords({side: array[side].astype(np.float32) for side in ("y", "x")})
    return single.fillna(np.inf)


def by_code(array: xr.DataArray) -> xr.DataArray:
    """With the reference system as stackstac gives it."""
    return array.drop_vars("spatial_ref").assign_coords(epsg=32631)


@pytest.mark.parametrize("change", [bare, infinite, by_code])
def test_other_forms_of_the_arrays_give_the_same_numbers(
    own: SimpleNamespace, embedding: xr.Dataset, change: Callable[[xr.DataArray], xr.DataArray]
) -> None:
    changed = {name: change(array) for name, array in own.cubes.items()}
    found = embed_xarray(changed, str(own.models))
    np.testing.assert_array_equal(found["embedding"], embedding["embedding"])
    assert ("grid_mapping" in found["embedding"].attrs) == (change is infinite)


def test_the_reference_sensor_alone_is_enough(own: SimpleNamespace, embedding: xr.Dataset) -> None:
    found = embed_xarray({"optical": own.cubes["optical"]}, own.models)
    shown = np.isfinite(embedding["embedding"])
    np.testing.assert_array_equal(np.isfinite(found["embedding"]), shown)
    assert np.isnan(found["days_to_radar"]).all()
    assert np.abs(found["embedding"] - embedding["embedding"]).max() > 1e-3


def cftime(array: xr.DataArray) -> list[object]:
    """Dates of a calendar without leap years, as climate models have them."""
    return list(xr.date_range("2022-01-01", periods=array.sizes["time"], calendar="noleap").values)


def place(array: xr.DataArray, step: float, epsg: int | None = None) -> xr.DataArray:
    """The array with pixels of another size, in another reference system or without one."""
    moved = array.drop_vars("spatial_ref").assign_coords(
        x=7 + step * np.arange(array.sizes["x"]), y=50 - step * np.arange(array.sizes["y"])
    )
    return moved if epsg is None else moved.rio.write_crs(epsg)


def unsized(array: xr.DataArray) -> xr.DataArray:
    """Rows chosen by a mask that dask has not computed."""
    lazy = array.chunk().data
    return xr.DataArray(lazy[:, :, lazy[0, 0, :, 0] > 0.1], dims=array.dims)


def gap(array: xr.DataArray) -> xr.DataArray:
    """The array without one of its columns."""
    return array.isel(x=[0, 1, 3, 4])


@pytest.mark.parametrize(
    ("sensor", "change", "message"),
    [
        ("optical", lambda a: a.isel(band=[1, 0, 2]), "has the bands B08 B04 B11, but B04 B08 B11"),
        ("optical", lambda a: a.rename(y="lat"), "rename to time, band, y, x"),
        ("optical", lambda a: a.assign_coords(time=np.arange(a.sizes["time"])), "time must be dat"),
        ("optical", lambda a: a.assign_coords(time=cftime(a)), r"not object; convert it .*cftime"),
        ("optical", lambda a: a.assign_coords(time=a["time"].shift(time=1)), "without NaT"),
        ("optical", lambda a: a.isel(y=slice(None, None, -1)), "y must fall"),
        ("radar", lambda a: a.assign_coords(x=a["x"] + 10), "another grid than optical"),
        ("radar", lambda a: a.isel(y=slice(1, None)), "another grid than optical"),
        ("optical", lambda a: a * 10000, r"no reflectance \(0..1\).*; set .* apply the scale"),
        ("radar", lambda a: 10 * np.log10(a), "linear power is needed"),
        ("radar", lambda a: 10 ** (a / 10), "99 % of vv are above 0.5, .* a wrong unit"),
        ("optical", lambda a: (a * 1e4).fillna(0).astype(np.uint16), "holds uint16, not reflect"),
        (
            "optical",
            lambda a: a.fillna(-9999),
            "are -9999 in every band, .*set no data to NaN",
        ),
        ("optical", lambda a: a.where(False), "no date has a valid pixel"),
        ("optical", lambda a: a.isel(y=[]), "is empty.* along y: there is no pixel"),
        ("radar", lambda a: a.isel(time=slice(0)), "is empty.* along time"),
        ("optical", unsized, "unknown size, along y: .* unknown chunk sizes"),
        ("optical", lambda a: a.assign_coords(band=[1, 2, 3]), "bands have numbers; name them"),
        ("optical", lambda a: a.isel(band=0), "has the dimensions time, y, x; .*expand_dims"),
        ("optical", lambda a: a.to_dataset("band"), "is a Dataset; give a DataArray"),
        ("optical", lambda a: place(a, 2, 4326), "lies in WGS 84; warp"),
        ("optical", lambda a: place(a, 10, 3857), "lies in .* Pseudo-Mercator; warp"),
        ("optical", lambda a: place(a, 1e-4), r"pixels of 0.0001 along y, .* \(not degrees\)"),
        ("radar", lambda a: place(a, 20), "pixels of 20 along y, and the models need 10 m"),
        ("optical", gap, "x has no equal steps"),
        (
            "radar",
            lambda a: a.drop_vars("spatial_ref").assign_coords(epsg=32632),
            "is in .* 32N",
        ),
        ("radar", lambda a: a.rio.write_crs(32732), "is in .* 32S, and optical in .* 31N"),
        (
            "radar",
            lambda a: a.drop_vars("spatial_ref").assign_attrs(crs="the zone beside"),
            r"not a readable coordinate reference system .*write_crs",
        ),
    ],
)
def test_what_cannot_be_embedded_is_an_error(
    own: SimpleNamespace, sensor: str, change: Callable[[xr.DataArray], object], message: str
) -> None:
    with pytest.raises(UserError, match=rf"^{sensor}: .*{message}"):
        embed_xarray(own.cubes | {sensor: change(own.cubes[sensor])}, own.models)


def granules(array: xr.DataArray) -> xr.DataArray:
    """Each pass as its west and its east, some seconds later, the newest first."""
    west = array["x"] < array["x"][array.sizes["x"] // 2]
    east = array.where(~west).assign_coords(time=array["time"] + np.timedelta64(14, "s"))
    return xr.concat([array.where(west), east], "time").isel(time=slice(None, None, -1))


def again(array: xr.DataArray) -> xr.DataArray:
    """Every frame twice."""
    return xr.concat([array, array], "time")


@pytest.mark.parametrize("change", [granules, again])
def test_frames_of_a_day_are_merged(
    own: SimpleNamespace, embedding: xr.Dataset, change: Callable[[xr.DataArray], xr.DataArray]
) -> None:
    found = embed_xarray({name: change(array) for name, array in own.cubes.items()}, own.models)
    np.testing.assert_array_equal(found["time"], embedding["time"])
    for layer in ("embedding", "context_share", "days_to_radar"):
        np.testing.assert_allclose(found[layer], embedding[layer], atol=1e-5)


def test_other_pixels_are_embedded_by_models_of_such(own: SimpleNamespace) -> None:
    coarse = {name: place(array, 20) for name, array in own.cubes.items()}
    assert np.isfinite(embed_xarray(coarse, own.models, resolution_m=20)["embedding"]).any()


def test_odd_values_are_noted(own: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    optical = own.cubes["optical"].copy()
    optical[:, 0, 9, 9] = [2.3 + 0.01 * frame for frame in range(9)]
    embed_xarray({"optical": optical}, own.models)
    assert " % of B04 are above 2 (median 0." in caplog.text


def test_a_date_of_other_units_is_left_out(
    own: SimpleNamespace, embedding: xr.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    optical = own.cubes["optical"]
    odd = xr.concat([optical, 1e4 * optical[:1].where(optical["x"] < optical["x"][12])], "time")
    odd = odd.assign_coords(time=[*optical["time"].values, np.datetime64("2023-01-01")])
    found = embed_xarray(own.cubes | {"optical": odd}, own.models)
    np.testing.assert_array_equal(found["embedding"], embedding["embedding"])
    assert "optical: 2023-01-01 is left out: " in caplog.text


def test_unknown_and_missing_sensors_are_errors(own: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"thermal: no sensor of .*; those are optical, radar"):
        embed_xarray(own.cubes | {"thermal": own.cubes["radar"]}, own.models)
    with pytest.raises(UserError, match="optical: is missing"):
        embed_xarray({"radar": own.cubes["radar"]}, own.models)
    with pytest.raises(UserError, match="file not found"):
        embed_xarray(own.cubes, tmp_path)


def test_a_single_pixel_is_a_cube_too(own: SimpleNamespace, embedding: xr.Dataset) -> None:
    place = {"y": [9], "x": [9]}
    single = {name: array.isel(place) for name, array in own.cubes.items()}
    found = embed_xarray(single, own.models)
    assert found.sizes["x"] == found.sizes["y"] == 1
    shown = np.isfinite(found["embedding"].isel(y=0, x=0)).all("feature")
    assert shown.all() and found.sizes["time"] < embedding.sizes["time"]
