"""Indices of vegetation that GPP is commonly read from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.gpp.methods import KNDVI, NIRV

Array = NDArray[np.float64]


def vegetation_indices(*, red: Array, near_infrared: Array) -> dict[str, Array]:
    """NIRv and kNDVI, by name.

    NIRv = NDVI * near infrared (Badgley et al. 2017, doi 10.1126/sciadv.1602244); kNDVI with a
    radial basis function of width (near infrared + red) / 2, which equals tanh(NDVI ** 2)
    (Camps-Valls et al. 2021, doi 10.1126/sciadv.abc7447). Both by spyndex.

    Parameters
    ----------
    red, near_infrared
        Reflectance, of one shape.
    """
    import spyndex

    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = spyndex.computeKernel(
            "RBF", {"a": near_infrared, "b": red, "sigma": (near_infrared + red) / 2}
        )
        found = spyndex.computeIndex(
            [NIRV, KNDVI], {"N": near_infrared, "R": red, "kNN": 1.0, "kNR": kernel}
        )
    return {name: np.asarray(values) for name, values in zip((NIRV, KNDVI), found, strict=True)}
