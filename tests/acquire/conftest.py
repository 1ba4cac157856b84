"""Scenes that the tests write themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scenes import Archive


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    folder = tmp_path / "archive"
    folder.mkdir()
    return Archive(folder)


@pytest.fixture
def token_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Points Planetary Computer's client to a token endpoint, without a token in its cache."""
    from planetary_computer.sas import TOKEN_CACHE
    from planetary_computer.settings import Settings

    def point(url: str) -> None:
        monkeypatch.setenv("PC_SDK_SAS_URL", url)
        Settings.get.cache_clear()
        TOKEN_CACHE.clear()

    yield point
    monkeypatch.undo()
    Settings.get.cache_clear()
    TOKEN_CACHE.clear()
