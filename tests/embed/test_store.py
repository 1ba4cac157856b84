"""The stored product: what is written is what is read, in few files, and damage is an error."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from products import export, layout_of

from pipeline_lib.embed import read_embedding, read_manifest, same_model
from pipeline_lib.embed.arrays import Layers, Tile
from pipeline_lib.embed.store import Coding, Layout, TileStore, template_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_json

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
        "days_to_radar": rng.integers(-400, 400, shape).astype(np.float32),
    }
    layers["days_to_radar"][rng.random(shape) < 0.4] = np.nan
    layers["embedding"].swapaxes(0, 1)[:, missing] = np.nan
    for name in ("context_share", "reconstruction_error", "days_to_radar"):
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
        {"embedding": most, "context_share": 0.00201},
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
    types = ["int8", "uint8", "float16", "int16"]
    assert [str(raw[name].dtype) for name in whole] == types


def test_values_beyond_the_range_are_clipped_and_counted(
    tmp_path: Path, made: Path, whole: Layers
) -> None:
    assert read_manifest(made)["clipped"] == 0
    values = whole["embedding"].copy()
    present = np.argwhere(np.isfinite(values))[[0, 500, -1]]
    for place, value in zip(present, (8.0, -90.0, 7.95), strict=True):
        values[tuple(place)] = value
    changed = whole | {"embedding": values}
    folder = export(tmp_path / "some", changed, layout_of(SHAPE, model=MODEL))
    # 7.95 is rounded to the last step.
    assert read_manifest(folder)["clipped"] == 2
    stored = read_embedding(folder)["embedding"].values
    assert [stored[tuple(place)] for place in present] == [7.9375, -7.9375, 7.9375]
    assert np.isfinite(stored).sum() == np.isfinite(values).sum()


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
    # Four tiles, of which one holds nothing.
    for name in whole:
        shards = [key for key in manifest["files"] if key.startswith(f"{name}/c/")]
        assert [shard[-3:] for shard in sorted(shards)] == ["0/0", "0/1", "1/1"]


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


@pytest.mark.parametrize("other_disk", [False, True])
def test_a_run_killed_after_the_store_was_moved_loses_nothing(
    tmp_path: Path, whole: Layers, made: Path, monkeypatch: pytest.MonkeyPatch, other_disk: bool
) -> None:
    if other_disk:

        def refuses(source: Path, target: Path) -> Path:
            if source.name == "embedding.zarr":
                raise OSError(18, "Invalid cross-device link")
            return source.replace(target)

        monkeypatch.setattr(Path, "rename", refuses)
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
