"""Agreement of predicted with observed GPP."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEFINITIONS = {
    "rmse": "square root of the mean squared difference, g C m-2 d-1",
    "nrmse": "rmse / (max - min) of the observed values of the same rows",
    "mae": "mean absolute difference, g C m-2 d-1",
    "r2": "1 - sum of squared differences / sum of squared deviations of observed from its mean",
    "bias": "mean of predicted - observed, g C m-2 d-1",
}


def agreement(observed: ArrayLike, predicted: ArrayLike) -> dict[str, float | int | None]:
    """``n`` and the metrics of `DEFINITIONS`, for values ``(n,)`` in g C m-2 d-1.

    None where one is undefined (no rows, or observations that do not vary). ``r2`` is the
    coefficient of determination, not the squared correlation: it is negative where the mean would
    do better.
    """
    true, guess = np.asarray(observed, np.float64), np.asarray(predicted, np.float64)
    if true.shape != guess.shape:
        raise ValueError(f"shapes differ: {true.shape} and {guess.shape}")
    if true.size == 0:
        return {"n": 0, **dict.fromkeys(DEFINITIONS)}
    error = guess - true
    rmse = float(np.sqrt(np.mean(error**2)))
    spread = float(true.max() - true.min())
    deviation = float(np.sum((true - true.mean()) ** 2))
    return {
        "n": int(true.size),
        "rmse": rmse,
        "nrmse": rmse / spread if spread > 0 else None,
        "mae": float(np.mean(np.abs(error))),
        "r2": 1 - float(np.sum(error**2)) / deviation if spread > 0 else None,
        "bias": float(np.mean(error)),
    }


def rmse_difference(
    observed: NDArray[np.floating],
    one: NDArray[np.floating],
    other: NDArray[np.floating],
    *,
    block: NDArray[np.str_],
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, float]:
    """RMSE of one method minus that of another, with a 90 % interval.

    Of days with observed GPP and the name of a block, ``(n,)``, and the predictions of each fit,
    ``(n, fit)``, whose means are compared. Neighbouring days have similar errors, so whole blocks
    of days are drawn with replacement (block bootstrap, Kunsch 1989, doi 10.1214/aos/1176347265);
    so are the fits of either method, since other seeds would have given others. Returns ``rmse``,
    negative where the first is better, and ``low`` and ``high``, its 5th and 95th percentile.
    """
    _, row = np.unique(block, return_inverse=True)
    size = np.bincount(row).astype(np.float64)
    share = np.full(len(size), 1 / len(size))

    def error(fits: NDArray[np.floating], weight: NDArray[np.float64]) -> float:
        squares = np.bincount(row, (fits.mean(axis=1) - observed) ** 2)
        return float(np.sqrt(weight @ squares / (weight @ size)))

    drawn = []
    for _ in range(resamples):
        weight = rng.multinomial(len(size), share).astype(np.float64)
        chosen = [fits[:, rng.integers(fits.shape[1], size=fits.shape[1])] for fits in (one, other)]
        drawn.append(error(chosen[0], weight) - error(chosen[1], weight))
    low, high = np.quantile(drawn, [0.05, 0.95])
    whole = np.ones(len(size))
    difference = error(one, whole) - error(other, whole)
    return {"rmse": difference, "low": float(low), "high": float(high)}
