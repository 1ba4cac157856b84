"""Seams: the export of one area in tiles of 64 and 256 pixels beside the export in one piece.

Cubes and models are invented (default widths, random weights), with clouds; the stored values
are float32. The largest difference of each pixel, over dates and features, becomes a map.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from invented import SENSORS, Scene, write_cubes, write_models
from matplotlib.colors import LogNorm
from measure import measured, one_thread, show
from numpy.typing import NDArray

from pipeline_lib.config import Embed
from pipeline_lib.embed import embed_cube, read_embedding
from pipeline_lib.report.style import drawing

LIMIT = 1e-5
TILES = (64, 256)
FLOOR = 1e-8
"""Where the map's scale begins."""


def prepare(folder: Path, scene: Scene) -> None:
    """Write models and cubes."""
    write_models(folder / "models", SENSORS)
    (folder / "cubes").mkdir()
    write_cubes(folder / "cubes", SENSORS, scene)


def export(folder: Path, tile_px: int) -> NDArray[np.float32]:
    """Embeddings ``(time, feature, y, x)`` as they are stored."""
    output = folder / f"tiles-{tile_px}"
    embed_cube(
        cube="invented",
        cubes={name: folder / "cubes" / f"{name}.zarr.zip" for name in SENSORS},
        encoders={name: folder / "models" / name for name in SENSORS},
        fusion=folder / "models" / "fusion",
        embed=Embed(dtype="float32", tile_px=tile_px),
        state=folder / "state",
        output=output,
        config_digest="none",
    )
    return read_embedding(output)["embedding"].values


def run(pixels: int, dates: int) -> tuple[dict[str, Any], dict[int, NDArray[np.float32]]]:
    """Largest differences, and a map ``(y, x)`` of them for each size of tiles."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured(prepare, folder, Scene(pixels, dates, clear=0.6))
        whole = measured(export, folder, pixels).result
        parts = {size: measured(export, folder, size).result for size in TILES}
    maps = {}
    for size, part in parts.items():
        if not np.array_equal(np.isnan(part), np.isnan(whole)):
            raise AssertionError(f"tiles of {size} px: other pixels are embedded")
        apart = np.nan_to_num(np.abs(part - whole))
        maps[size] = apart.max(axis=(0, 1))
    differences = {f"tiles of {size} px": float(largest.max()) for size, largest in maps.items()}
    result = {
        "limit": LIMIT,
        "largest": differences,
        "spread_of_embeddings": float(np.nanstd(whole)),
        "pixels": pixels,
        "dates": len(whole),
        "embeddings": int(np.isfinite(whole[:, 0]).sum()),
    }
    return result, maps


def draw(maps: dict[int, NDArray[np.float32]], path: Path) -> None:
    """Draw maps of the differences, with the borders of the tiles."""
    pixels = len(next(iter(maps.values())))
    with drawing(path, width=7.2, height=3.6) as figure:
        axes = figure.subplots(1, len(maps), sharey=True)
        norm = LogNorm(FLOOR, 10 * LIMIT)
        for axis, (size, largest) in zip(axes, maps.items(), strict=True):
            extent = (0, pixels / 100, pixels / 100, 0)
            shown = axis.imshow(
                np.maximum(largest, FLOOR), norm=norm, extent=extent, cmap="viridis"
            )
            for border in range(size, pixels, size):
                axis.axvline(border / 100, color="white", linewidth=0.3)
                axis.axhline(border / 100, color="white", linewidth=0.3)
            axis.set(title=f"Tiles of {size} px against one piece", xlabel="x, km")
        axes[0].set_ylabel("y, km")
        bar = figure.colorbar(shown, ax=axes, extend="min")
        bar.set_label("largest difference of a feature")
        bar.ax.axhline(LIMIT, color="white", linewidth=1.5)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--size", type=int, default=300, help="side of the area, pixels")
    parser.add_argument("--dates", type=int, default=10, help="dates of either sensor")
    parser.add_argument("--figure", type=Path, help="draw the maps here")
    arguments = parser.parse_args()
    one_thread()
    result, maps = run(arguments.size, arguments.dates)
    if arguments.figure:
        draw(maps, arguments.figure)
    show(result, arguments.json)
    if max(result["largest"].values()) > LIMIT:
        raise SystemExit("seams: the tiles differ by more than the limit")


if __name__ == "__main__":
    main()
