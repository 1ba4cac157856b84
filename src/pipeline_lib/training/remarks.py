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
    """Log the size of a training, and first of all if its warm-up cannot end."""
    block, drawn = data.block, data.training_samples(epoch=0)
    steps = -(-len(drawn) // block.batch_size)
    total = steps * block.max_epochs
    if warning := endless_warmup(data, total, "will be taken"):
        LOG.warning("%s: %s", data.name, warning)
    learned = sum(p.numel() for p in task.parameters() if p.requires_grad)
    cubes = {split: len(dataset.index.stack) for split, dataset in data.datasets.items()}
    LOG.info(
        "%s: per epoch %d training samples from %d cubes, %d validation samples from %d",
        *(data.name, len(drawn), cubes["training"]),
        *(len(data.validation_samples()), cubes["validation"]),
    )
    LOG.info(
        "%s: %d steps per epoch, at most %d epochs, %d steps in all, %d of them warm-up",
        *(data.name, steps, block.max_epochs, total, block.warmup_steps),
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    LOG.info("%s: %d parameters, %d x %s", data.name, learned, block.devices, device)


def endless_warmup(data: TrainingData, steps: int, taken: str) -> str | None:
    """A sentence if the warm-up has no end within so many steps."""
    block, key = data.block, data.key
    if block.warmup_steps < max(2, steps):
        return None
    reached = block.learning_rate * min(1.0, steps / block.warmup_steps)
    return (
        f"the warm-up never ends: of its {block.warmup_steps} steps {steps} {taken}, at learning "
        f"rates up to {reached:.3g}; lower {key}.warmup_steps"
    )


def shortcomings(
    data: TrainingData,
    criterion: str,
    curves: Sequence[Mapping[str, Any]],
    latents: NDArray[np.float64],
) -> list[str]:
    """What went wrong in a training that ended, a sentence each.

    ``curves`` are the rows of ``curves.csv``, ``latents`` ``(sample, dimension)`` those of
    validation samples.
    """
    block, key = data.block, data.key
    rows = [row for row in curves if row["split"] == "validation"]
    values = [row[criterion] for row in rows]
    epochs, best, recent = len(rows), int(np.argmin(values)), block.plateau_patience
    before = min(values[:-recent] or values[:1])
    what = "error at the target pixel" if criterion == CRITERION else criterion
    found = [endless_warmup(data, rows[-1]["step"], "were taken")]
    if rows[best].get(CRITERION, 0) > 1:
        found.append(
            f"it diverged: its error at the target pixel, {rows[best][CRITERION]:.3g}, exceeds the "
            f"range of the values; lower {key}.learning_rate ({block.learning_rate:g})"
        )
    elif epochs - 1 - best >= block.stop_patience or (best == 0 and epochs > 2):
        if best <= 1:
            found.append(
                f"the validation's {what} did not improve after epoch {best + 1} of {epochs} "
                f"({values[best]:.3g}; last {values[-1]:.3g}); try a lower {key}.learning_rate"
            )
    elif epochs == 1 or values[best] < (1 - IMPROVEMENT) * before:
        limit = "max_epochs" if epochs == block.max_epochs else "max_minutes"
        fell = f", where the validation's {what} fell from {before:.3g} to {values[best]:.3g}"
        found.append(
            f"it ended at {key}.{limit} ({getattr(block, limit):g}) while it still improved in the "
            f"last {min(recent, epochs)} of {epochs} epochs{fell if epochs > 1 else ''}; raise it"
        )
    spread = latents.std(axis=0)
    if len(dead := np.flatnonzero(spread <= LEAST_SPREAD * max(spread.max(), LEAST_SPREAD))):
        found.append(
            f"dimension {', '.join(map(str, dead))} of {len(spread)} (from 0) hardly varies: "
            f"standard deviation {spread[dead].max():.1e}, that of the largest is "
            f"{spread.max():.1e}; it says nothing of a sample"
        )
    return [sentence for sentence in found if sentence]
