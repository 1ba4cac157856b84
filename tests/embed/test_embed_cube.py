"""From the cubes of a place to its product."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from products import contents

from pipeline_lib import models
from pipeline_lib.cubes import CLEAR, read_cube, write_cube
from pipeline_lib.dataset import SampleIndex
from pipeline_lib.embed import read_embedding
from pipeline_lib.embed.store import TileStore
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.reconstruction import fusion_dataset
from pipeline_lib.models import load_encoder, load_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training.tasks import FusionTask


def test_the_product_holds_what_it_promises(field: SimpleNamespace, product: Path) -> None:
    data = read_embedding(product)
    optical = read_cube(field.cubes["optical"])
    clear = (optical["mask"] == CLEAR).any(("y", "x"))
    np.testing.assert_array_equal(data["time"], optical["time"][clear.values])
    assert data["embedding"].dims == ("time", "feature", "y", "x")
    assert data["embedding"].dtype == np.float32
    for layer in ("context_share", "reconstruction_error", "domain_distance", "days_to_radar"):
        assert data[layer].dims == ("time", "y", "x")
        assert data[layer].attrs["units"]
    assert {"model_digest", "config_digest", "cube", "site", "land_cover"} <= set(data.attrs)
    manifest = json.loads((product / "manifest.json").read_text())
    counts = np.isfinite(data["embedding"]).all("feature").sum(("y", "x"))
    assert manifest["embeddings"] == counts.values.tolist()
    assert manifest["model_digest"] == data.attrs["model_digest"]
    assert json.loads(data.attrs["source_items"])[0] == ["scene-0-0"]


def test_what_is_evaluated_is_what_is_exported(
    field: SimpleNamespace, product: Path, tmp_path: Path
) -> None:
    """Embeddings of samples are those of the same pixel and date, but for the type's digits."""
    encoders = {name: load_encoder(field.models[name]) for name in field.cubes}
    fusion = load_fusion(field.models["fusion"])
    cubes = {name: tmp_path / name / "field.zarr.zip" for name in encoders}
    for name, path in cubes.items():
        path.parent.mkdir()
        path.symlink_to(field.cubes[name])
    dataset = fusion_dataset(fusion, encoders, {name: [path] for name, path in cubes.items()})
    rng = generator(1, "evaluation")
    drawn = SampleIndex.joined([dataset.draw(rng, None, "test") for _ in range(40)])
    task = FusionTask(fusion.fusion, encoders).eval()
    with torch.inference_mode():
        parts = [task.embedding(batch) for batch in dataset.loader(drawn, 64)]
    found = torch.cat(parts).numpy()
    half = encoders["optical"].context.patch_px // 2
    exported = read_embedding(product)["embedding"].values
    expected = exported[drawn.centre, :, drawn.top + half, drawn.left + half]
    other = drawn.others["radar"]
    assert (~drawn.present).any() and (~other.present).any()
    # The first and the last frame of the record are centres too.
    assert drawn.centre.min() == 0 and drawn.centre.max() == len(exported) - 1
    # Half a step of the type; one of int8 is a sixteenth here.
    tolerance = {"float32": 1e-5, "float16": 3e-4, "int8": 1 / 31}[product.name]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_other_tools_read_place_and_time(field: SimpleNamespace, product: Path) -> None:
    import rioxarray  # noqa: F401

    plain = xr.open_zarr(product / "embedding.zarr", consolidated=False, decode_coords="all")
    assert plain.rio.crs.to_epsg() == 32631
    assert plain["embedding"].rio.bounds() == (600000, 5599830, 600260, 5600040)
    assert np.datetime64("2022-03-01") < plain["time"].values[0] < np.datetime64("2022-03-15")


@pytest.mark.parametrize("finished", [0, 4])
def test_a_killed_export_resumes_and_ends_alike(
    field: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int
) -> None:
    undisturbed, output, state = (tmp_path / name for name in ("whole", "product", "state"))
    field.embed(undisturbed)
    whole = TileStore.write
    written: list[object] = []

    def dies(self: TileStore, tile: object, part: object) -> None:
        if len(written) == finished:
            self._arrays["embedding"][..., :10, :10] = 7
            (state / "embedding.zarr" / "embedding" / "0.77.partial").write_bytes(b"torn")
            raise KeyboardInterrupt
        written.append(tile)
        whole(self, tile, part)

    monkeypatch.setattr(TileStore, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        field.embed(output, state=state)
    with pytest.raises(UserError, match="no finished embeddings"):
        read_embedding(output)

    again: list[object] = []

    def counts(self: TileStore, tile: object, part: object) -> None:
        again.append(tile)
        whole(self, tile, part)

    monkeypatch.setattr(TileStore, "write", counts)
    field.embed(output, state=state)
    assert not state.exists()
    assert contents(output) == contents(undisturbed)
    # The first tile was overwritten after it had been recorded, which is noticed.
    assert len(again) == 9 - finished + (finished > 0)


def test_a_fusion_of_other_encoders_is_an_error(field: SimpleNamespace, tmp_path: Path) -> None:
    other = field.write_models(tmp_path / "models", seed=2)
    with pytest.raises(UserError, match="another encoder of radar"):
        field.embed(tmp_path / "out", models=field.models | {"radar": other["radar"]})
    assert not (tmp_path / "out").exists()


def test_a_cube_without_radar_is_embedded(field: SimpleNamespace, tmp_path: Path) -> None:
    field.embed(tmp_path / "out", cubes={"optical": field.cubes["optical"]})
    data = read_embedding(tmp_path / "out")
    assert np.isfinite(data["embedding"]).any()
    assert np.isnan(data["days_to_radar"]).all()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("radar", lambda cube: cube.assign_coords(x=cube["x"] + 10), "another grid"),
        ("optical", lambda cube: cube.assign(mask=xr.full_like(cube["mask"], 1)), "no date has"),
        ("optical", lambda cube: cube.assign_coords(band=["B01", "B08", "B11"]), "has the bands"),
    ],
)
def test_cubes_that_cannot_be_embedded_are_errors(
    field: SimpleNamespace,
    tmp_path: Path,
    name: str,
    change: Callable[[xr.Dataset], xr.Dataset],
    message: str,
) -> None:
    cubes = field.cubes | {name: tmp_path / f"{name}.zarr.zip"}
    write_cube(change(read_cube(field.cubes[name])), cubes[name])
    with pytest.raises(UserError, match=message):
        field.embed(tmp_path / "out", cubes=cubes)


def test_a_cube_of_other_pixels_than_the_training_is_an_error(
    field: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained_at_20_m(folder: Path) -> models.TrainedEncoder:
        return replace(load_encoder(folder), inputs={"resolution_m": [20.0]})

    monkeypatch.setattr(models, "load_encoder", trained_at_20_m)
    with pytest.raises(UserError, match=r"zarr\.zip: has pixels of 10 m, .* trained on 20 m"):
        field.embed(tmp_path / "out")
    assert not (tmp_path / "out").exists()
