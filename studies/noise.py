"""Noise of cubes by distance: whether simulated images flatter what is learned from them.

The noise of a frame is what the frames before and after it do not foretell, as `measure_noise`
takes it. Where neighbours share it, as in real images, a mean over neighbours removes little of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from measure import show

from pipeline_lib.cubes import read_cube
from pipeline_lib.dataset import Normalisation
from pipeline_lib.dataset.noise import correlation_by_distance, residuals
from pipeline_lib.dataset.normalisation import to_scale, valid_pixels
from pipeline_lib.dataset.stacks import load_stack

SCALES = {"reflectance": "square-root", "backscatter": "decibel"}
SPAN_DAYS, TRIPLES, DISTANCES = 40, 40, (1, 2, 3, 4)


def noise_of(path: Path) -> dict[str, float | str]:
    """Share of the spread that is noise, mean over bands, and correlation by distance."""
    with read_cube(path) as cube:
        quantity = str(cube.attrs["quantity"])
        values = np.moveaxis(cube[quantity].values, 1, -1)[valid_pixels(cube)]
        bands = tuple(str(band) for band in cube["band"].values)
        reach = 3 if f"{quantity}_unfiltered" in cube else 1
    scale = SCALES[quantity]
    bounds = np.quantile(to_scale(values, scale), [0.001, 0.999], axis=0).astype(np.float32)
    (stack,) = load_stack([path], Normalisation(bands, *bounds, scale))
    middles = np.arange(reach, len(stack.days) - reach)
    near = stack.days[middles + reach] - stack.days[middles - reach] <= reach * SPAN_DAYS
    chosen = middles[near][:: max(1, int(near.sum()) // TRIPLES)]
    found, size = [], []
    for middle in chosen.tolist():
        residual, valid = residuals(stack, middle, reach)
        if valid.sum() > 400:
            found.append(correlation_by_distance(residual, valid, max(DISTANCES)))
            # The step to the direct neighbour on the right, free of what a whole field shares.
            pairs = valid[:, 1:] & valid[:, :-1]
            size.append((residual[..., 1:] - residual[..., :-1])[:, pairs].std(axis=1) / 2**0.5)
    spread = (to_scale(values, scale) / (bounds[1] - bounds[0])).std(axis=0)
    means = np.nanmean(found, axis=0) if found else np.full(max(DISTANCES) + 1, np.nan)
    step = float((np.median(size, axis=0) / spread).mean()) if size else float("nan")
    return {
        "cube": f"{path.parent.name}/{path.name.removesuffix('.zarr.zip')}",
        "frames": len(found),
        "step": step,
        **{f"at {distance} px": float(means[distance]) for distance in DISTANCES},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cubes", nargs="+", type=Path, help="cubes of a run, .zarr.zip")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    show({"cubes": [noise_of(path) for path in given.cubes]}, given.json)
