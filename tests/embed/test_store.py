"""The stored product: what is written is what is read, in few files, and damage is told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline_lib.cubes import CLEAR, Grid, make_cube
from pipeline_lib.embed import read_embedding, read_manifest, same_model
from pipeline_lib.embed.arrays import Embeddings, Tile
from pipeline_lib.embed.store import EMBEDDING_CODINGS, Coding, Layout, TileStore
from pipeline_lib.errors import UserError

DATES, FEATURES, HEIGHT, WIDTH = 19, 3, 37, 50
MODEL, OTHER_MODEL = "1" * 64, "2" * 64


def layout_of(dtype: str, model: str = MODEL, tile_px: int = 32) -> Layout:
    grid = Grid(32631, 600000, 5600040, 10, HEIGHT, WIDTH)
    times = np.datetime64("2022-01-03T10:30", "ns") + np.arange(DATES) * np.timedelta64(7, "D")
    cube = make_cube(
        values=np.zeros((DATES, 1, HEIGHT, WIDTH), np.float32),
        mask=np.full((DATES, HEIGHT, WIDTH), CLEAR, np.uint8),
        times=times,
        bands=["B04"],
        grid=grid,
        quantity="reflectance",
        frames={},
        attributes={},
    )
    template = xr.Dataset(
        coords={
            "time": ("time", times),
            "feature": ("feature", np.arange(FEATURES)),
            **{name: cube[name].variable for name in ("y", "x", "spatial_ref")},
        },
        attrs={"cube": "field", "model_digest": model},
    )
    return Layout(template, ("radar",), "optical", "1", dtype, tile_px)


def numbers() -> Embeddings:
    """Embeddings with gaps, among them a whole tile, and quality layers of every kind."""
    rng = np.random.default_rng(4)
    shape = (DATES, HEIGHT, WIDTH)
    missing = rng.random(shape) < 0.3
    missing[:, 32:, :32] = True
    embedding = rng.normal(size=(DATES, FEATURES, HEIGHT, WIDTH)).astype(np.float32)
    days = rng.integers(-400, 400, shape).astype(np.float32)
    days[rng.random(shape) < 0.4] = np.nan
    share = rng.integers(1, 2475, shape) / 2475
    error = rng.exponential(0.02, shape)
    for layer in (*np.moveaxis(embedding, 1, 0), days, share, error):
        layer[missing] = np.nan
    return Embeddings(
        embedding, share.astype(np.float32), {"radar": days}, error.astype(np.float32)
    )


def cut(whole: Embeddings, tile: Tile) -> Embeddings:
    def part(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values[..., tile.rows, tile.columns]

    return Embeddings(
        part(whole.embedding),
        part(whole.context_share),
        {name: part(days) for name, days in whole.days.items()},
        part(whole.reconstruction_error),
    )


def export(folder: Path, whole: Embeddings, dtype: str = "int8", model: str = MODEL) -> Path:
    """A finished product."""
    state = folder.with_name(f"{folder.name}-state")
    origin = {"cube": "field", "model_digest": model, "dtype": dtype}
    store = TileStore(state, origin, layout_of(dtype, model))
    for tile in store.pending():
        store.write(tile, cut(whole, tile))
    store.finish(folder, {})
    return folder


@pytest.fixture(scope="module")
def whole() -> Embeddings:
    return numbers()


@pytest.fixture(scope="module")
def made(whole: Embeddings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product that no test changes."""
    return export(tmp_path_factory.mktemp("made") / "product", whole)


@pytest.fixture
def product(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "product"))


@pytest.mark.parametrize(("dtype", "most"), [("float32", 0), ("float16", 2**-9), ("int8", 1 / 32)])
@pytest.mark.parametrize("load", [True, False])
def test_what_is_read_is_what_was_written(
    tmp_path: Path, whole: Embeddings, dtype: str, most: float, load: bool
) -> None:
    data = read_embedding(export(tmp_path / "product", whole, dtype), load=load)
    stored = {
        "embedding": (whole.embedding, most),
        "context_share": (whole.context_share, 0.00201),
        "reconstruction_error": (whole.reconstruction_error, 2**-9),
        "days_to_radar": (whole.days["radar"], 0),
    }
    assert list(data) == list(stored)
    for name, (values, off) in stored.items():
        assert data[name].dtype == np.float32
        np.testing.assert_allclose(data[name].values, values, rtol=0, atol=off)


def test_errors_of_reconstruction_are_off_by_under_a_hundredth(
    made: Path, whole: Embeddings
) -> None:
    found = read_embedding(made)["reconstruction_error"].values
    np.testing.assert_allclose(found, whole.reconstruction_error, rtol=0.009, atol=2**-20)
    off = found / whole.reconstruction_error - 1
    assert abs(np.nanmean(off)) < 1e-3


def test_int8_is_decoded_by_any_reader_of_cf(made: Path, whole: Embeddings) -> None:
    plain = xr.open_zarr(made / "embedding.zarr", consolidated=False)
    np.testing.assert_allclose(plain["embedding"].values, whole.embedding, atol=1 / 32)
    np.testing.assert_array_equal(plain["days_to_radar"].values, whole.days["radar"])
    raw = xr.open_zarr(made / "embedding.zarr", consolidated=False, mask_and_scale=False)
    np.testing.assert_array_equal(raw["embedding"] == -128, np.isnan(whole.embedding))
    kinds = {name: str(array.dtype) for name, array in raw.data_vars.items()}
    assert kinds == {
        "embedding": "int8",
        "context_share": "uint8",
        "reconstruction_error": "float16",
        "days_to_radar": "int16",
    }


def test_numbers_beyond_the_range_are_clipped_and_counted(
    tmp_path: Path, whole: Embeddings
) -> None:
    assert read_manifest(export(tmp_path / "all", whole))["clipped"] == 0
    spoilt = whole.embedding.copy()
    present = np.argwhere(np.isfinite(spoilt))
    for place, value in zip(present[[0, 500, -1]], (8.0, -90.0, 7.95), strict=True):
        spoilt[tuple(place)] = value
    folder = export(tmp_path / "some", Embeddings(spoilt, *list(vars(whole).values())[1:]))
    # 7.95 is rounded to the last step.
    assert read_manifest(folder)["clipped"] == 2
    found = read_embedding(folder)["embedding"].values
    for place, value in zip(present[[0, 500, -1]], (7.9375, -7.9375, 7.9375), strict=True):
        assert found[tuple(place)] == value
    assert np.isfinite(found).sum() == np.isfinite(spoilt).sum()


@given(st.floats(-7.9375, 7.9375, width=32))
def test_int8_is_off_by_half_a_step_at_most(value: float) -> None:
    stored, beyond = EMBEDDING_CODINGS["int8"].encode(np.array([value, np.nan], np.float32))
    assert abs(float(stored[0]) / 16 - value) <= 1 / 32
    assert stored[1] == -128
    assert beyond == 0


@given(st.floats(-1e6, 1e6, width=32), st.sampled_from([("uint8", 255), ("int16", -32768)]))
def test_no_number_is_stored_as_the_missing_one(value: float, kind: tuple[str, int]) -> None:
    dtype, fill = kind
    stored, _ = Coding(dtype, fill, 0.5).encode(np.array([value, np.nan], np.float32))
    assert stored[0] != fill
    assert stored[1] == fill


def test_a_tile_is_one_file_of_each_layer_whatever_the_dates(made: Path) -> None:
    files = [key for key in read_manifest(made)["files"] if "/c/" in key]
    layers = [key for key in files if not key.startswith(("time/", "feature/", "y/", "x/"))]
    # Four tiles, of which one holds nothing.
    assert sorted(layers) == sorted(
        f"{name}/c/{place}"
        for name, start in (
            ("embedding", "0/0/"),
            ("context_share", "0/"),
            ("reconstruction_error", "0/"),
            ("days_to_radar", "0/"),
        )
        for place in (f"{start}0/0", f"{start}0/1", f"{start}1/1")
    )


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 200))
def test_a_shard_is_a_tile_of_whole_chunks(tile_px: int, size: int, dates: int) -> None:
    template = xr.Dataset(
        coords={"time": range(dates), "feature": [0], "y": range(size), "x": range(size)}
    )
    layout = Layout(template, (), "optical", "1", "int8", tile_px)
    for shard, chunk in zip(layout.shards, layout.chunks, strict=True):
        assert shard % chunk == 0
    assert layout.shards[0] >= dates
    side = layout.shards[3]
    assert side == tile_px if size > tile_px else size <= side <= max(tile_px, size + 63)


def test_the_manifest_names_dates_and_counts(made: Path, whole: Embeddings) -> None:
    manifest = read_manifest(made)
    assert manifest["times"][:2] == ["2022-01-03T10:30:00", "2022-01-10T10:30:00"]
    counts = np.isfinite(whole.reconstruction_error).sum((1, 2))
    assert manifest["embeddings"] == counts.tolist()


def shard_of(product: Path) -> Path:
    return product / "embedding.zarr" / "embedding" / "c" / "0" / "0" / "0" / "1"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, Path.unlink, alter])
def test_a_damaged_chunk_is_told_in_one_line(product: Path, damage) -> None:
    damage(shard_of(product))
    with pytest.raises(UserError) as raised:
        read_embedding(product)
    assert str(raised.value) == (
        f"{product}/embedding.zarr: damaged, 1 file(s) differ from the manifest, first "
        f"embedding/c/0/0/0/1; delete {product}/manifest.json and run the export again"
    )


@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_damage_is_told_to_those_who_read_later(product: Path, whole: Embeddings, damage) -> None:
    data = read_embedding(product, load=False)
    damage(shard_of(product))
    with pytest.raises(UserError, match=r"damaged, 1 file.* first embedding/c/0/0/0/1; delete"):
        read_embedding(product, load=False)
    elsewhere = (2, 0, slice(5), slice(9))
    np.testing.assert_allclose(
        data["embedding"][elsewhere], whole.embedding[elsewhere], atol=1 / 32
    )
    with pytest.raises(UserError, match=r"damaged, 1 file.* first embedding/c/0/0/0/1; delete"):
        data["embedding"][2, 0, :5, 30:].load()


def test_an_altered_chunk_is_noticed_by_every_reader(product: Path) -> None:
    alter(shard_of(product))
    plain = xr.open_zarr(product / "embedding.zarr", consolidated=False)
    with pytest.raises(ValueError, match="checksum"):
        plain["embedding"].load()


def test_a_chunk_of_another_model_is_refused(
    product: Path, whole: Embeddings, tmp_path: Path
) -> None:
    other = Embeddings(whole.embedding[::-1].copy(), *list(vars(whole).values())[1:])
    foreign = export(tmp_path / "foreign", other, model=OTHER_MODEL)
    shutil.copy(shard_of(foreign), shard_of(product))
    with pytest.raises(UserError, match=r"damaged, 1 file\(s\) differ from the manifest"):
        read_embedding(product)


@pytest.mark.parametrize("load", [True, False])
def test_a_manifest_of_another_model_is_refused(
    product: Path, whole: Embeddings, tmp_path: Path, load: bool
) -> None:
    foreign = export(tmp_path / "foreign", whole, model=OTHER_MODEL)
    shutil.copy(foreign / "manifest.json", product / "manifest.json")
    with pytest.raises(UserError) as raised:
        read_embedding(product, load=load)
    assert str(raised.value) == (
        f"{product}: the manifest and the store are of different models; "
        f"delete {product}/manifest.json and run the export again"
    )


def test_products_of_two_models_are_not_taken_for_one(
    product: Path, whole: Embeddings, tmp_path: Path
) -> None:
    foreign = export(tmp_path / "foreign", whole, model=OTHER_MODEL)
    with pytest.raises(UserError) as raised:
        same_model({"here": read_embedding(product), "there": read_embedding(foreign)})
    assert str(raised.value) == (
        "embeddings of there come from another model than those of here; "
        "export them again with one model"
    )


@pytest.mark.parametrize("load", [True, False])
def test_an_unfinished_product_is_refused(product: Path, load: bool) -> None:
    (product / "manifest.json").unlink()
    with pytest.raises(UserError) as raised:
        read_embedding(product, load=load)
    assert str(raised.value) == (
        f"{product}: no finished embeddings (no manifest.json); run the export again"
    )


def test_an_export_of_another_model_is_not_gone_on_with(tmp_path: Path, whole: Embeddings) -> None:
    state, begun = tmp_path / "state", {"cube": "field", "model_digest": MODEL}
    store = TileStore(state, begun, layout_of("int8"))
    first = store.pending()[0]
    store.write(first, cut(whole, first))
    with pytest.raises(UserError) as raised:
        TileStore(state, begun | {"model_digest": OTHER_MODEL}, layout_of("int8", OTHER_MODEL))
    assert str(raised.value) == (
        f"{state}: an export begun with another model (model_digest {MODEL}) waits here; "
        "delete this folder to export anew"
    )
    # What was done is kept for the model that did it.
    assert first not in TileStore(state, begun, layout_of("int8")).pending()


@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_a_tile_that_was_damaged_on_the_way_is_written_again(
    tmp_path: Path, whole: Embeddings, made: Path, damage
) -> None:
    state, output = tmp_path / "state", tmp_path / "product"
    origin = {"cube": "field", "model_digest": MODEL, "dtype": "int8"}
    store = TileStore(state, origin, layout_of("int8"))
    tiles = store.pending()
    for tile in tiles:
        store.write(tile, cut(whole, tile))
    damage(state / "embedding.zarr" / "embedding" / "c" / "0" / "0" / "0" / "1")
    again = TileStore(state, origin, layout_of("int8"))
    assert again.pending() == [tiles[1]]
    again.write(tiles[1], cut(whole, tiles[1]))
    again.finish(output, {})
    assert read_manifest(output) == read_manifest(made)


def test_a_product_is_replaced_as_a_whole(product: Path, whole: Embeddings, tmp_path: Path) -> None:
    (product / "geotiff").mkdir()
    other = Embeddings(whole.embedding[::-1].copy(), *list(vars(whole).values())[1:])
    export(product, other, model=OTHER_MODEL)
    fresh = export(tmp_path / "fresh", other, model=OTHER_MODEL)
    xr.testing.assert_identical(read_embedding(product), read_embedding(fresh))
    # What others put beside it stays.
    assert (product / "geotiff").is_dir()


def test_an_export_of_other_inputs_starts_anew(
    tmp_path: Path, whole: Embeddings, caplog: pytest.LogCaptureFixture
) -> None:
    state, begun = tmp_path / "state", {"model_digest": MODEL, "cubes": {"optical": "a"}}
    store = TileStore(state, begun, layout_of("int8"))
    tiles = store.pending()
    store.write(tiles[0], cut(whole, tiles[0]))
    again = TileStore(state, begun | {"cubes": {"optical": "b"}}, layout_of("int8"))
    assert "begun with another cubes; starting anew" in caplog.text
    assert again.pending() == tiles


def test_a_run_killed_after_the_store_was_moved_loses_nothing(
    tmp_path: Path, whole: Embeddings, made: Path
) -> None:
    state, output = tmp_path / "state", tmp_path / "product"
    origin = {"cube": "field", "model_digest": MODEL, "dtype": "int8"}
    store = TileStore(state, origin, layout_of("int8"))
    for tile in store.pending():
        store.write(tile, cut(whole, tile))
    # An item that cannot be written stands in for the kill.
    with pytest.raises(ValueError):
        store.finish(output, {"bbox": float("nan")})
    with pytest.raises(UserError, match="no finished embeddings"):
        read_embedding(output)
    again = TileStore(state, origin, layout_of("int8"))
    assert again.pending() == []
    again.finish(output, {})
    assert json.loads((output / "manifest.json").read_text()) == read_manifest(made)
    xr.testing.assert_identical(read_embedding(output), read_embedding(made))
    assert not state.exists()
