"""A cube of others cannot run code, make us read other files, or take all memory."""

import json
import os
import pickle
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from numcodecs.abc import Codec
from numcodecs.registry import codec_registry

from pipeline_lib.config import SENTINEL_1, OwnCube
from pipeline_lib.cubes import Grid, foreign, ingest_cube, make_cube, read_cube, write_cube
from pipeline_lib.cubes.foreign import read_apart
from pipeline_lib.errors import UserError

SHAPE = (3, 6, 5)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def ingest(path: Path, output: Path) -> xr.Dataset:
    file = {"file": path, "bands": {"vv": "vv", "vh": "vh"}, "crs": "EPSG:32632"}
    ingest_cube(
        name="a",
        sensor_name="sentinel-1",
        sensor=SENTINEL_1.source(),
        own=OwnCube.model_validate({"site": "a", "files": {"sentinel-1": file}}),
        resolution_m=10.0,
        config_digest="",
        output=output,
    )
    return read_cube(output)


def refused(action: Callable[[], object], match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)


def own_cube() -> xr.Dataset:
    values = np.random.default_rng(0).uniform(0.01, 0.2, SHAPE).astype(np.float32)
    return xr.Dataset(
        dict.fromkeys(("vv", "vh"), (("time", "y", "x"), values)),
        coords={
            "time": np.array(["2020-01-01", "2020-01-07", "2020-01-13"], "M8[ns]"),
            "y": 5e6 - 10.0 * np.arange(SHAPE[1]),
            "x": 4e5 + 10.0 * np.arange(SHAPE[2]),
        },
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "own.zarr"
    own_cube().to_zarr(path, zarr_format=2, consolidated=False)
    return path


def test_an_honest_store_is_read(store: Path, tmp_path: Path) -> None:
    assert ingest(store, tmp_path / "a.zarr.zip").sizes["time"] == 3


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_pickled_chunk_is_never_loaded(
    store: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numcodecs itself refuses only from a late version on, and unless a variable allows it."""
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    pack_by(store, place, "pickle", pickle.dumps(Trap(tmp_path / "executed")))
    refused(lambda: ingest(store, tmp_path / "a.zarr.zip"), "pickle")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_way_of_packing_that_is_not_known_to_compute_only_is_refused(
    store: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any installed package may offer codecs under a name of its own."""

    class Offered(Codec):
        codec_id = "offered"

        def decode(self, buf: bytes, out: object = None) -> bytes:
            return pickle.loads(buf)

        encode = decode

    monkeypatch.setitem(codec_registry, "offered", Offered)
    pack_by(store, place, "offered", pickle.dumps(Trap(tmp_path / "executed")))
    refused(lambda: ingest(store, tmp_path / "a.zarr.zip"), "vv is packed by 'offered'")
    assert not (tmp_path / "executed").exists()


def pack_by(store: Path, place: str, codec: str, chunk: bytes) -> None:
    """Let a variable have chunks of other bytes, packed in another way."""
    about = store / "vv" / ".zarray"
    told = json.loads(about.read_text()) | {"filters": None, "compressor": None}
    named = {"id": codec}
    about.write_text(json.dumps(told | {place: [named] if place == "filters" else named}))
    for path in (store / "vv").glob("[0-9]*"):
        path.write_bytes(chunk)


def test_a_chunk_that_is_a_link_to_another_file_is_refused(store: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 1000)
    chunk = next((store / "vh").glob("[0-9]*"))
    chunk.unlink()
    chunk.symlink_to(secret)
    refused(lambda: ingest(store, tmp_path / "a.zarr.zip"), "leads out of .*own.zarr")


def netcdf(path: Path, change: Callable[[h5py.File], None]) -> Path:
    own_cube().to_netcdf(path, engine="netcdf4")
    with h5py.File(path, "r+") as file:
        values = file["vv"][:]
        del file["vv"]
        change(file)
        for number, name in enumerate(("time", "y", "x")):
            if isinstance(file.get("vv", getlink=True), h5py.HardLink):
                file["vv"].dims[number].attach_scale(file[name])
        assert values.shape == SHAPE
    return path


def test_values_that_lie_in_other_files_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(1, 91)) * 4)
    other = tmp_path / "other.nc"
    own_cube().to_netcdf(other, engine="netcdf4")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(SHAPE, "f4")
        layout[...] = h5py.VirtualSource(str(other), "vv", SHAPE)
        file.create_virtual_dataset("vv", layout)

    def external(file: h5py.File) -> None:
        file.create_dataset("vv", SHAPE, "f4", external=[(str(secret), 0, 360)])

    def link(file: h5py.File) -> None:
        file["vv"] = h5py.ExternalLink(str(other), "/vv")

    def link_in_a_group(file: h5py.File) -> None:
        file["vv"] = np.ones(SHAPE, "f4")
        file.create_group("deep")["er"] = h5py.ExternalLink(str(secret), "/")

    for change in (virtual, external, link, link_in_a_group):
        path = netcdf(tmp_path / f"{change.__name__}.nc", change)
        refused(lambda path=path: ingest(path, tmp_path / "a.zarr.zip"), "lies in another file")
    assert not (tmp_path / "a.zarr.zip").exists()


def test_a_link_within_the_file_is_read(tmp_path: Path) -> None:
    def link(file: h5py.File) -> None:
        file["vv"] = h5py.SoftLink("/vh")

    assert ingest(netcdf(tmp_path / "own.nc", link), tmp_path / "a.zarr.zip").sizes["time"] == 3


def test_a_file_at_which_the_library_ends_its_process_is_refused(tmp_path: Path) -> None:
    """Damaged HDF5 files do that; which ones depends on its version, so the end is made here."""
    path = netcdf(tmp_path / "own.nc", lambda file: None)
    (tmp_path / "arrays").mkdir()

    def dies(source: xr.Dataset) -> xr.Dataset:
        os.kill(os.getpid(), signal.SIGKILL)
        return source

    refused(lambda: read_apart(path, dies, tmp_path / "arrays"), "damaged, .* signal 9")


def test_a_file_that_is_never_read_to_its_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "LONGEST_S", 1)
    path = netcdf(tmp_path / "own.nc", lambda file: None)
    (tmp_path / "arrays").mkdir()

    def loops(source: xr.Dataset) -> xr.Dataset:
        while True:
            pass

    refused(lambda: read_apart(path, loops, tmp_path / "arrays"), "damaged, .* signal")


def test_a_file_that_takes_all_memory_is_refused(tmp_path: Path) -> None:
    path = netcdf(tmp_path / "own.nc", lambda file: None)
    (tmp_path / "arrays").mkdir()

    def grows(source: xr.Dataset) -> xr.Dataset:
        return source.assign(vast=("n", np.ones(2**30)))

    refused(lambda: read_apart(path, grows, tmp_path / "arrays"), "allocate")


def test_what_is_read_apart_is_what_is_read_here(tmp_path: Path) -> None:
    path = tmp_path / "own.nc"
    own_cube().assign(band_names=("n", ["a", "bc"]), crs=0).to_netcdf(path, engine="netcdf4")
    (tmp_path / "arrays").mkdir()
    apart = read_apart(path, lambda source: source, tmp_path / "arrays")
    with xr.open_dataset(path, engine="netcdf4", mask_and_scale=False) as here:
        assert set(apart.variables) == set(here.variables)
        for name in here.variables:
            np.testing.assert_array_equal(apart[name], here[name])
            assert apart[name].dims == here[name].dims
        assert apart["vv"].dtype == np.float32 and apart["time"].dtype.kind == "M"


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros(0), 7, "nowhere"])
def test_a_reference_system_that_is_none_is_refused(tmp_path: Path, value: object) -> None:
    path = tmp_path / "own.nc"
    cube = own_cube().assign(crs=((), 0, {"crs_wkt": value}))
    cube.to_netcdf(path, engine="netcdf4")
    file = {"file": path, "bands": {"vv": "vv", "vh": "vh"}}
    block = OwnCube.model_validate({"site": "a", "files": {"sentinel-1": file}})

    def read() -> None:
        ingest_cube(
            name="a",
            sensor_name="sentinel-1",
            sensor=SENTINEL_1.source(),
            own=block,
            resolution_m=10.0,
            config_digest="",
            output=tmp_path / "a.zarr.zip",
        )

    refused(read, "coordinate reference system")


def test_more_than_a_file_can_hold_is_refused_before_memory_is_taken(
    store: Path, tmp_path: Path
) -> None:
    def vast(file: h5py.File) -> None:
        file.create_dataset("vv", (3, 10**6, 10**6), "f4", chunks=(1, 100, 100))

    path = netcdf(tmp_path / "vast.nc", lambda file: None)
    with h5py.File(path, "r+") as file:
        vast(file)
    refused(lambda: ingest(path, tmp_path / "a.zarr.zip"), r"declares 1.12e\+04 GB in a file of")
    about = store / "vv" / ".zarray"
    told = json.loads(about.read_text())
    for change in ({"shape": [3, 10**6, 10**6]}, {"chunks": [3, 10**6, 10**6]}):
        about.write_text(json.dumps(told | change))
        refused(lambda: ingest(store, tmp_path / "a.zarr.zip"), "declares")


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    values = np.full((2, 2, 4, 4), 0.2, np.float32)
    cube = make_cube(
        values=values,
        mask=np.zeros((2, 4, 4), np.uint8),
        times=np.array(["2020-01-01", "2020-01-06"], "M8[ns]"),
        bands=("vv", "vh"),
        grid=Grid(32632, 600000, 5000040, 10, 4, 4),
        quantity="backscatter",
        frames={"item": ["a", "b"]},
        attributes={"cube": "a"},
    )
    write_cube(cube, tmp_path / "cube.zarr.zip")
    return tmp_path / "cube.zarr.zip"


def rewritten(path: Path, change: Callable[[str, bytes], bytes], pack: int) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", pack) as archive:
        for name, content in members:
            archive.writestr(name, change(name, content))


def test_a_zip_that_would_unpack_to_more_is_refused(packed: Path) -> None:
    rewritten(packed, lambda name, content: content, zipfile.ZIP_DEFLATED)
    refused(lambda: read_cube(packed), "members are compressed")


def test_a_cube_that_declares_too_much_is_refused(packed: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        if name != "backscatter/zarr.json":
            return content
        return json.dumps(json.loads(content) | {"shape": [2, 2, 10**6, 10**6]}).encode()

    rewritten(packed, change, zipfile.ZIP_STORED)
    refused(lambda: read_cube(packed), "declares .* GB in a file of")


def test_names_that_lead_elsewhere_are_not_written(packed: Path) -> None:
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("../outside", "x")
        archive.writestr("/tmp-of-nobody/outside", "x")
    before = sorted(packed.parent.parent.rglob("*"))
    refused(lambda: read_cube(packed), "not a readable cube")
    assert sorted(packed.parent.parent.rglob("*")) == before
    assert not Path("/tmp-of-nobody").exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("zarr.json", {"attributes": {}}),
        ("mask/zarr.json", {"data_type": "float32"}),
        ("x/zarr.json", {"shape": [3]}),
    ],
)
def test_a_store_that_is_no_cube_is_refused(
    packed: Path, name: str, change: dict[str, object]
) -> None:
    def edit(own: str, content: bytes) -> bytes:
        return json.dumps(json.loads(content) | change).encode() if own == name else content

    rewritten(packed, edit, zipfile.ZIP_STORED)
    refused(lambda: read_cube(packed), "not a readable cube .*; delete it and run again")
