"""Fits of the paper's transformer, which are kept so that a killed job goes on where it stood."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.code_digest import code_digest
from pipeline_lib.config import Regressor, Windowing
from pipeline_lib.files import atomic_path
from pipeline_lib.gpp.crossval import Examples, Windowed, predict, write_predictions
from pipeline_lib.gpp.days import columns_of, read_days
from pipeline_lib.gpp.methods import TRANSFORMER, WEATHER, experiments
from pipeline_lib.gpp.windows import cut_windows, hold_out

HELD_OUT_FRACTION = 0.15
"""Fraction of the runs of training windows that decides when the training stops."""


def predict_transformers(
    *,
    folder: Path,
    sensors: Sequence[str],
    tables: Sequence[str] = (),
    windowing: Windowing,
    regressor: Regressor,
    seed: int,
    state: Path,
    processes: int = 1,
) -> None:
    """Write the predictions of the paper's regressor from all inputs and window lengths.

    The folder is that of `read_days`, and receives the files of `methods.experiments`. ``state``
    keeps what each fit predicted, until a run of other fits replaces it. So many processes fit side
    by side; each fit has one thread, so results do not depend on them.
    """
    years = windowing.validation_years
    table = read_days(folder, sensors=sensors, tables=tables, validation_years=years)
    weather = bool(columns_of(table, WEATHER))
    todo = [
        (experiment, cut_windows(table, windowing, experiment.days))
        for experiment in experiments(
            windowing, weather=weather, indices=False, cubes=bool(sensors), tables=tables
        )
        if experiment.regressor == TRANSFORMER
    ]

    def run(kept: KeptFits, *, write: bool) -> None:
        for experiment, windows in todo:
            predicted = predict(
                table,
                windows,
                experiment,
                kept,
                fits=regressor.seeds,
                stride_days=windowing.stride_days,
                seed=seed,
            )
            if write:
                write_predictions(predicted, folder / experiment.file)

    if processes > 1:
        # Each process makes its share of the fits; this one reads them, and makes what is missing.
        # They are forks, since a script of Snakemake cannot be imported again.
        context = multiprocessing.get_context("fork")
        shares = (KeptFits(regressor, state, number, processes) for number in range(processes))
        workers = [
            context.Process(target=run, args=(share,), kwargs={"write": False}) for share in shares
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    kept = KeptFits(regressor, state)
    run(kept, write=True)
    kept.forget_others()


class KeptFits:
    """A regressor that keeps what it predicted in a folder, and does not fit the same again.

    One of several workers makes only its share of the fits, and none once the process that started
    it is gone; the other predictions are NaN.
    """

    def __init__(self, block: Regressor, folder: Path, worker: int = 0, workers: int = 1) -> None:
        self.block = block
        self.folder = folder
        self.about = block.model_dump_json(exclude={"seeds"}) + code_digest(Path(__file__))
        self.worker, self.workers, self.parent = worker, workers, os.getpid()
        self.count = 0
        self.used: set[Path] = set()

    def __call__(
        self, examples: Examples, asked: Windowed, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Predict the GPP of the asked windows."""
        self.count += 1
        mine = self.count % self.workers == self.worker
        if self.workers > 1 and (not mine or os.getppid() != self.parent):
            return np.full(len(asked), np.nan)
        digest = hashlib.sha256(self.about.encode())
        digest.update(json.dumps(rng.bit_generator.state, sort_keys=True).encode())
        for values in (examples.inputs, examples.target, examples.run, asked):
            digest.update(repr(values.shape).encode() + np.ascontiguousarray(values).tobytes())
        path = self.folder / f"{digest.hexdigest()}.npy"
        if not path.exists():
            with atomic_path(path) as partial, partial.open("wb") as handle:
                np.save(handle, self._fit(examples, asked, rng))
        self.used.add(path)
        predicted: NDArray[np.float64] = np.load(path, allow_pickle=False)
        return predicted

    def _fit(
        self, examples: Examples, asked: Windowed, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        # Only a process that fits loads torch.
        from pipeline_lib.gpp.transformer import fit_regressor

        fitted = fit_regressor(
            inputs=examples.inputs,
            target=examples.target,
            held_out=hold_out(examples.run, fraction=HELD_OUT_FRACTION, generator=rng),
            block=self.block,
            seed=int(rng.integers(2**31)),
        )
        return fitted.predict(asked)

    def forget_others(self) -> None:
        """Remove the predictions that were not asked for."""
        for path in self.folder.iterdir():
            if path not in self.used:
                path.unlink()
