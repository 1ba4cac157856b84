"""Scores of probes: models fitted on some samples and scored on others, by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score, recall_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from pipeline_lib.evaluate.probe_features import Array
from pipeline_lib.evaluate.probe_targets import Labels

MIN_SAMPLES = 50
"""Minimum number of samples, of a fit and of a scoring, for a score to be given."""
MAX_GROUPS = 10
"""Maximum number of cross-validation folds; more sites are pooled into as many."""
RIDGE_PENALTIES = np.logspace(4, -6, 21)
CLASS_PENALTIES = np.logspace(2, -4, 4)
"""Penalties beside the mean loss, so that they mean the same for fits of any size. The strongest
comes first: it predicts the mean, or all classes alike. Among equal errors the first is chosen."""
NEIGHBOURS = (45, 15, 5)
"""Numbers of neighbours to choose from; the most come first, since their vote is the smoothest."""
GROUND_TARGETS = ("leaf_area", "soil_moisture", "land_cover", "label")
"""Targets that a second probe predicts, and that sites left out are scored on: the state of the
ground need not be linear in the features."""

Rows = NDArray[np.int64]
Folds = list[tuple[Rows, Rows]]


@dataclass(frozen=True)
class Origin:
    """Where samples come from: names of sites and cubes, both ``(sample,)``, and the place within
    the cube ``(sample, axis)``, the slowest axis first."""

    site: Labels
    cube: Labels
    position: Rows

    def take(self, kept: NDArray[np.bool_] | Rows) -> Origin:
        """The origin of some of the samples."""
        return Origin(self.site[kept], self.cube[kept], self.position[kept])

    def folds(self) -> Folds:
        """Rows to fit on and rows to validate on, of `GroupKFold`.

        A group is a site: samples of one site resemble each other and would favour a model that
        memorises the site. Where all samples are of one site, a group is a cube; where all are of
        one cube, one of `MAX_GROUPS` contiguous blocks of it.
        """
        order = np.lexsort(self.position.T[::-1])
        blocks = np.argsort(order) * MAX_GROUPS // len(order)
        levels: tuple[NDArray[Any], ...] = (self.site, self.cube, blocks)
        groups = next(level for level in levels if len(np.unique(level)) > 1)
        splitter = GroupKFold(min(MAX_GROUPS, len(np.unique(groups))))
        return list(splitter.split(groups, groups=groups))


Fit = Callable[[Array, NDArray[Any], Folds], BaseEstimator]

BOOSTING = HistGradientBoostingRegressor(
    max_iter=60,
    learning_rate=0.15,
    max_leaf_nodes=8,
    max_bins=63,
    early_stopping=False,
    random_state=0,
)


class MeanLossRidge(Ridge):  # type: ignore[misc]
    """Ridge regression (Hoerl and Kennard 1970) whose penalty stands beside the mean loss."""

    def fit(self, X: Array, y: Array) -> MeanLossRidge:  # noqa: D102
        return super().fit(X, y, np.full(len(X), 1 / len(X)))


class MeanLossLogistic(LogisticRegression):  # type: ignore[misc]
    """Logistic regression whose penalty ``1 / C`` stands beside the mean loss."""

    def fit(self, X: Array, y: Labels) -> MeanLossLogistic:  # noqa: D102
        return super().fit(X, y, np.full(len(X), 1 / len(X)))


class BalancedNeighbours(KNeighborsClassifier):  # type: ignore[misc]
    """Votes of the nearest samples, each divided by the number of samples of its class."""

    def fit(self, X: Array, y: Labels) -> BalancedNeighbours:  # noqa: D102
        self.counts_ = np.unique(y, return_counts=True)[1]
        return super().fit(X, y)

    def predict_proba(self, X: Array) -> Array:  # noqa: D102
        votes = super().predict_proba(X) / self.counts_
        return votes / votes.sum(axis=1, keepdims=True)

    def predict(self, X: Array) -> Labels:  # noqa: D102
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def fit_ridge(x: Array, y: NDArray[Any], folds: Folds) -> Pipeline:
    """Ridge regression on standardised features, its penalty chosen for each column by the
    squared error on the folds (Stone 1974)."""
    # One fit of each fold solves all penalties: a column of targets for each.
    penalties = np.repeat(RIDGE_PENALTIES, y.shape[1])
    errors = _squared_errors(
        _standardised(MeanLossRidge(penalties)), x, np.tile(y, len(RIDGE_PENALTIES)), folds
    )
    chosen = RIDGE_PENALTIES[np.argmin(errors.reshape(len(RIDGE_PENALTIES), -1), axis=0)]
    return _standardised(MeanLossRidge(chosen)).fit(x, y)


def fit_boosting(x: Array, y: NDArray[Any], folds: Folds) -> BaseEstimator:
    """Gradient boosting (Friedman 2001) of one column, the same for every set of features."""
    return clone(BOOSTING).fit(x, y.ravel())


def fit_logistic(x: Array, y: NDArray[Any], folds: Folds) -> Pipeline:
    """Multinomial logistic regression on standardised features, its penalty chosen by the log
    loss on the folds; classes have equal weight throughout.

    Balanced accuracy over a few sites would be too coarse to choose by.
    """
    candidates = [
        _standardised(MeanLossLogistic(C=1 / penalty, class_weight="balanced", max_iter=2000))
        for penalty in CLASS_PENALTIES
    ]
    return _least_loss(candidates, log_loss, x, y, folds)


def fit_voters(x: Array, y: NDArray[Any], folds: Folds) -> Pipeline:
    """Vote of the nearest samples in standardised features, their number chosen by the Brier
    score (1950) on the folds: a log loss is infinite for a class without a vote."""

    def brier(truth: Labels, found: Array, *, sample_weight: Array, labels: Labels) -> float:
        squares = ((found - (truth[:, None] == labels)) ** 2).sum(axis=1)
        return float(np.average(squares, weights=sample_weight))

    candidates = [_standardised(BalancedNeighbours(count)) for count in _counts(folds)]
    return _least_loss(candidates, brier, x, y, folds)


def _standardised(model: BaseEstimator) -> Pipeline:
    return make_pipeline(StandardScaler(), model)


def _counts(folds: Folds) -> list[int]:
    """`NEIGHBOURS`, none more than the samples of the smallest fit."""
    smallest = min(len(rows) for rows, _ in folds)
    return sorted({min(count, smallest) for count in NEIGHBOURS}, reverse=True)


def _squared_errors(model: Pipeline, x: Array, y: Array, folds: Folds) -> Array:
    """Sums ``(column,)`` over all folds."""
    predicted = cross_val_predict(model, x, y, cv=folds).reshape(y.shape)
    return np.asarray(((predicted - y) ** 2).sum(axis=0))


def _least_loss(
    candidates: Sequence[Pipeline],
    loss: Callable[..., float],
    x: Array,
    y: Labels,
    folds: Folds,
) -> Pipeline:
    """The candidate with the least loss on the folds, fitted; classes weigh the same.

    Samples of a class that a fold has not seen are skipped; where there are no others, the first
    candidate is taken.
    """
    classes = np.unique(y)
    found = np.full((len(candidates), len(y), len(classes)), np.nan)
    for rows, validated in folds:
        known = np.isin(classes, y[rows])
        validated = validated[np.isin(y[validated], classes[known])]
        if known.sum() < 2 or len(validated) == 0:
            continue
        for number, candidate in enumerate(candidates):
            model = clone(candidate).fit(x[rows], y[rows])
            found[number, validated] = 0
            found[number][np.ix_(validated, known)] = model.predict_proba(x[validated])
    scored = np.isfinite(found[0, :, 0])
    losses = np.zeros(len(candidates))
    if scored.any():
        weight = compute_sample_weight("balanced", y[scored])
        losses[:] = [
            loss(y[scored], one[scored], sample_weight=weight, labels=classes) for one in found
        ]
    return candidates[int(np.argmin(losses))].fit(x, y)


def target_scores(
    fit_features: Mapping[str, Array],
    fit: NDArray[Any],
    origin: Origin,
    held_out: Mapping[str, tuple[Mapping[str, Array], NDArray[Any]]],
    *,
    second: bool = False,
) -> dict[str, dict[str, Any]]:
    """Scores of probes of one target by split and set of features; each probe is fitted once.

    Of numbers the coefficient of determination, mean over the columns that vary in the held-out
    samples; of classes the balanced accuracy (Brodersen et al. 2010), of which chance has
    ``1 / classes``. Samples without a target (NaN, or an empty text) are skipped, and held-out
    ones of a class that the fit has not seen.

    Parameters
    ----------
    fit_features, fit, origin
        Set -> ``(sample, feature)``, targets ``(sample, column)`` or classes ``(sample,)``, and
        origin of the fit's samples.
    held_out
        Split -> features by set, and targets.
    second
        Whether a second model is scored beside the linear one: of one number gradient boosting, of
        classes nearest neighbours.

    Returns
    -------
    dict
        Split -> what `probes.probe_scores` returns of a target.
    """
    known, classes = _with_target(fit), fit.dtype.kind == "U"
    found: dict[str, dict[str, Any]] = {}
    scored: dict[str, NDArray[np.bool_]] = {}
    for split, (_, truth) in held_out.items():
        rows = _with_target(truth)
        about: dict[str, Any] = {"metric": "r2"}
        constant = "does not vary"
        if classes:
            seen = np.isin(truth, fit)
            unseen = len(np.unique(truth[rows & ~seen]))
            rows &= seen
            number = len(np.unique(truth[rows]))
            about = {"metric": "balanced_accuracy", "classes": number, "unseen_classes": unseen}
            constant = "has one class only"
        about |= {"fit_samples": int(known.sum()), "samples": int(rows.sum()), "reason": None}
        for count, purpose in ((about["fit_samples"], "to fit on"), (about["samples"], "to score")):
            if count < MIN_SAMPLES:
                about["reason"] = f"{count} samples {purpose}, fewer than {MIN_SAMPLES}"
                break
        else:
            if (truth[rows] == truth[rows][:1]).all():
                about["reason"] = f"the target {constant} in the samples to score"
        found[split], scored[split] = about, rows
    splits = [split for split, about in found.items() if about["reason"] is None]
    folds = origin.take(known).folds() if splits else []
    fits: dict[str, Fit] = {"scores": fit_logistic if classes else fit_ridge}
    if second:
        fits |= {"nearest": fit_voters} if classes else {"boosting": fit_boosting}
    for kind, fitted in fits.items():
        for about in found.values():
            about[kind] = dict.fromkeys(fit_features)
        for name, features in fit_features.items() if splits else ():
            model = fitted(features[known], fit[known], folds)
            for split in splits:
                values, truth = held_out[split][0][name], held_out[split][1][scored[split]]
                guess = model.predict(values[scored[split]]).reshape(truth.shape)
                found[split][kind][name] = _agreement(truth, guess)
    return found


def left_out_scores(
    parts: Sequence[tuple[Rows, Rows, Mapping[str, Array], Mapping[str, Array]]],
    target: NDArray[np.generic],
    site: Labels,
) -> dict[str, Any]:
    """Scores of a target whose samples are predicted by models that have seen no sample of their
    site, by probe and set of features.

    ``parts`` are rows to fit on, rows to predict, and the features of both; together they predict
    every row. Probes have scikit-learn's own settings, the same for every set: ridge or logistic
    regression, and gradient boosting or 15 nearest neighbours. Scores are those of `target_scores`,
    every site weighing the same in R2. Classes that a fit has not seen are skipped.
    """
    classes, known = target.dtype.kind == "U", _with_target(target)
    about: dict[str, Any] = {"metric": "balanced_accuracy" if classes else "r2", "reason": None}
    models: dict[str, BaseEstimator] = {"scores": _standardised(Ridge()), "boosting": BOOSTING}
    if classes:
        logistic = LogisticRegression(class_weight="balanced", max_iter=2000)
        nearest = _standardised(BalancedNeighbours(NEIGHBOURS[1]))
        models = {"scores": _standardised(logistic), "nearest": nearest}
    sets = list(parts[0][3])
    guesses = {(kind, name): target.ravel().copy() for kind in models for name in sets}
    scored = np.zeros(len(target), bool)
    for rows, held_out, fit_features, features in parts:
        kept, wanted = known[rows], known[held_out]
        truth = target[rows][kept].ravel()
        if classes:
            wanted = wanted & np.isin(target[held_out], truth)
        if kept.sum() < MIN_SAMPLES or not wanted.any() or (truth == truth[0]).all():
            continue
        scored[held_out[wanted]] = True
        for (kind, name), guess in guesses.items():
            model = clone(models[kind]).fit(fit_features[name][kept], truth)
            guess[held_out[wanted]] = model.predict(features[name][wanted])
    truth = target.ravel()[scored]
    about |= {"samples": int(scored.sum()), "sites": len(np.unique(site[scored]))}
    if classes:
        about["classes"] = len(np.unique(truth))
    if len(truth) < MIN_SAMPLES:
        about["reason"] = f"{len(truth)} samples, fewer than {MIN_SAMPLES}"
    elif about["sites"] < 2:
        about["reason"] = "one site only has the target"
    elif (truth == truth[0]).all():
        about["reason"] = "the target does not vary"
    _, place, count = np.unique(site[scored], return_inverse=True, return_counts=True)
    for kind in models:
        about[kind] = dict.fromkeys(sets)
        for name in sets if about["reason"] is None else ():
            guess = guesses[kind, name][scored]
            about[kind][name] = (
                _agreement(truth, guess)
                if classes
                else float(r2_score(truth, guess, sample_weight=1 / count[place]))
            )
    return about


def _with_target(target: NDArray[Any]) -> NDArray[np.bool_]:
    return target != "" if target.dtype.kind == "U" else np.isfinite(target).all(axis=1)


def _agreement(truth: NDArray[Any], guess: NDArray[Any]) -> float:
    if truth.dtype.kind == "U":
        # Balanced accuracy; scikit-learn's own function warns of classes that are only predicted.
        return float(recall_score(truth, guess, labels=np.unique(truth), average="macro"))
    varying = (truth != truth[:1]).any(axis=0)
    return float(r2_score(truth[:, varying], guess[:, varying]))
