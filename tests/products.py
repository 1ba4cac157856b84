"""Products without models: frames in memory, layouts, and finished exports of any layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.cubes import CLEAR, Grid, make_cube
from pipeline_lib.embed.arrays import Frames, Layers, days_of
from pipeline_lib.embed.store import Layout, TileStore, layers_of, template_of


@dataclass(frozen=True)
class Record:
    """Frames in memory: values ``(time, band, y, x)``, validity ``(time, y, x)``."""

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    times: NDArray[np.datetime64]

    @property
    def days(self) -> NDArray[np.int64]:
        return days_of(self.times)

    def frames(self) -> Frames:
        return Frames(
            self.times,
            self.valid.shape[1:],
            lambda rows, columns: (self.values[..., rows, columns], self.valid[:, rows, columns]),
        )


def layout_of(
    shape: tuple[int, int, int, int],
    *,
    model: str,
    dtype: str = "int8",
    tile_px: int = 32,
    sensors: tuple[str, str] = ("optical", "radar"),
    start: str = "2022-01-03T10:30",
    left: float = 600000,
) -> Layout:
    """Layout of a product of so many dates, features, rows and columns, a date every week."""
    dates, features, height, width = shape
    times = np.datetime64(start, "ns") + np.arange(dates) * np.timedelta64(7, "D")
    cube = make_cube(
        values=np.zeros((dates, 1, height, width), np.float32),
        mask=np.full((dates, height, width), CLEAR, np.uint8),
        times=times,
        bands=["B04"],
        grid=Grid(32631, left, 5600040, 10, height, width),
        quantity="reflectance",
        frames={},
        attributes={},
    )
    coords = {name: cube[name].variable for name in ("time", "y", "x", "spatial_ref")}
    template = template_of(coords, features, {"cube": "field", "model_digest": model})
    layers = layers_of(sensors[0], sensors[1:], units="1", dtype=dtype)
    return Layout(template, layers, tile_px)


def contents(product: Path) -> dict[str, bytes]:
    """Every file of a product but the item, whose links depend on where the product lies."""
    return {
        path.relative_to(product).as_posix(): path.read_bytes()
        for path in sorted(product.rglob("*"))
        if path.is_file() and path.name != "item.json"
    }


def export(
    folder: Path, layers: Layers, layout: Layout, item: dict[str, Any] | None = None
) -> Path:
    """Export layers tile by tile; the folder of the finished product."""
    dtype = layout.layers["embedding"].coding.dtype
    origin = {"model_digest": layout.template.attrs["model_digest"], "dtype": dtype}
    store = TileStore(folder.with_name(f"{folder.name}-state"), origin, layout)
    for tile in store.pending():
        store.write(tile, {name: v[..., tile.rows, tile.columns] for name, v in layers.items()})
    store.finish(folder, item or {})
    return folder
