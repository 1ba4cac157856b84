"""When to lower the learning rate and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline_lib.config import Training


@dataclass
class Patience:
    """Progress of a criterion that shall fall.

    Parameters
    ----------
    best, best_epoch
        Lowest value so far and the epoch it was reached in.
    scale
        Factor of the learning rate.
    waited
        Epochs since the best value or the last lowering of the rate.
    """

    best: float = math.inf
    best_epoch: int = -1
    scale: float = 1.0
    waited: int = 0

    def update(self, value: float, epoch: int, block: Training) -> bool:
        """Take the value of an epoch; returns whether it is the best so far."""
        if value < self.best:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        if self.waited > block.plateau_patience:
            self.scale *= block.plateau_factor
            self.waited = 0
        return False

    def spent(self, epoch: int, block: Training) -> bool:
        """Whether training shall stop after this epoch."""
        return epoch - self.best_epoch >= block.stop_patience


def learning_rate(block: Training, step: int, scale: float) -> float:
    """Rate of a step (counted from 0): linear warm-up, then constant but for the plateaus."""
    warm = min(1.0, (step + 1) / block.warmup_steps) if block.warmup_steps else 1.0
    return block.learning_rate * warm * scale
