import pytest
from made_towers import evaluate, gpp_of, write_towers


@pytest.fixture(scope="session")
def gpp():
    return gpp_of(windows={"other_lengths_days": (60,)})


@pytest.fixture(scope="session")
def evaluated(gpp, tmp_path_factory):
    """A folder with the results of all jobs; of the conifers most days are bad."""
    folder = write_towers(tmp_path_factory.mktemp("evaluated"), gpp, Enf=0.6)
    evaluate(folder, gpp)
    return folder
