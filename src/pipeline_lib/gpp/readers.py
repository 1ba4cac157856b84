"""What reads GPP from windows: the paper's transformer, ridge regression, boosted trees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Regressor
from pipeline_lib.files import atomic_path
from pipeline_lib.gpp.windows import hold_out

HOLD_OUT_SHARE = 0.15
"""Share of the runs of learned windows that decides when the transformer stops."""
MAX_FOLDS = 10
THIRDS = 3

Windowed = NDArray[np.float32]
"""``(window, day, feature)``."""


@dataclass(frozen=True)
class Examples:
    """Windows to learn from.

    Parameters
    ----------
    inputs
        ``(window, day, feature)``.
    target
        GPP of the last day, g C m-2 d-1, ``(window,)``.
    run
        Run of neighbouring windows, ``(window,)``; see `windows.runs`.
    """

    inputs: Windowed
    target: NDArray[np.float32]
    run: NDArray[np.int64]


Reader = Callable[[Examples, Windowed, np.random.Generator], NDArray[np.float64]]
"""Learns from examples and predicts the GPP of other windows, g C m-2 d-1."""


def transformer(block: Regressor) -> Reader:
    """The paper's regressor; runs of the examples that are held out decide when it stops."""

    def read(examples: Examples, asked: Windowed, rng: np.random.Generator) -> NDArray[np.float64]:
        # Torch is loaded by those alone who need it.
        from pipeline_lib.gpp.regressor import fit_regressor

        fitted = fit_regressor(
            inputs=examples.inputs,
            target=examples.target,
            held_out=hold_out(examples.run, share=HOLD_OUT_SHARE, generator=rng),
            block=block,
            seed=int(rng.integers(2**31)),
        )
        return fitted.predict(asked)

    return read


def resumable(reader: Reader, *, about: str, folder: Path) -> Reader:
    """A reader that keeps what it has predicted, so that after a kill only the rest is fitted.

    Parameters
    ----------
    reader
        What predicts.
    about
        Whatever its predictions depend on besides examples, asked windows and chance.
    folder
        Of the kept predictions.
    """

    def read(examples: Examples, asked: Windowed, rng: np.random.Generator) -> NDArray[np.float64]:
        digest = hashlib.sha256(about.encode())
        digest.update(json.dumps(rng.bit_generator.state, sort_keys=True).encode())
        for values in (examples.inputs, examples.target, examples.run, asked):
            digest.update(repr(values.shape).encode() + np.ascontiguousarray(values).tobytes())
        kept = folder / f"{digest.hexdigest()}.npy"
        if not kept.exists():
            with atomic_path(kept) as partial, partial.open("wb") as handle:
                np.save(handle, reader(examples, asked, rng))
        predicted: NDArray[np.float64] = np.load(kept, allow_pickle=False)
        return predicted

    return read


def summary(inputs: Windowed) -> NDArray[np.float64]:
    """The last day of each window and the means of its thirds, ``(window, 4 * feature)``.

    What a regression without a sense of time is given of a window's past.
    """
    thirds = np.array_split(inputs.astype(np.float64), THIRDS, axis=1)
    return np.concatenate([inputs[:, -1], *(third.mean(axis=1) for third in thirds)], axis=1)


def ridge(examples: Examples, asked: Windowed, rng: np.random.Generator) -> NDArray[np.float64]:
    """Ridge regression on `summary`, its penalty chosen on runs that are left out in turn.

    A reader without chance: `rng` is not drawn from.
    """
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    from pipeline_lib.evaluate.probe_scores import RIDGE_PENALTIES, MeanLossRidge

    x, y = summary(examples.inputs), examples.target.astype(np.float64)
    splitter = GroupKFold(min(MAX_FOLDS, len(np.unique(examples.run))))
    folds = list(splitter.split(x, groups=examples.run))
    # One fit of each fold solves all penalties: a column of targets for each.
    repeated = np.tile(y[:, np.newaxis], len(RIDGE_PENALTIES))
    candidates = make_pipeline(StandardScaler(), MeanLossRidge(RIDGE_PENALTIES))
    # Sums that several threads share depend in their last digits on how many there are.
    with threadpool_limits(1):
        errors = ((cross_val_predict(candidates, x, repeated, cv=folds) - repeated) ** 2).sum(
            axis=0
        )
        # The first of equals is the strongest.
        chosen = RIDGE_PENALTIES[np.argmin(errors)]
        model = make_pipeline(StandardScaler(), MeanLossRidge(chosen)).fit(x, y)
        predicted: NDArray[np.float64] = model.predict(summary(asked))
    return predicted


def boosting(examples: Examples, asked: Windowed, rng: np.random.Generator) -> NDArray[np.float64]:
    """Gradient-boosted trees on `summary`, of a fixed and modest size.

    Friedman 2001, doi 10.1214/aos/1013203451, on histograms as in scikit-learn. Each split looks
    at half of the features, which is where chance comes in.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    trees = HistGradientBoostingRegressor(
        learning_rate=0.1,
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=10,
        max_features=0.5,
        early_stopping=False,
        random_state=int(rng.integers(2**31)),
    )
    with threadpool_limits(1):
        trees.fit(summary(examples.inputs), examples.target)
        guessed: NDArray[np.float64] = trees.predict(summary(asked))
    return guessed
