"""Scores of linear probes: fitted on some samples, scored on others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.evaluate.probe_targets import Array, Labels

MIN_SAMPLES = 50
"""Samples, of each fit and each scoring, under which a score is left out."""
MAX_GROUPS = 10
"""Groups at most that are left out in turn; more sites are pooled into as many."""
RIDGE_STRENGTHS = np.logspace(4, -6, 21)
CLASS_STRENGTHS = np.logspace(2, -4, 7)
"""Penalties per sample to choose from, the strongest first: it predicts the mean, or all classes
alike. The unit is that of the mean loss, so that a number means the same for fits of any size."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Origin:
    """Where samples come from.

    Parameters
    ----------
    site, cube
        ``(sample,)``, names.
    position
        ``(sample, axis)``: place within the cube, the slowest axis first.
    """

    site: Labels
    cube: Labels
    position: Rows

    def take(self, kept: NDArray[np.bool_]) -> Origin:
        """The origin of some of the samples."""
        return Origin(self.site[kept], self.cube[kept], self.position[kept])

    def left_out(self) -> list[tuple[Rows, Rows]]:
        """Rows to fit on and rows to judge on, one group of samples left out at a time.

        A group is a site; the cubes where all samples are of one site; `MAX_GROUPS` contiguous
        blocks of the cube where all are of one cube. Groups are pooled into `MAX_GROUPS` of
        similar size.
        """
        from sklearn.model_selection import GroupKFold

        order = np.lexsort(self.position.T[::-1])
        blocks = np.argsort(order) * MAX_GROUPS // len(order)
        levels: tuple[NDArray[Any], ...] = (self.site, self.cube, blocks)
        groups = next(level for level in levels if len(np.unique(level)) > 1)
        folds = GroupKFold(min(MAX_GROUPS, len(np.unique(groups))))
        return list(folds.split(groups, groups=groups))


def ridge_score(
    fit: tuple[Array, Array], origin: Origin, held_out: tuple[Array, Array]
) -> float | None:
    """R2 of a ridge regression on held-out samples, mean over the targets' columns.

    Features are standardised by the fit's mean and deviation. The strength of the penalty (Hoerl
    and Kennard 1970) is chosen for each column by the squared error on groups of the fit that
    are left out in turn (Stone 1974): whole sites, since samples of one site resemble each
    other and would reward a fit that knows the site by heart.

    Parameters
    ----------
    fit, held_out
        Features ``(sample, feature)`` and targets ``(sample, column)``. Samples with a
        NaN in the targets are left out.
    origin
        Of the samples of the fit.

    Returns
    -------
    float or None
        Coefficient of determination: 1 is perfect, 0 is as good as the held-out samples' own
        mean, and what is worse is negative. Columns that do not vary in the held-out samples
        are left out; none where no column varies, or either side has under `MIN_SAMPLES`.
    """
    from sklearn.metrics import r2_score

    told = known_values(fit, origin, held_out)
    if told is None:
        return None
    x, y, origin, x_new, y_new = told
    errors = sum(
        ((ridge_guesses(x[rows], y[rows], x[judged]) - y[judged]) ** 2).sum(axis=1)
        for rows, judged in origin.left_out()
    )
    # The first of equals is the strongest.
    chosen = np.argmin(errors, axis=0)
    guess = ridge_guesses(x, y, x_new)[chosen, :, np.arange(len(chosen))].T
    return float(r2_score(y_new, guess))


def known_values(
    fit: tuple[Array, Array], origin: Origin, held_out: tuple[Array, Array]
) -> tuple[Array, Array, Origin, Array, Array] | None:
    """What a probe of numbers goes by: samples with a target, columns that vary.

    Parameters
    ----------
    fit, origin, held_out
        As in `ridge_score`.

    Returns
    -------
    tuple or None
        Features, targets and origin of the fit, features and targets of the held-out samples;
        none where `ridge_score` has none.
    """
    known, known_new = _whole(fit[1]), _whole(held_out[1])
    x, y = fit[0][known], fit[1][known]
    x_new, y_new = held_out[0][known_new], held_out[1][known_new]
    if min(len(x), len(x_new)) < MIN_SAMPLES:
        return None
    varying = y_new.std(axis=0) > 0
    if not varying.any():
        return None
    return x, y[:, varying], origin.take(known), x_new, y_new[:, varying]


def _whole(targets: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(targets).all(axis=1))


def ridge_guesses(x: Array, y: Array, x_new: Array) -> Array:
    """What ridge regressions of each of `RIDGE_STRENGTHS` predict.

    Parameters
    ----------
    x, y
        Features ``(sample, feature)`` and targets ``(sample, column)`` of the fit.
    x_new
        Features ``(other sample, feature)``.

    Returns
    -------
    array
        ``(strength, other sample, column)``.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    x, x_new, mean = scaler.transform(x), scaler.transform(x_new), y.mean(axis=0)
    variances, axes = np.linalg.eigh(x.T @ x / len(x))
    along = axes.T @ (x.T @ (y - mean) / len(x))
    shrunk = along / (variances[:, None] + RIDGE_STRENGTHS[:, None, None])
    return (x_new @ axes) @ shrunk + mean


def class_score(
    fit: tuple[Array, Labels], origin: Origin, held_out: tuple[Array, Labels]
) -> tuple[float | None, int, int]:
    """Balanced accuracy of a multinomial logistic regression on held-out samples.

    Features are standardised by the fit; classes weigh the same in the fit. The strength of the
    penalty is chosen by the log loss, classes weighing the same, on groups of the fit that are
    left out in turn, as in `ridge_score`. Few sites make balanced accuracy too coarse to choose
    by. Samples without a class (an empty text) are left out, and held-out ones of a class that
    the fit has not seen; where no class is in two groups, the strongest penalty is taken.

    Parameters
    ----------
    fit, held_out
        Features ``(sample, feature)`` and classes ``(sample,)``.
    origin
        Of the samples of the fit.

    Returns
    -------
    score, classes, unseen
        Mean recall over the held-out classes (Brodersen et al. 2010), of which chance finds
        ``1 / classes``; none where there is one class or either side has under `MIN_SAMPLES`.
        The number of these classes, and of those left out since the fit has not seen them.
    """
    told, classes, unseen = told_classes(fit, origin, held_out)
    if told is None:
        return None, classes, unseen
    x, y, origin, x_new, y_new = told
    chosen = _class_strength(x, y, origin)
    (shares,) = class_probabilities(x, y, x_new, np.array([chosen]))
    guess = np.unique(y)[shares.argmax(axis=1)]
    return mean_recall(y_new, guess), classes, unseen


def told_classes(
    fit: tuple[Array, Labels], origin: Origin, held_out: tuple[Array, Labels]
) -> tuple[tuple[Array, Labels, Origin, Array, Labels] | None, int, int]:
    """What a probe of classes goes by: samples with a class, held-out ones of a class of the fit.

    Parameters
    ----------
    fit, origin, held_out
        As in `class_score`.

    Returns
    -------
    told, classes, unseen
        Features, classes and origin of the fit, features and classes of the held-out samples,
        or none; the numbers of classes: all as of `class_score`.
    """
    known = fit[1] != ""
    x, y = fit[0][known], fit[1][known]
    named = held_out[1] != ""
    x_new, y_new = held_out[0][named], held_out[1][named]
    seen = np.isin(y_new, y)
    unseen = len(np.unique(y_new[~seen]))
    x_new, y_new = x_new[seen], y_new[seen]
    classes = len(np.unique(y_new))
    if min(len(x), len(x_new)) < MIN_SAMPLES or classes < 2:
        return None, classes, unseen
    return (x, y, origin.take(known), x_new, y_new), classes, unseen


def mean_recall(truth: Labels, guess: Labels) -> float:
    """Balanced accuracy: the mean recall of the classes of some samples (Brodersen et al. 2010)."""
    return float(np.mean([(guess[truth == one] == one).mean() for one in np.unique(truth)]))


def _class_strength(x: Array, y: Labels, origin: Origin) -> float:
    losses = np.full((len(CLASS_STRENGTHS), len(y)), np.nan)
    for rows, left_out in origin.left_out():
        classes = np.unique(y[rows])
        judged = left_out[np.isin(y[left_out], classes)]
        if len(judged) == 0:
            continue
        column = np.searchsorted(classes, y[judged])
        found = class_probabilities(x[rows], y[rows], x[judged], CLASS_STRENGTHS)
        for loss, shares in zip(losses, found, strict=True):
            share = shares[np.arange(len(judged)), column]
            loss[judged] = -np.log(share.clip(np.finfo(np.float64).tiny))
    told = np.isfinite(losses[0])
    means = [losses[:, told & (y == one)].mean(axis=1) for one in np.unique(y[told])]
    # The first of equals is the strongest.
    return float(CLASS_STRENGTHS[np.argmin(sum(means, np.zeros(len(losses))))])


def class_probabilities(x: Array, y: Labels, x_new: Array, strengths: Array) -> Iterator[Array]:
    """Probabilities of the classes by logistic regressions of some strengths, one after the other.

    Parameters
    ----------
    x, y
        Features ``(sample, feature)`` and classes ``(sample,)`` of the fit.
    x_new
        Features ``(other sample, feature)``.
    strengths
        ``(strength,)``, penalties per sample.

    Yields
    ------
    array
        ``(other sample, class)``, classes as `numpy.unique` orders them.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    x, x_new = scaler.transform(x), scaler.transform(x_new)
    # Each fit starts where the stronger penalty before it ended, which is near.
    probe = LogisticRegression(class_weight="balanced", max_iter=2000, warm_start=True)
    for strength in strengths:
        if len(np.unique(y)) == 1:
            yield np.ones((len(x_new), 1))
        else:
            probe.set_params(C=1 / (strength * len(x))).fit(x, y)
            yield probe.predict_proba(x_new)


def number_scores(
    fit_features: Mapping[str, Array],
    fit: Array,
    origin: Origin,
    features: Mapping[str, Array],
    truth: Array,
) -> dict[str, Any]:
    """Scores of `ridge_score` by set of features, as `probes.probe` returns them.

    Parameters
    ----------
    fit_features, fit, origin
        Set -> ``(sample, feature)``, and targets ``(sample, column)``, of the samples of the fit,
        and where these come from.
    features, truth
        The same of the held-out samples.
    """
    counts = [int(_whole(values).sum()) for values in (fit, truth)]
    scores = {
        name: ridge_score((fit_features[name], fit), origin, (features[name], truth))
        for name in features
    }
    return {
        "metric": "r2",
        "fit_samples": counts[0],
        "samples": counts[1],
        "scores": scores,
        "reason": _reason(scores, counts, "does not vary"),
    }


def class_scores(
    fit_features: Mapping[str, Array],
    fit: Labels,
    origin: Origin,
    features: Mapping[str, Array],
    truth: Labels,
) -> dict[str, Any]:
    """Scores of `class_score` by set of features, as `probes.probe` returns them.

    Parameters
    ----------
    fit_features, fit, origin
        Set -> ``(sample, feature)``, and classes ``(sample,)``, of the samples of the fit, and
        where these come from.
    features, truth
        The same of the held-out samples.
    """
    found = {
        name: class_score((fit_features[name], fit), origin, (features[name], truth))
        for name in features
    }
    scores = {name: score for name, (score, _, _) in found.items()}
    _, classes, unseen = next(iter(found.values()))
    counts = [int((fit != "").sum()), int((np.isin(truth, fit) & (truth != "")).sum())]
    return {
        "metric": "balanced_accuracy",
        "fit_samples": counts[0],
        "samples": counts[1],
        "classes": classes,
        "unseen_classes": unseen,
        "scores": scores,
        "reason": _reason(scores, counts, "has one class only"),
    }


def _reason(scores: Mapping[str, float | None], counts: Sequence[int], other: str) -> str | None:
    """Why there is no score; none where there is one."""
    if all(score is not None for score in scores.values()):
        return None
    for count, where in zip(counts, ("to fit on", "to score"), strict=True):
        if count < MIN_SAMPLES:
            return f"{count} samples {where}, under {MIN_SAMPLES}"
    return f"the target {other} in the samples to score"
