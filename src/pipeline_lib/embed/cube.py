"""From the cubes of one place to its stored embeddings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import track

from pipeline_lib import __version__
from pipeline_lib.config import Embed, Sensor
from pipeline_lib.cubes import grid_of, read_cube
from pipeline_lib.dataset import Normalisation, valid_pixels
from pipeline_lib.embed.arrays import Frames
from pipeline_lib.embed.item import embedding_item
from pipeline_lib.embed.store import Layout, TileStore
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_file, digest_of, library_digest


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
) -> None:
    """Embed every pixel and usable date of a cube, resuming where a killed run stopped.

    Parameters
    ----------
    cube
        Name of the cube.
    cubes
        Its file per sensor; any sensor but the reference one may be lacking.
    encoders
        Folder of the trained encoder per sensor.
    fusion
        Folder of the trained fusion.
    embed
        Stored type, tiles and batches.
    state
        Working folder of unfinished exports, on the file system of ``output``.
    output
        Folder that receives ``embedding.zarr``, ``item.json`` and, last,
        ``manifest.json``.
    config_digest
        Digest of the config keys that the product depends on.

    Raises
    ------
    UserError
        If the reference sensor's cube is lacking or has no valid pixel, if cubes lie on
        different grids, or if the fusion was trained with other encoders.
    """
    # Torch is loaded here, so that those who only read embeddings do without it.
    from pipeline_lib.embed.dense import embed_tile
    from pipeline_lib.models import load_encoder, load_fusion

    joined = load_fusion(fusion)
    trained = {
        sensor: load_encoder(encoders[sensor]) for sensor in joined.encoders if sensor in encoders
    }
    joined.check_encoders(trained)
    reference = joined.block.reference
    if reference not in cubes:
        raise UserError(f"{cube}: has no cube of {reference}, whose dates the embeddings have")
    data = {sensor: read_cube(path) for sensor, path in cubes.items() if sensor in trained}
    for sensor, other in data.items():
        trained[sensor].check_bands(
            [str(band) for band in other["band"].values], str(cubes[sensor])
        )
        if grid_of(other) != grid_of(data[reference]):
            raise UserError(
                f"{cubes[sensor]}: lies on another grid than {cubes[reference]}; "
                "bring both to one grid"
            )
    frames = {sensor: usable_frames(data[sensor], trained[sensor].normalisation) for sensor in data}
    if not len(frames[reference].times):
        raise UserError(f"{cubes[reference]}: no date has a valid pixel; there is nothing to embed")

    models = {sensor: model.digest for sensor, model in trained.items()}
    digests = {
        "model_digest": digest_of({"fusion": joined.digest, "encoders": models}),
        "config_digest": config_digest,
    }
    origin = {
        "cube": cube,
        **digests,
        "cubes": {sensor: digest_file(cubes[sensor]) for sensor in sorted(data)},
        "dtype": embed.dtype,
        "tile_px": embed.tile_px,
        "code": library_digest(["cubes", "dataset", "models", "embed"]),
    }
    layout = Layout(
        template=_template(data[reference], frames[reference], joined.block.features, digests),
        sensors=tuple(sensor for sensor in trained if sensor != reference),
        reference=reference,
        units=data[reference][data[reference].attrs["quantity"]].attrs["units"],
        dtype=embed.dtype,
        tile_px=embed.tile_px,
    )
    store = TileStore(state, origin, layout)
    terminal = Console(stderr=True)
    pending = store.pending()
    for tile in track(pending, cube, console=terminal, disable=not terminal.is_terminal):
        part = embed_tile(
            frames=frames, encoders=trained, fusion=joined, tile=tile, batch=embed.batch
        )
        store.write(tile, part)
    item = embedding_item(
        cube=cube,
        grid=grid_of(data[reference]),
        times=frames[reference].times,
        dtype=embed.dtype,
        parameters={
            **digests,
            "encoders": models,
            "temporal_resolution": "single_acquisition",
            "dimensions": joined.block.features,
            "reference": reference,
            "context_px": trained[reference].context.patch_px,
            "context_frames": trained[reference].context.frames,
        },
        model=Path(os.path.relpath(fusion, output)).as_posix(),
        sources=[
            link
            for sensor in data
            for link in _sources(data[sensor], cubes[sensor], trained[sensor].sensor, output)
        ],
        license_name=str(data[reference].attrs.get("license", "other")),
    )
    store.finish(output, item)


def usable_frames(cube: xr.Dataset, normalisation: Normalisation) -> Frames:
    """The frames of a cube that have a valid pixel, scaled as the encoder wants them."""
    valid = valid_pixels(cube)
    usable = valid.any(axis=(1, 2))
    values = normalisation.apply(cube[cube.attrs["quantity"]].values[usable])
    values[~np.broadcast_to(valid[usable][:, None], values.shape)] = 0
    return Frames(values, valid[usable], cube["time"].values[usable])


def _template(
    cube: xr.Dataset, frames: Frames, features: int, digests: Mapping[str, str]
) -> xr.Dataset:
    """Coordinates and attributes of the store."""
    kept = ("site", "land_cover", "license", "source")
    return xr.Dataset(
        coords={
            "time": ("time", frames.times, {"standard_name": "time"}),
            "feature": ("feature", np.arange(features), {"long_name": "number of the feature"}),
            **{name: cube[name].variable for name in ("y", "x", "spatial_ref")},
        },
        attrs={
            "Conventions": "CF-1.11",
            "title": f"Embeddings of {cube.attrs['cube']}",
            "cube": cube.attrs["cube"],
            **{key: cube.attrs[key] for key in kept if key in cube.attrs},
            **digests,
            "software": f"pipeline_lib {__version__}",
            "source_items": json.dumps(_items(cube.sel(time=frames.times))),
        },
    )


def _items(cube: xr.Dataset) -> list[list[str]]:
    """Ids of the scenes of each frame."""
    return [str(ids).split() for ids in cube["item"].values] if "item" in cube.coords else []


def _sources(cube: xr.Dataset, path: Path, sensor: Sensor, output: Path) -> list[dict[str, str]]:
    """Links to a cube, and to its scenes where a STAC API offers them."""
    own = Path(os.path.relpath(path, output)).as_posix()
    links = [{"href": own, "title": f"cube of {sensor.collection}"}]
    api = str(cube.attrs.get("source", "")).rpartition(" ")[2]
    if api.startswith("http"):
        items = f"{api.rstrip('/')}/collections/{sensor.collection}/items"
        scenes = sorted({scene for frame in _items(cube) for scene in frame})
        links += [{"href": f"{items}/{scene}", "title": scene} for scene in scenes]
    return links
