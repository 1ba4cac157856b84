"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests run side by side: one thread each, or they fight for the cores.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds the Snakefile."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that stands beside the project; absent for most users."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no real data at ../shared/data")
    return path


@pytest.fixture(scope="session")
def canopy_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The canopy table of the simulated archive."""
    from simulated_archive import write_canopy_table

    path: Path = tmp_path_factory.mktemp("canopy") / "canopy.npz"
    write_canopy_table(path)
    return path
