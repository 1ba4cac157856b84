"""What the values of cubes are, beyond their bands: recorded with a model, and compared with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr
from typing_extensions import TypedDict  # pydantic validates it

from pipeline_lib.cubes import grid_of, read_cube
from pipeline_lib.errors import UserError

LOG = logging.getLogger(__name__)


class Inputs(TypedDict, total=False):
    """What there is among some cubes; nothing is known of models of earlier versions.

    ``rolling_mean`` is whether values are means over time, ``nadir`` whether they are known to be
    corrected to nadir view; a user's file does not say.
    """

    quantity: list[str]
    resolution_m: list[float]
    rolling_mean: list[bool]
    nadir: list[bool]


def inputs_of(paths: Iterable[Path]) -> Inputs:
    """The `Inputs` of cubes together."""
    found = []
    for path in paths:
        with read_cube(path, load=False) as cube:
            found.append(_facts(cube))
    quantities, sizes, smoothed, nadir = (
        sorted(set(values)) for values in zip(*found, strict=True)
    )
    return Inputs(quantity=quantities, resolution_m=sizes, rolling_mean=smoothed, nadir=nadir)


def _facts(cube: xr.Dataset) -> tuple[str, float, bool, bool]:
    quantity = str(cube.attrs["quantity"])
    smoothed = f"{quantity}_unfiltered" in cube
    return quantity, round(grid_of(cube).resolution, 3), smoothed, "c_factor" in cube.coords


def check_inputs(cube: xr.Dataset, trained: Inputs, where: str | Path) -> None:
    """Raise UserError if an opened cube is not what a model was trained on.

    Models of earlier versions recorded nothing, which is compared with nothing.
    """
    quantity, step, smoothed, nadir = _facts(cube)
    if quantity not in trained.get("quantity", [quantity]):
        raise UserError(f"{where}: holds {quantity}, and the model needs {trained['quantity'][0]}")
    sizes = trained.get("resolution_m", [step])
    if not np.isclose(sizes, step, rtol=1e-3).any():
        known = " or ".join(f"{size:g}" for size in sizes)
        raise UserError(
            f"{where}: has pixels of {step:g} m, and the model was trained on {known} m; resample "
            "it, or use a model of its pixel size"
        )
    if smoothed not in trained.get("rolling_mean", [smoothed]):
        has, needs = ("a", "without") if smoothed else ("no", "with one")
        raise UserError(
            f"{where}: has {has} rolling mean over time, and the model was trained {needs}; build "
            "it with the model's rolling_mean of the sensor"
        )
    if nadir not in trained.get("nadir", [nadir]):
        known = "is corrected" if nadir else "is not known to be corrected"
        LOG.warning("%s: %s to nadir view (brdf), unlike the training", where, known)
