from pathlib import Path

import pytest

from simulated_archive import write_canopy_table


@pytest.fixture(scope="session")
def canopy_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("canopy") / "canopy.npz"
    write_canopy_table(path)
    return path
