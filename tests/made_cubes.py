"""Small cubes of given values, and embeddings of them, written as those of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline_lib.config import (
    SENTINEL_1,
    SENTINEL_2,
    Context,
    Encoder,
    Fusion,
    Sensor,
    Sequence,
)
from pipeline_lib.cubes import Grid, make_cube, read_cube, write_cube
from pipeline_lib.embed.store import Layout, TileStore, layers_of, template_of
from pipeline_lib.files import write_csv


def write_made_cube(
    path: Path,
    values: np.ndarray,
    mask: np.ndarray,
    sensor: Sensor,
    *,
    start: str = "2021-01-01",
    days: int | np.ndarray = 6,
    c_factor: float | None = None,
    missing: list[str] | None = None,
    **settings: Any,
) -> Path:
    """Write a cube of values ``(time, band, y, x)``, a frame every few days or on given ones.

    Its name is the file's, its sensor the folder's; settings are those of `make_cube`. Returns it.
    """
    since = days if isinstance(days, np.ndarray) else days * np.arange(len(values))
    times = np.datetime64(start) + since.astype("timedelta64[D]")
    name = path.name.split(".")[0]
    attributes = {"cube": name, "site": name, "land_cover": "grassland"}
    cube = make_cube(
        values=values.astype(np.float32),
        mask=mask.astype(np.uint8),
        times=times,
        bands=sensor.bands,
        grid=Grid(32631, 600000, 5600000, 10, *values.shape[2:]),
        quantity=sensor.quantity,
        attributes=attributes | {"sensor": path.parent.name, "missing": missing or []},
        **{"frames": {}} | settings,
    )
    if c_factor is not None:
        factors = np.full(values.shape[:2], c_factor, np.float32)
        cube = cube.assign_coords(c_factor=(("time", "band"), factors))
    write_cube(cube, path)
    return path


def write_made_embeddings(
    folder: Path, cube: Path, values: np.ndarray, *, model: str = "m"
) -> Path:
    """Write embeddings ``(time, feature, y, x)`` of a cube's dates; their manifest."""
    source = read_cube(cube)
    coords = {key: source[key].variable for key in ("time", "y", "x", "spatial_ref")}
    attributes = {key: source.attrs[key] for key in ("cube", "land_cover")}
    template = template_of(coords, values.shape[1], attributes | {"model_digest": model})
    name = source.attrs["cube"]
    layout = Layout(template, layers_of("optical", [], units="1", dtype="float32"), 64)
    store = TileStore(folder / "state" / name, {"model_digest": model}, layout)
    (tile,) = store.pending()
    embedding, quality = values.astype(np.float32), values[:, 0].astype(np.float32)
    layers = {"embedding": embedding, "context_share": quality, "reconstruction_error": quality}
    store.write(tile, layers)
    store.finish(folder / "embeddings" / name, {})
    return folder / "embeddings" / name / "manifest.json"


def write_split(path: Path, split: dict[str, str], land_cover: str = "grassland") -> Path:
    """Write a split table of cubes that are sites of their own; its path."""
    rows = [
        {"cube": name, "site": name, "land_cover": land_cover, "split": part}
        for name, part in split.items()
    ]
    write_csv(path, rows)
    return path


def write_truth(path: Path, cover: np.ndarray, leaf_area: np.ndarray, times: list[str]) -> Path:
    """Write the truth of a site as the simulated archive does; its path.

    Soil moisture is a tenth of the leaf area.
    """
    area, classes = leaf_area.astype(np.float16), cover.astype(np.int8)
    moisture = (leaf_area / 10).astype(np.float16)
    np.savez_compressed(path, time=times, leaf_area=area, soil_moisture=moisture, cover=classes)
    return path


CONTEXT = Context(patch_px=7, frames=3)
FUSION = Fusion(reference="optical", embedding_dim=4)


def small_sensors(sequence: Sequence) -> dict[str, Sensor]:
    """An optical and a radar sensor whose encoders are small."""
    small = Encoder(width=8, head_width=16, heads=2, head_layers=1, decoder_width=8)
    shared = {"sequence": sequence, "encoder": small}
    bands = {"bands": ("B03", "B04", "B08"), "rgb": None, "latent_dim": 2}
    return {
        "optical": SENTINEL_2.model_copy(update=shared | bands),
        "radar": SENTINEL_1.model_copy(update=shared | {"latent_dim": 1}),
    }
