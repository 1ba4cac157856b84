"""What the trainings of encoders and of the fusion have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch.utils.data import DataLoader

from pipeline_lib.code_digest import code_digest
from pipeline_lib.config import Training
from pipeline_lib.dataset import SampleIndex, cubes_of
from pipeline_lib.files import digest_of, remove_folder
from pipeline_lib.seeds import generator
from pipeline_lib.training.data import Batch, SampleDataset
from pipeline_lib.training.groups import embeddings, group_metrics, land_cover_of
from pipeline_lib.training.tasks import Task

LOG = logging.getLogger("pipeline_lib.training")

FUSION = "fusion"
CUBES = "cubes"
PROGRESS = "progress"
VALIDATION_SHARE = 0.25
"""Validation samples at most, as a share of the samples of an epoch: an epoch's validation
shall not take longer than a tenth of its training."""


@dataclass(frozen=True)
class TrainingData:
    """Loaders of a training, which depend on nothing but the seed and the epoch's number.

    So a resumed training equals an uninterrupted one, and all ranks draw the same samples. ``name``
    is what is trained; there is a dataset for ``training`` and one for ``validation``.
    """

    name: str
    seed: int
    block: Training
    datasets: Mapping[str, SampleDataset]

    def training(self, epoch: int, rank: int = 0, world: int = 1) -> DataLoader[Batch]:
        """Batches of an epoch, drawn anew in each, or one rank's shards of them."""
        drawn = self.training_samples(epoch)
        return self.datasets["training"].loader(drawn, self.block.batch_size, rank, world)

    def training_samples(self, epoch: int) -> SampleIndex:
        """Samples that an epoch learns from, with augmented windows."""
        rng = generator(self.seed, f"{self.name} training", epoch)
        most = self.block.max_samples
        dataset = self.datasets["training"]
        return dataset.draw(rng, most, f"training of {self.name}", augment=True)

    def validation(self, rank: int = 0, world: int = 1) -> DataLoader[Batch]:
        """Batches that every epoch is validated on, or one rank's shards of them."""
        dataset, drawn = self.datasets["validation"], self.validation_samples()
        return dataset.loader(drawn, self.block.batch_size, rank, world)

    def validation_samples(self) -> SampleIndex:
        """Samples that every epoch is validated on."""
        most = self.block.max_samples
        count = None if most is None else max(1, round(most * VALIDATION_SHARE))
        rng = generator(self.seed, f"{self.name} validation")
        return self.datasets["validation"].draw(rng, count, f"validation of {self.name}")


def train_and_save(
    task: Task,
    data: TrainingData,
    *,
    chosen: Mapping[str, list[Path]],
    split_table: Path,
    identity: Mapping[str, Any],
    data_digest: str,
    config_digest: str,
    state: Path,
    save: Callable[..., object],
    record: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Train, save the best weights, and remove the state.

    ``chosen`` are the files of each split. ``identity`` is what the result depends on besides the
    training data, the seed and the optimisation; a state of another identity is discarded.
    ``record`` is kept with the model.
    ``save`` takes ``metrics``, ``groups``, ``training`` and ``curves`` (`models.save_encoder`).
    """
    from pipeline_lib.training.loop import fit
    from pipeline_lib.training.remarks import announce, shortcomings

    announce(task, data)
    outcome = fit(
        task,
        data,
        state=state / PROGRESS,
        identity=digest_of(
            {
                **identity,
                # What other code left may not fit: a module renamed, another order of draws.
                "code": code_digest(Path(__file__)),
                # A training may go on with another number of devices.
                "training": data.block.model_dump(mode="json", exclude={"devices"}),
                "seed": data.seed,
                "data": data_digest,
            }
        ),
    )
    drawn, land_cover = data.validation_samples(), land_cover_of(split_table)
    with threads(data.block.threads):
        _, groups = group_metrics(task, data.datasets["validation"], drawn, land_cover)
        latents = embeddings(task, data.datasets["validation"], drawn)
    remarks = shortcomings(data, task.criterion, outcome.curves, latents)
    for remark in remarks:
        LOG.warning("%s: %s", data.name, remark)
    save(
        metrics=outcome.metrics,
        groups=groups,
        training={
            "cubes": {split: len(paths) for split, paths in chosen.items()},
            "data_digest": data_digest,
            "config_digest": config_digest,
            "seed": data.seed,
            "epochs": outcome.epochs,
            "best_epoch": outcome.best_epoch,
            "remarks": remarks,
            **record,
        },
        curves=outcome.curves,
    )
    remove_folder(state)


def splits_of(cubes: list[Path], split_table: Path) -> dict[str, list[Path]]:
    """Training and validation files."""
    return {name: cubes_of(cubes, split_table, name) for name in ("training", "validation")}


@contextmanager
def initial_weights(seed: int, name: str) -> Iterator[None]:
    """Let torch draw the first weights of a model from a seed of its name, for a while."""
    with torch.random.fork_rng(devices=[]):
        # Torch's CPU generator uses 32 bits of a seed.
        torch.manual_seed(int(generator(seed, name).integers(2**32)))
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with a number of threads, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
