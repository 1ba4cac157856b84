"""Random generators of all draws."""

from __future__ import annotations

from zlib import crc32

import numpy as np


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator that depends on the seed and on what is drawn, not on the order of draws.

    ``names`` say what is drawn: a purpose, a cube, an epoch and so on.
    """
    keys = [crc32(name.encode()) if isinstance(name, str) else name for name in names]
    return np.random.default_rng([seed, *keys])
