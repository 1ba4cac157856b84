"""One finished run for all tests of the workflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import TINY, snakemake


@pytest.fixture(scope="session")
def finished(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run."""
    folder = tmp_path_factory.mktemp("run")
    shown = snakemake(project_root, folder, "--configfile", str(TINY))
    assert shown.returncode == 0, shown.stdout[-4000:] + shown.stderr[-8000:]
    return folder
