"""What the trainings of encoders and of the fusion have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, Generic, Protocol, TypeVar
from zlib import crc32

import numpy as np

from pipeline_lib.config import Training
from pipeline_lib.dataset import Draw, SequenceIndex, cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of
from pipeline_lib.seeds import generator
from pipeline_lib.training.batches import VALIDATION_SHARE, Batches
from pipeline_lib.training.groups import group_metrics, land_cover_of
from pipeline_lib.training.loop import fit, threads
from pipeline_lib.training.tasks import Task

CUBES = "cubes"
PROGRESS = "progress"

BatchType = TypeVar("BatchType")


class Source(Protocol[BatchType]):
    """Samples of a split."""

    def draw(self, rng: np.random.Generator, count: int | None, where: str) -> Draw:
        """Draw samples, at most ``count``."""

    def batches(self, drawn: Draw, size: int) -> Batches[BatchType]:
        """Batches of drawn samples."""


@dataclass(frozen=True)
class Draws(Generic[BatchType]):
    """The batches of a training, which depend on nothing but the seed and the epoch.

    So a resumed training equals an uninterrupted one, and each of several processes draws the
    same.

    Parameters
    ----------
    name
        What is trained.
    seed
        Of all draws.
    block
        Number of samples of an epoch and of a batch.
    sources
        ``training`` and ``validation``.
    """

    name: str
    seed: int
    block: Training
    sources: Mapping[str, Source[BatchType]]

    def training(self, epoch: int) -> Batches[BatchType]:
        """Batches of an epoch."""
        rng = generator(self.seed, f"{self.name} training", epoch)
        return self._batches("training", rng, self.block.max_samples)

    def validation(self) -> Batches[BatchType]:
        """Batches that every epoch is validated on."""
        most = self.block.max_samples
        count = None if most is None else max(1, round(most * VALIDATION_SHARE))
        return self._batches("validation", generator(self.seed, f"{self.name} validation"), count)

    def _batches(
        self, split: str, rng: np.random.Generator, count: int | None
    ) -> Batches[BatchType]:
        drawn = self.sources[split].draw(rng, count, f"{split} of {self.name}")
        return self.sources[split].batches(drawn, self.block.batch_size)


def train_and_save(
    task: Task,
    draws: Draws[Any],
    *,
    chosen: Mapping[str, list[Path]],
    split_table: Path,
    held_out: SequenceIndex,
    identity: Mapping[str, Any],
    data_digest: str,
    config_digest: str,
    state: Path,
    save: Callable[..., object],
) -> None:
    """Train, save the best weights, and remove the state.

    Parameters
    ----------
    task, draws
        What learns, and from which samples.
    chosen
        Files of each split; the model's description tells their number.
    split_table
        File of `dataset.write_split`.
    held_out
        Index that the samples of the validation are drawn from.
    identity
        What else the result depends on.
    data_digest, config_digest
        Of the training data and of the config; kept with the model.
    state
        Folder that a killed training goes on from.
    save
        Takes ``metrics``, ``groups``, ``training`` and ``curves``; see `models.save_encoder`.
    """
    validation = draws.validation()
    outcome = fit(
        task,
        block=draws.block,
        train=draws.training,
        validation=validation,
        state=state / PROGRESS,
        identity=digest_of(
            {
                **identity,
                # A training may go on with another number of devices.
                "training": draws.block.model_dump(mode="json", exclude={"devices"}),
                "seed": draws.seed,
                "data": data_digest,
            }
        ),
    )
    with threads(draws.block.threads):
        groups = group_metrics(task, validation, held_out, land_cover_of(split_table))
    save(
        metrics=outcome.metrics,
        groups=groups,
        training={
            "cubes": {split: len(paths) for split, paths in chosen.items()},
            "data_digest": data_digest,
            "config_digest": config_digest,
            "seed": draws.seed,
            "epochs": outcome.epochs,
            "best_epoch": outcome.best_epoch,
        },
        curves=outcome.curves,
    )
    rmtree(state)


def splits_of(cubes: list[Path], split_table: Path, what: str) -> dict[str, list[Path]]:
    """Training and validation files.

    Raises
    ------
    UserError
        If one of them is empty.
    """
    chosen = {name: cubes_of(cubes, split_table, name) for name in ("training", "validation")}
    for name, paths in chosen.items():
        if not paths:
            raise UserError(f"{split_table}: no {name} cube of {what}; add sites or preset a split")
    return chosen


def weights_seed(seed: int, name: str) -> int:
    """Seed of a model's first weights, another one for each name."""
    return (seed << 32) ^ crc32(name.encode())
