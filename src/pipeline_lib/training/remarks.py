"""What a user should know of a training: how large it is, and whether it ended as it should."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_lib.training.runs import TrainingData
from pipeline_lib.training.tasks import CRITERION, Task

LOG = logging.getLogger("pipeline_lib.training")

IMPROVEMENT = 0.01
"""Relative fall of the validation's criterion that counts as an improvement."""
LEAST_SPREAD = 1e-3
"""Standard deviation of a dimension, of the largest one's, below which it says nothing."""


def announce(task: Task, data: TrainingData) -> None:
    """Log the size of a training, and first that its warm-up never ends where that is so."""
    block, drawn = data.block, data.training_samples(epoch=0)
    steps = -(-len(drawn) // block.batch_size)
    learned = sum(p.numel() for p in task.parameters() if p.requires_grad)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    cubes = {split: len(dataset.index.stack) for split, dataset in data.datasets.items()}
    if block.warmup_steps >= max(2, steps * block.max_epochs):
        LOG.warning("%s: %s", data.name, _endless(data, steps * block.max_epochs))
    LOG.info(
        "%s: per epoch %d training samples from %d cubes, %d validation samples from %d",
        *(data.name, len(drawn), cubes["training"]),
        *(len(data.validation_samples()), cubes["validation"]),
    )
    LOG.info(
        "%s: at most %d epochs of %d steps, the first %d of which are warm-up",
        *(data.name, block.max_epochs, steps, block.warmup_steps),
    )
    LOG.info("%s: %d parameters, %d x %s", data.name, learned, block.devices, device)


def shortcomings(
    data: TrainingData,
    criterion: str,
    curves: Sequence[Mapping[str, Any]],
    latents: NDArray[np.float64],
) -> list[str]:
    """What went wrong in a training that ended, a sentence each.

    ``curves`` are the rows of ``curves.csv``, from epoch 0 on, the start; ``latents``
    ``(sample, dimension)`` those of validation samples.
    """
    block = data.block
    rows = [row for row in curves if row["split"] == "validation"]
    values = [row[criterion] for row in rows]
    steps, epochs, best = rows[-1]["step"], len(rows) - 1, int(np.argmin(values))
    recent = block.plateau_patience
    before = min(values[:-recent] or values[:1])
    stopped = epochs - best >= block.stop_patience
    what = "error at the target pixel" if criterion == CRITERION else criterion
    found = []
    if block.warmup_steps >= max(2, steps):
        found.append(_endless(data, steps))
    lower = f"lower training.learning_rate ({block.learning_rate:g})"
    if best == 0:
        found.append(
            f"the validation's {what} was in none of {epochs} epochs as low as at the start, "
            f"{values[0]:.3g} (last {values[-1]:.3g}): the start is kept; {lower}"
        )
    elif rows[best].get(CRITERION, 0) > 1 or (best <= 2 and (stopped or best == 1 < epochs - 1)):
        found.append(
            f"the validation's {what} was lowest in epoch {best} of {epochs}, {values[best]:.3g} "
            f"(last {values[-1]:.3g}): it diverged or learned nothing; {lower}"
        )
    elif not stopped and (epochs == 1 or values[best] < (1 - IMPROVEMENT) * before):
        limit = "max_epochs" if epochs == block.max_epochs else "max_minutes"
        found.append(
            f"it ended at training.{limit} ({getattr(block, limit):g}) while the validation's "
            f"{what} still fell, from {before:.3g} to {values[best]:.3g} in the last epochs; raise "
            "it"
        )
    spread = latents.std(axis=0)
    if len(dead := np.flatnonzero(spread <= LEAST_SPREAD * max(spread.max(), LEAST_SPREAD))):
        found.append(
            f"dimension {', '.join(map(str, dead))} of {len(spread)} (from 0) hardly varies, by at "
            f"most {spread[dead].max():.1e}; it says nothing of a sample"
        )
    return found


def _endless(data: TrainingData, steps: int) -> str:
    return (
        f"the warm-up never ends: it has {data.block.warmup_steps} steps, and the training "
        f"{steps}; lower training.warmup_steps"
    )
