"""From the cubes of one place to its stored embeddings."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from pipeline_lib.code_digest import code_digest
from pipeline_lib.config import Embed, Sensor
from pipeline_lib.cubes import grid_of
from pipeline_lib.dataset import check_inputs
from pipeline_lib.embed.item import embedding_item
from pipeline_lib.embed.store import Layout, TileStore, layers_of, template_of
from pipeline_lib.embed.streaming import open_frames, streamed
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_file

log = logging.getLogger(__name__)


def embed_cube(
    *,
    cube: str,
    cubes: Mapping[str, Path],
    encoders: Mapping[str, Path],
    fusion: Path,
    embed: Embed,
    state: Path,
    output: Path,
    config_digest: str,
    workers: int = 1,
) -> None:
    """Embed every pixel and usable date of a cube, resuming where a killed run stopped.

    ``cubes`` has its file per sensor; any but the reference sensor may be missing. ``encoders``
    and ``fusion`` are folders of trained models. ``state`` is the working folder of an unfinished
    export; ``output`` receives ``embedding.zarr``, ``item.json`` and, last, ``manifest.json``.
    So many ``workers`` compute a tile each, on a core each; a GPU computes one tile at a time.

    Raises UserError if the reference sensor's cube has no valid pixel, if cubes lie on different
    grids, or if the fusion was trained with other encoders.
    """
    # Torch is loaded here, so that those who only read embeddings do without it.
    import torch

    from pipeline_lib.embed.dense import crops_of, embed_crops
    from pipeline_lib.models import load_encoder, load_fusion

    joined = load_fusion(fusion)
    trained = {sensor: load_encoder(encoders[sensor]) for sensor in joined.encoders}
    joined.check_encoders(trained)
    reference = joined.block.reference
    data, frames = {}, {}
    for sensor in (name for name in cubes if name in trained):
        scaling = trained[sensor].normalisation
        data[sensor], frames[sensor] = open_frames(cubes[sensor], scaling)
        check_inputs(data[sensor], trained[sensor].inputs, cubes[sensor])
    for sensor, other in data.items():
        if grid_of(other) != grid_of(data[reference]):
            raise UserError(
                f"{cubes[sensor]}: lies on another grid than {cubes[reference]}; "
                "bring both to one grid"
            )
    if not len(frames[reference].times):
        raise UserError(f"{cubes[reference]}: no date has a valid pixel; there is nothing to embed")

    digests = {"model_digest": joined.model_digest, "config_digest": config_digest}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for model in (joined.fusion, *(each.autoencoder for each in trained.values())):
        model.to(device)
    origin = {
        "cube": cube,
        **digests,
        "cubes": {sensor: digest_file(cubes[sensor]) for sensor in sorted(data)},
        "dtype": embed.dtype,
        "tile_px": embed.tile_px,
        # Other devices give other last digits.
        "device": device.type,
        "code": code_digest(Path(__file__)),
    }
    layers = layers_of(
        reference,
        [sensor for sensor in trained if sensor != reference],
        units=data[reference][data[reference].attrs["quantity"]].attrs["units"],
        dtype=embed.dtype,
    )
    template = _template(data[reference], joined.block.embedding_dim, digests)
    layout = Layout(template, layers, embed.tile_px)
    store = TileStore(state, origin, layout)
    pending = store.pending()
    written = streamed(
        pending,
        read=lambda tile: crops_of(frames, trained, tile),
        compute=lambda crops: embed_crops(
            crops=crops, encoders=trained, fusion=joined, batch=embed.batch_size
        ),
        write=store.write,
        workers=workers if device.type == "cpu" else 1,
    )
    threads = torch.get_num_threads()
    # One core each: a sum that several share depends in its last digits on how many they are.
    torch.set_num_threads(1)
    try:
        for number, _ in enumerate(written, 1):
            log.info("%s: %d of %d tiles", cube, number, len(pending))
    finally:
        torch.set_num_threads(threads)
    context = trained[reference].context
    item = embedding_item(
        layout,
        parameters={
            **digests,
            "encoders": joined.encoders,
            "temporal_resolution": "single_acquisition",
            "dimensions": joined.block.embedding_dim,
            "reference": reference,
            "context_px": context.patch_px,
            "context_frames": context.frames,
        },
        model=_seen_from(output, fusion),
        sources=[
            link
            for sensor, opened in data.items()
            for link in _sources(opened, _seen_from(output, cubes[sensor]), trained[sensor].sensor)
        ],
    )
    store.finish(output, item)


def _template(cube: xr.Dataset, features: int, digests: Mapping[str, str]) -> xr.Dataset:
    """Coordinates and attributes of the store."""
    coords = {
        "time": ("time", cube["time"].values, {"standard_name": "time"}),
        **{name: cube[name].variable for name in ("y", "x", "spatial_ref")},
    }
    kept = ("cube", "site", "land_cover", "license", "source")
    attributes = {
        "title": f"Embeddings of {cube.attrs['cube']}",
        **{key: cube.attrs[key] for key in kept if key in cube.attrs},
        **digests,
        "source_items": json.dumps(_items(cube)),
    }
    return template_of(coords, features, attributes)


def _items(cube: xr.Dataset) -> list[list[str]]:
    """Ids of the scenes of each frame."""
    return [str(ids).split() for ids in cube["item"].values] if "item" in cube.coords else []


def _seen_from(folder: Path, path: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _sources(cube: xr.Dataset, path: str, sensor: Sensor) -> list[dict[str, str]]:
    """Links to a cube, and to its scenes where a STAC API offers them."""
    links = [{"href": path, "title": f"cube of {sensor.collection}"}]
    api = str(cube.attrs.get("source", "")).rpartition(" ")[2]
    if api.startswith("http"):
        items = f"{api.rstrip('/')}/collections/{sensor.collection}/items"
        scenes = sorted({scene for frame in _items(cube) for scene in frame})
        links += [{"href": f"{items}/{scene}", "title": scene} for scene in scenes]
    return links
