"""The stored product: what is written is what is read, in few files, and damage is an error."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from products import contents, export, layout_of

from pipeline_lib.embed import read_embedding, read_manifest, same_model
from pipeline_lib.embed.arrays import Layers, Tile
from pipeline_lib.embed.store import EMBEDDING_CODINGS, Coding, Layout, TileStore, template_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import pack, write_json

SHAPE = DATES, FEATURES, HEIGHT, WIDTH = 19, 3, 37, 50
MODEL, OTHER_MODEL = "1" * 64, "2" * 64


@pytest.fixture(scope="module")
def whole() -> Layers:
    """Embeddings with gaps, among them a whole tile, and quality layers of every kind."""
    rng = np.random.default_rng(4)
    shape = (DATES, HEIGHT, WIDTH)
    missing = rng.random(shape) < 0.3
    missing[:, 32:, :32] = True
    layers = {
        "embedding": rng.normal(size=SHAPE).astype(np.float32),
        "context_share": (rng.integers(1, 2475, shape) / 2475).astype(np.float32),
        "reconstruction_error": rng.exponential(0.02, shape).astype(np.float32),
        "domain_distance": (rng.integers(0, 250, shape) * 0.02).astype(np.float32),
        "days_to_radar": rng.integers(-400, 400, shape).astype(np.float32),
    }
    layers["days_to_radar"][rng.random(shape) < 0.4] = np.nan
    layers["embedding"].swapaxes(0, 1)[:, missing] = np.nan
    for name in ("context_share", "reconstruction_error", "domain_distance", "days_to_radar"):
        layers[name][missing] = np.nan
    return layers


@pytest.fixture(scope="module")
def made(whole: Layers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product that no test changes."""
    folder = tmp_path_factory.mktemp("made") / "product"
    return export(folder, whole, layout_of(SHAPE, model=MODEL))


@pytest.fixture
def product(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "product"))


def foreign_product(folder: Path, whole: Layers) -> Path:
    """A product of another model, with other embeddings."""
    other = whole | {"embedding": whole["embedding"][::-1].copy()}
    return export(folder, other, layout_of(SHAPE, model=OTHER_MODEL))


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0), ("float16", 2**-9), ("int8", 1 / 32)])
@pytest.mark.parametrize("load", [True, False])
def test_what_is_read_is_what_was_written(
    tmp_path: Path, whole: Layers, dtype: str, most: float, load: bool
) -> None:
    folder = export(tmp_path / "product", whole, layout_of(SHAPE, model=MODEL, dtype=dtype))
    data = read_embedding(folder, load=load)
    relative, absolute = (
        {"reconstruction_error": 0.009},
        {"embedding": most, "context_share": 0.00201, "domain_distance": 0.0101},
    )
    assert list(data) == list(whole)
    for name, values in whole.items():
        assert data[name].dtype == np.float32
        tolerance = {"rtol": relative.get(name, 0), "atol": absolute.get(name, 2**-20)}
        np.testing.assert_allclose(data[name], values, **tolerance)
    assert abs(np.nanmean(data["reconstruction_error"] / whole["reconstruction_error"]) - 1) < 1e-3


def test_int8_is_decoded_by_any_reader_of_cf(made: Path, whole: Layers) -> None:
    plain = xr.open_zarr(made / "embedding.zarr", consolidated=False)
    np.testing.assert_allclose(plain["embedding"].values, whole["embedding"], atol=1 / 32)
    np.testing.assert_array_equal(plain["days_to_radar"].values, whole["days_to_radar"])
    raw = xr.open_zarr(made / "embedding.zarr", consolidated=False, mask_and_scale=False)
    np.testing.assert_array_equal(raw["embedding"] == -128, np.isnan(whole["embedding"]))
    types = ["int8", "uint8", "float32", "uint8", "int16"]
    assert [str(raw[name].dtype) for name in whole] == types


def test_values_beyond_the_range_are_clipped_and_counted(
    tmp_path: Path, made: Path, whole: Layers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert read_manifest(made)["clipped"] == read_embedding(made).attrs["clipped_share"] == 0
    values = whole["embedding"].copy()
    present = np.argwhere(np.isfinite(values))[[0, 500, -1]]
    for place, value in zip(present, (8.0, -90.0, 7.95), strict=True):
        values[tuple(place)] = value
    changed = whole | {"embedding": values}
    folder = export(tmp_path / "some", changed, layout_of(SHAPE, model=MODEL))
    assert re.fullmatch(
        r"field: 2 of \d+ values \(0\.\d+ %\) were clipped to the range of int8",
        caplog.messages[-1],
    )
    # 7.95 is rounded to the last step.
    manifest = read_manifest(folder)
    assert manifest["clipped"] == 2
    share = 2 / (sum(manifest["embeddings"]) * FEATURES)
    plain = xr.open_zarr(folder / "embedding.zarr")
    assert manifest["clipped_share"] == plain.attrs["clipped_share"] == share
    stored = read_embedding(folder)["embedding"].values
    assert [stored[tuple(place)] for place in present] == [7.9375, -7.9375, 7.9375]
    assert np.isfinite(stored).sum() == np.isfinite(values).sum()


@given(st.floats(-65504, 65504, width=32))
def test_a_rounded_float32_is_what_a_float16_would_hold(value: float) -> None:
    stored, clipped = EMBEDDING_CODINGS["float16"].encode(np.array([value], np.float32))
    assert stored.dtype == np.float32 and not clipped
    # The last places of the smallest float16 are fewer.
    assert stored[0] == np.float16(value) or abs(stored[0] - value) <= abs(value) * 2**-11


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_no_float16_holds_is_stored(dtype: str) -> None:
    # A GPU sets all bits of a NaN.
    nan = np.array([0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    values = np.concatenate([nan, np.float32([1e6, -1e-6, 0, np.inf])])
    stored, _ = EMBEDDING_CODINGS[dtype].encode(values)
    np.testing.assert_allclose(stored, values, rtol=2**-11)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("chunks", [None, {}])
def test_statistics_by_xarray_are_those_of_float64(
    tmp_path: Path, dtype: str, chunks: dict[str, int] | None
) -> None:
    shape = (9, 2, 64, 64)
    values = np.random.default_rng(7).normal(3, 1, shape).astype(np.float32)
    flat = values[:, 0]
    # Their sums are beyond 65504, the largest float16, and beyond 255.
    layers = {
        "embedding": values,
        "context_share": np.full_like(flat, 0.8),
        "reconstruction_error": np.abs(flat) * 10,
        "days_to_radar": np.full_like(flat, 300),
    }
    layers["days_to_radar"][:4] = np.nan
    folder = export(tmp_path / "product", layers, layout_of(shape, model=MODEL, dtype=dtype))
    data = xr.open_zarr(folder / "embedding.zarr", chunks=chunks)
    for name, made_of in layers.items():
        stored, wide = data[name], read_embedding(folder)[name].astype("float64")
        for statistic in ("mean", "std", "sum", "var", "max"):
            found = float(getattr(stored, statistic)())
            assert found == pytest.approx(float(getattr(wide, statistic)()), rel=1e-5, abs=1e-5)
        assert float(stored.mean()) == pytest.approx(np.nanmean(made_of.astype("f8")), rel=0.01)
        assert bool(stored[:4].isnull().all()) == (name == "days_to_radar")


@given(st.floats(-1e6, 1e6, width=32))
def test_integers_are_off_by_half_a_step_at_most_and_never_the_missing_one(value: float) -> None:
    for dtype, fill, step in (("int8", -128, 1 / 16), ("uint8", 255, 0.5), ("int16", -32768, 1)):
        pair = np.array([value, np.nan], np.float32)
        stored, clipped = Coding(dtype, fill, step).encode(pair)
        assert stored[0] != fill and stored[1] == fill
        assert clipped or abs(float(stored[0]) * step - value) <= step / 2


def test_the_manifest_names_dates_counts_and_one_file_per_tile(made: Path, whole: Layers) -> None:
    manifest = read_manifest(made)
    assert manifest["times"][:2] == ["2022-01-03T10:30:00", "2022-01-10T10:30:00"]
    counts = np.isfinite(whole["reconstruction_error"]).sum((1, 2))
    assert manifest["embeddings"] == counts.tolist()
    # Four tiles, of which one holds nothing: a file that is absent is always a fault.
    for name in whole:
        shards = [key for key in manifest["files"] if key.startswith(f"{name}/c/")]
        assert [shard[-3:] for shard in sorted(shards)] == ["0/0", "0/1", "1/0", "1/1"]


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 200))
def test_a_shard_is_a_tile_of_whole_chunks(tile_px: int, size: int, dates: int) -> None:
    coords = {"time": range(dates), "y": range(size), "x": range(size)}
    sizes = Layout(template_of(coords, 1, {}), {}, tile_px).sizes
    assert all(shard % chunk == 0 for _, chunk, shard in sizes.values())
    assert sizes["time"][2] >= dates
    side = sizes["x"][2]
    assert side == tile_px if size > tile_px else size <= side <= max(tile_px, size + 63)


SHARD = "embedding/c/0/0/0/1"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("load", [True, False])
@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_a_shard_that_is_gone_or_cut_is_an_error(
    product: Path, damage: Callable[[Path], None], load: bool
) -> None:
    damage(product / "embedding.zarr" / SHARD)
    with pytest.raises(UserError, match=rf"1 file\(s\) differ .*{SHARD}; delete .*manifest.json"):
        read_embedding(product, load=load)
    (product / "manifest.json").unlink()
    with pytest.raises(UserError, match=r": no finished embeddings \(no manifest\.json\); run the"):
        read_embedding(product, load=load)


def test_an_altered_chunk_is_noticed_by_every_reader(product: Path) -> None:
    path = product / "embedding.zarr" / SHARD
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged \(.*checksum.*\); delete .*manifest.json"):
        read_embedding(product)
    plain = xr.open_zarr(product / "embedding.zarr", consolidated=False)
    for data in (plain, read_embedding(product, load=False)):
        with pytest.raises(ValueError, match="checksum"):
            data["embedding"].load()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("", r": no finished embeddings \(no manifest\.json\); run the export again"),
        ("../none", r"none: no finished embeddings \(folder not found\); run the export again"),
        ("../made/embedding.zarr", r"embedding\.zarr: a part of a product; name .*/made$"),
        ("../made/manifest.json", r"manifest\.json: a file; name the folder of a product"),
        ("..", r": a folder of products; name one of them, such as .*/made$"),
        ("../cube.zarr.zip", r"cube\.zarr\.zip: a file; name the folder of a product, which"),
        ("../made.zip", r"made\.zip: a zip archive; unpack it and name the folder"),
    ],
)
def test_what_is_no_product_is_named(made: Path, tmp_path: Path, named: str, message: str) -> None:
    """From an unfinished product beside a finished one."""
    unfinished = tmp_path / "unfinished"
    shutil.copytree(made / "embedding.zarr", unfinished / "embedding.zarr")
    shutil.copytree(made, tmp_path / "made")
    pack(made, tmp_path / "made.zip")
    pack(made / "embedding.zarr", tmp_path / "cube.zarr.zip")
    with pytest.raises(UserError, match=message):
        read_embedding((unfinished / named).resolve())


@pytest.mark.parametrize("scheme", ["http", "https", "s3", "gs", "zip", "file"])
@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_is_no_folder(scheme: str, kind: type[str | Path]) -> None:
    with pytest.raises(UserError, match=r"an address, not a folder; .*xarray\.open_zarr"):
        read_embedding(kind(f"{scheme}://data.example.org/DE-Gra"))


def test_a_product_of_another_version_is_named(product: Path) -> None:
    content = read_manifest(product)
    write_json(product / "manifest.json", {k: v for k, v in content.items() if k != "files"})
    with pytest.raises(UserError, match=r"manifest\.json: has no files, so another version than"):
        read_embedding(product)
    for key in [key for key in content["files"] if key.startswith("context_share/")]:
        del content["files"][key]
    write_json(product / "manifest.json", content)
    (product / "embedding.zarr/context_share").rename(product / "embedding.zarr/share")
    with pytest.raises(UserError, match=r"\.zarr: has no context_share, so another version than"):
        read_embedding(product)


def test_a_product_may_be_renamed_zipped_and_moved(made: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "sent"), "zip", made.parent, made.name)
    shutil.unpack_archive(archive, tmp_path / "there")
    moved = (tmp_path / "there" / made.name).rename(tmp_path / "another name")
    xr.testing.assert_identical(read_embedding(moved), read_embedding(made))
    inside = xr.open_zarr(f"zip://{made.name}/embedding.zarr::{archive}")
    xr.testing.assert_equal(inside["embedding"], read_embedding(made)["embedding"])


def test_missing_embeddings_are_noticed(product: Path) -> None:
    manifest = read_manifest(product)
    manifest["embeddings"][2] += 1
    write_json(product / "manifest.json", manifest)
    with pytest.raises(UserError, match="damaged, embeddings are missing; delete"):
        read_embedding(product)


def test_a_shard_or_a_manifest_of_another_model_is_an_error(
    product: Path, whole: Layers, tmp_path: Path
) -> None:
    foreign = foreign_product(tmp_path / "foreign", whole)
    with pytest.raises(UserError, match="of there come from another model than those of here"):
        same_model({"here": read_embedding(product), "there": read_embedding(foreign)})
    manifest = (product / "manifest.json").read_text()
    (product / "manifest.json").write_text(manifest.replace(MODEL, OTHER_MODEL))
    for load in (True, False):
        with pytest.raises(UserError, match=r"manifest and the store are of different models; del"):
            read_embedding(product, load=load)
    (product / "manifest.json").write_text(manifest)
    shutil.copy(foreign / "embedding.zarr" / SHARD, product / "embedding.zarr" / SHARD)
    with pytest.raises(UserError, match=r"damaged, 1 file\(s\) differ from the manifest"):
        read_embedding(product)


def test_a_shard_of_another_model_of_equal_size_is_an_error(
    product: Path, whole: Layers, tmp_path: Path
) -> None:
    """It has as many embeddings, and here as many bytes, and each chunk its own checksum."""
    foreign = foreign_product(tmp_path / "foreign", whole)
    shutil.copy(foreign / "embedding.zarr" / SHARD, product / "embedding.zarr" / SHARD)
    manifest = read_manifest(product)
    manifest["files"][SHARD] = read_manifest(foreign)["files"][SHARD]
    write_json(product / "manifest.json", manifest)
    read_embedding(product, load=False)
    with pytest.raises(UserError, match=rf"1 file\(s\) .* not those .*, first {SHARD}; delete"):
        read_embedding(product)


ORIGIN: dict[str, Any] = {"model_digest": MODEL, "dtype": "int8"}


def write(store: TileStore, tiles: list[Tile], whole: Layers) -> None:
    for tile in tiles:
        store.write(tile, {name: v[..., tile.rows, tile.columns] for name, v in whole.items()})


def test_an_export_is_resumed_with_equal_inputs_and_never_with_another_model(
    tmp_path: Path, whole: Layers, caplog: pytest.LogCaptureFixture
) -> None:
    state, layout, origin = tmp_path / "state", layout_of(SHAPE, model=MODEL), ORIGIN | {"cubes": 1}
    store = TileStore(state, origin, layout)
    first, *others = store.pending()
    write(store, [first], whole)
    with pytest.raises(UserError, match=rf"of another model \(model_digest {MODEL}\); delete"):
        TileStore(state, origin | {"model_digest": OTHER_MODEL}, layout)
    # What was done is kept for the model that did it.
    assert TileStore(state, origin, layout).pending() == others
    assert TileStore(state, origin | {"cubes": 2}, layout).pending() == [first, *others]
    assert "other cubes than before; starting anew" in caplog.text


def test_a_product_is_replaced_as_a_whole(product: Path, whole: Layers, tmp_path: Path) -> None:
    (product / "geotiff").mkdir()
    foreign_product(product, whole)
    fresh = foreign_product(tmp_path / "fresh", whole)
    xr.testing.assert_identical(read_embedding(product), read_embedding(fresh))
    # What others put beside it stays.
    assert (product / "geotiff").is_dir()


def refuses_other_disks(source: Path, target: Path) -> Path:
    """In place of `Path.rename`: a store is on another disk than the product."""
    if source.name == "embedding.zarr":
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return source.replace(target)


def test_an_earlier_product_stays_where_the_new_one_does_not_fit(
    product: Path, whole: Layers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fills_the_disk(store: Path, target: Path) -> None:
        target.mkdir()
        # As `copytree` lists what it could not copy.
        raise shutil.Error([(store, target, "[Errno 28] No space left on device: 'there'")] * 9)

    before = contents(product)
    monkeypatch.setattr(Path, "rename", refuses_other_disks)
    with monkeypatch.context() as full:
        full.setattr(shutil, "copytree", fills_the_disk)
        with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: 'there'$"):
            foreign_product(product, whole)
    assert contents(product) == before
    # With room, the same export ends without computing a tile again.
    with monkeypatch.context() as again:
        again.delattr(TileStore, "write")
        foreign_product(product, whole)
    assert read_embedding(product).attrs["model_digest"] == OTHER_MODEL


@pytest.mark.parametrize("other_disk", [False, True])
def test_a_run_killed_after_the_store_was_moved_loses_nothing(
    tmp_path: Path, whole: Layers, made: Path, monkeypatch: pytest.MonkeyPatch, other_disk: bool
) -> None:
    if other_disk:
        monkeypatch.setattr(Path, "rename", refuses_other_disks)
    state, output = tmp_path / "state", tmp_path / "product"
    store = TileStore(state, ORIGIN, layout_of(SHAPE, model=MODEL))
    write(store, store.pending(), whole)
    # An item that cannot be written stands in for the kill.
    with pytest.raises(ValueError):
        store.finish(output, {"bbox": float("nan")})
    with pytest.raises(UserError, match="no finished embeddings"):
        read_embedding(output)
    again = TileStore(state, ORIGIN, layout_of(SHAPE, model=MODEL))
    assert again.pending() == []
    again.finish(output, {})
    assert read_manifest(output) == read_manifest(made)
    xr.testing.assert_identical(read_embedding(output), read_embedding(made))
    assert not state.exists()
