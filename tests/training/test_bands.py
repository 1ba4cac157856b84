"""A cube whose bands are in another order is refused wherever a model meets it."""

import pytest

from pipeline_lib.config import Embed
from pipeline_lib.cubes import read_cube, write_cube
from pipeline_lib.embed import embed_cube
from pipeline_lib.errors import UserError
from pipeline_lib.models import load_encoder
from pipeline_lib.training.data import SensorDataset

REFUSED = r"has the bands B08 B04 B03, but B03 B04 B08 are needed, in this order"


@pytest.fixture
def permuted(world, tmp_path):
    """The first training cube under its own name, its bands reversed."""
    path = tmp_path / world.cubes["optical"][0].name
    write_cube(read_cube(world.cubes["optical"][0]).isel(band=slice(None, None, -1)), path)
    return path


def test_training_refuses_permuted_bands(world, permuted, tmp_path):
    whole = world.cubes["optical"][0]
    world.cubes["optical"][0] = permuted
    try:
        with pytest.raises(UserError, match=REFUSED):
            world.train("optical", tmp_path / "model", tmp_path / "state")
    finally:
        world.cubes["optical"][0] = whole
    assert not (tmp_path / "model").exists()


def test_evaluation_refuses_permuted_bands(world, permuted):
    trained = load_encoder(world.root / "models" / "optical")
    with pytest.raises(UserError, match=REFUSED):
        SensorDataset.of(trained, [permuted])


def test_embedding_refuses_permuted_bands(world, permuted, tmp_path):
    short = world.training.model_copy(update={"max_epochs": 1})
    block = world.fusion.model_copy(update={"training": short})
    world.fuse(tmp_path / "fusion", tmp_path / "state", chosen=("optical",), block=block)
    with pytest.raises(UserError, match=REFUSED):
        embed_cube(
            cube="site-0",
            cubes={"optical": permuted},
            encoders={"optical": world.root / "models" / "optical"},
            fusion=tmp_path / "fusion",
            embed=Embed(),
            state=tmp_path / "exports",
            output=tmp_path / "embeddings",
            config_digest="test",
        )
    assert not (tmp_path / "embeddings").exists()
