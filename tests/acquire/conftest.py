"""Scenes that the tests write themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scenes import Archive, granule_metadata


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    folder = tmp_path / "archive"
    folder.mkdir()
    return Archive(folder)


@pytest.fixture
def textured() -> Callable[[int, int], np.ndarray]:
    """Digital numbers that vary from pixel to pixel, the same at every call."""

    def numbers(count: int, step: int) -> np.ndarray:
        generator = np.random.default_rng([count, step])
        return generator.integers(1200, 4000, (count, count)).astype(np.uint16)

    return numbers


@pytest.fixture
def granule_xml() -> Callable[..., bytes]:
    return granule_metadata
