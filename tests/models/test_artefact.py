import json
import pickle

import numpy as np
import pytest
import torch

from pipeline_lib.config import SENTINEL_1, Context, Encoder
from pipeline_lib.config import Fusion as Block
from pipeline_lib.dataset import Normalisation
from pipeline_lib.errors import UserError
from pipeline_lib.models import (
    Autoencoder,
    Fusion,
    load_encoder,
    load_fusion,
    save_encoder,
    save_fusion,
)

SENSOR = SENTINEL_1.model_copy(
    update={"encoder": Encoder(width=16, head_width=16, heads=2, decoder_width=16)}
)
CONTEXT = Context(patch_px=7, frames=3)
TRAINING = {
    "cubes": {"training": 2, "validation": 1},
    "data_digest": "d",
    "config_digest": "c",
    "seed": 1,
    "epochs": 3,
    "best_epoch": 2,
}


def save(folder, seed=0):
    torch.manual_seed(seed)
    return save_encoder(
        folder,
        name="sentinel-1",
        sensor=SENSOR,
        context=CONTEXT,
        autoencoder=Autoencoder(SENSOR, CONTEXT),
        normalisation=Normalisation(("vv", "vh"), np.float32([0, 0]), np.float32([0.3, 0.1])),
        metrics={"validation": {"centre_mae": 0.01}},
        training=TRAINING,
        curves=[{"epoch": 0, "loss": 1.0}],
    )


def test_loaded_is_saved(tmp_path):
    digest = save(tmp_path / "a")
    trained = load_encoder(tmp_path / "a")
    torch.manual_seed(0)
    original = Autoencoder(SENSOR, CONTEXT)
    for key, value in original.state_dict().items():
        assert torch.equal(value, trained.autoencoder.state_dict()[key])
    assert (trained.digest, trained.sensor, trained.context) == (digest, SENSOR, CONTEXT)
    assert trained.metrics["validation"]["centre_mae"] == 0.01
    assert not trained.autoencoder.training
    assert not any(p.requires_grad for p in trained.autoencoder.parameters())
    trained.check_bands(("vv", "vh"), "cube")
    with pytest.raises(UserError, match="cube: has the bands vh vv"):
        trained.check_bands(("vh", "vv"), "cube")
    card = (tmp_path / "a" / "README.md").read_text()
    assert digest in card and "| centre_mae | 0.01 |" in card


def test_digest_tells_models_apart_and_equal_ones_are_equal(tmp_path):
    assert save(tmp_path / "a") == save(tmp_path / "b") != save(tmp_path / "c", seed=1)
    for name in ("model.safetensors", "model.json", "README.md", "curves.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_loading_leaves_the_random_state_alone(tmp_path):
    save(tmp_path / "a")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_encoder(tmp_path / "a")
    assert torch.equal(torch.rand(1), expected)


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def edit(folder):
    text = json.loads((folder / "model.json").read_text())
    text["normalisation"]["upper"][0] = 0.5
    (folder / "model.json").write_text(json.dumps(text))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "model.safetensors", 3),
        lambda folder: flip(folder / "model.safetensors", -3),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1})),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.json").unlink(),
        lambda folder: (folder / "model.json").write_text("{"),
        lambda folder: (folder / "model.json").write_text("{}"),
        edit,
    ],
)
def test_damaged_models_are_refused_in_one_line(tmp_path, damage):
    save(tmp_path / "a")
    damage(tmp_path / "a")
    with pytest.raises(UserError, match="/a") as caught:
        load_encoder(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_fusion_is_not_taken_for_an_encoder(tmp_path):
    block, latents = Block(width=16, heads=2, layers=1), {"sentinel-1": 2, "sentinel-2": 9}
    torch.manual_seed(0)
    model = Fusion(latents, block)
    digest = save_fusion(
        tmp_path / "fusion",
        block=block,
        fusion=model,
        latents=latents,
        encoders={"sentinel-1": "x", "sentinel-2": "y"},
        metrics={},
        training=TRAINING,
        curves=[{"epoch": 0}],
    )
    trained = load_fusion(tmp_path / "fusion")
    assert trained.digest == digest and trained.block == block
    assert torch.equal(trained.fusion.identity, model.identity)
    with pytest.raises(UserError, match="holds no encoder"):
        load_encoder(tmp_path / "fusion")
    save(tmp_path / "encoder")
    with pytest.raises(UserError, match="holds no fusion"):
        load_fusion(tmp_path / "encoder")
