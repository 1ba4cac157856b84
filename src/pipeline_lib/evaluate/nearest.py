"""Scores of probes by nearest neighbours: what lies close in the features, linear or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.evaluate.probe_scores import (
    Origin,
    Rows,
    known_values,
    mean_recall,
    told_classes,
)
from pipeline_lib.evaluate.probe_targets import Array, Labels

NEAREST_TARGETS = ("leaf_area", "land_cover")
"""Targets that are probed by neighbours too: a state of the ground, which need not be linear."""
NEIGHBOURS = (45, 15, 5)
"""Neighbours to choose from, the most first: their mean is the smoothest. Where there are fewer
samples, all of them."""


def nearest_scores(
    fit_features: Mapping[str, Array],
    fit: NDArray[Any],
    origin: Origin,
    features: Mapping[str, Array],
    truth: NDArray[Any],
) -> dict[str, float | None]:
    """Scores of `nearest_number_score`, or of `nearest_class_score`, by set of features.

    Parameters
    ----------
    fit_features, fit, origin
        Set -> ``(sample, feature)``, and targets ``(sample, column)`` or classes ``(sample,)``, of
        the samples of the fit, and where these come from.
    features, truth
        The same of the held-out samples.
    """
    score = nearest_class_score if truth.dtype.kind == "U" else nearest_number_score
    return {
        name: score((fit_features[name], fit), origin, (features[name], truth)) for name in features
    }


def nearest_number_score(
    fit: tuple[Array, Array], origin: Origin, held_out: tuple[Array, Array]
) -> float | None:
    """R2 of the mean of the nearest samples of the fit (Cover and Hart 1967) on held-out samples.

    Features are standardised by the fit, and near is meant in all of them together. The number of
    neighbours is chosen from `NEIGHBOURS` for each column as `probe_scores.ridge_score` chooses
    its penalty: by the squared error on groups of the fit that are left out in turn. Neighbours
    of a sample's own site would vouch for it.

    Parameters
    ----------
    fit, origin, held_out
        As in `probe_scores.ridge_score`.

    Returns
    -------
    float or None
        As of `probe_scores.ridge_score`.
    """
    from sklearn.metrics import r2_score

    told = known_values(fit, origin, held_out)
    if told is None:
        return None
    x, y, origin, x_new, y_new = told
    errors = sum(
        ((_means(y[rows][nearest(x[rows], x[judged])]) - y[judged]) ** 2).sum(axis=1)
        for rows, judged in origin.left_out()
    )
    # The first of equals has the most neighbours.
    chosen = np.argmin(errors, axis=0)
    guess = _means(y[nearest(x, x_new)])[chosen, :, np.arange(len(chosen))].T
    return float(r2_score(y_new, guess))


def nearest_class_score(
    fit: tuple[Array, Labels], origin: Origin, held_out: tuple[Array, Labels]
) -> float | None:
    """Balanced accuracy of the vote of the nearest samples of the fit on held-out samples.

    A vote counts one by the number of samples of its class in the fit, so that classes weigh the
    same. The number of neighbours is chosen by the Brier score (1950) of the shares of the votes,
    classes weighing the same, on groups of the fit that are left out in turn; a log loss bears no
    class without a vote. Samples and classes are left out as in `probe_scores.class_score`.

    Parameters
    ----------
    fit, origin, held_out
        As in `probe_scores.class_score`.

    Returns
    -------
    float or None
        Mean recall over the held-out classes; none where `probe_scores.class_score` has none.
    """
    told, *_ = told_classes(fit, origin, held_out)
    if told is None:
        return None
    x, y, origin, x_new, y_new = told
    losses = np.full((len(NEIGHBOURS), len(y)), np.nan)
    for rows, left_out in origin.left_out():
        known = np.unique(y[rows])
        judged = left_out[np.isin(y[left_out], known)]
        if len(judged):
            truth = y[judged, None] == known
            losses[:, judged] = ((_shares(x[rows], y[rows], x[judged]) - truth) ** 2).sum(axis=2)
    judged = np.flatnonzero(np.isfinite(losses[0]))
    means = [losses[:, judged[y[judged] == one]].mean(axis=1) for one in np.unique(y[judged])]
    # The first of equals has the most neighbours.
    chosen = np.argmin(sum(means, np.zeros(len(losses))))
    guess = np.unique(y)[_shares(x, y, x_new)[chosen].argmax(axis=1)]
    return mean_recall(y_new, guess)


def nearest(x: Array, x_new: Array) -> Rows:
    """The samples of a fit that are nearest to others, in features standardised by the fit.

    Parameters
    ----------
    x, x_new
        Features ``(sample, feature)`` and ``(other sample, feature)``.

    Returns
    -------
    array
        ``(other sample, rank)``: rows of ``x``, the nearest first, as many as the most of
        `NEIGHBOURS` or as there are.
    """
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    search = NearestNeighbors(n_neighbors=min(max(NEIGHBOURS), len(x))).fit(scaler.transform(x))
    return search.kneighbors(scaler.transform(x_new), return_distance=False).astype(np.int64)


def _means(near: Array) -> Array:
    """Means ``(number of neighbours, sample, column)`` of ``(sample, rank, column)``."""
    return np.stack([near[:, :count].mean(axis=1) for count in NEIGHBOURS])


def _shares(x: Array, y: Labels, x_new: Array) -> Array:
    """Shares of the votes ``(number of neighbours, other sample, class)``."""
    classes, counts = np.unique(y, return_counts=True)
    means = _means(((y[:, None] == classes) / counts)[nearest(x, x_new)])
    return means / means.sum(axis=2, keepdims=True)
