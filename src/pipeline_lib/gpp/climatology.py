"""The usual GPP of a day of the year: what any prediction has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

YEAR_DAYS = 365.25
KERNEL_DAYS = 10.0
"""Standard deviation of the weights in time: seasons are kept, weather is smoothed away."""


def climatology(
    *,
    fitted_day: NDArray[np.floating],
    fitted_gpp: NDArray[np.floating],
    day: NDArray[np.floating],
    kernel_days: float = KERNEL_DAYS,
) -> NDArray[np.float64]:
    """Usual GPP of a day of the year: a Gaussian-weighted mean over days of the year.

    Nadaraya-Watson regression on the circle of the year, so that 31 December and 1 January
    are neighbours.

    Parameters
    ----------
    fitted_day, fitted_gpp
        Day of the year (1..366) and GPP (g C m-2 d-1) of the days it is fitted on, ``(n,)``.
    day
        Days of the year to tell, ``(m,)``.
    kernel_days
        Standard deviation of the weights, days.

    Returns
    -------
    ndarray, ``(m,)``

    Raises
    ------
    ValueError
        If it is fitted on nothing.
    """
    if len(fitted_day) == 0:
        raise ValueError("a climatology needs at least one day")
    whole = np.arange(1, 367, dtype=np.float64)
    apart = np.abs(whole[:, np.newaxis] - np.asarray(fitted_day, dtype=np.float64))
    apart = np.minimum(apart, YEAR_DAYS - apart)
    weight = np.exp(-0.5 * (apart / kernel_days) ** 2)
    usual = (weight @ np.asarray(fitted_gpp, dtype=np.float64)) / weight.sum(axis=1)
    return np.asarray(np.interp(day, whole, usual), dtype=np.float64)
