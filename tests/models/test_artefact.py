import hashlib
import json
import pickle
import re
import shutil
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load as parse
from safetensors.torch import save as serialise

from pipeline_lib.config import SENTINEL_1, Context, Encoder
from pipeline_lib.config import Fusion as Block
from pipeline_lib.dataset import Normalisation
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of
from pipeline_lib.models import (
    Autoencoder,
    Fusion,
    artefact,
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
        groups={
            "land_cover": {"urban": {"sam": 0.5, "samples": 12}},
            "seasons": {"DJF": {"sam": 0.25}, "JJA": {"sam": 0.125}},
        },
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
    card = (tmp_path / "a" / "README.md").read_text()
    assert digest in card and "| centre_mae | 0.01 |" in card
    assert f"decoder included: {sum(p.numel() for p in original.parameters()):,}." in card
    assert all(f" | {value:g} |" in card for value in SENSOR.loss.model_dump().values())
    assert "by land-cover class of the site\n\n| | urban |\n|---|---|\n| sam | 0.5 |" in card
    assert "| | DJF | JJA |\n|---|---|---|\n| sam | 0.25 | 0.125 |" in card


def test_equal_models_have_equal_digests_and_files(tmp_path):
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


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "model.safetensors", 3),
        lambda folder: flip(folder / "model.safetensors", -3),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1})),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.json").unlink(),
        lambda folder: (folder / "model.json").write_text("{}"),
        lambda folder: (folder / "model.json").write_text('{"kind": ' + "[" * 10**5),
        lambda folder: (folder / "model.json").write_text('{"kind": ' + "9" * 10**5 + "}"),
        lambda folder: flip(folder / "model.json", -20),
    ],
)
def test_damaged_models_are_rejected_in_one_line(tmp_path, damage):
    save(tmp_path / "a")
    damage(tmp_path / "a")
    assert_rejected(load_encoder, tmp_path / "a")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", None, r"^file not found: .*model.safetensors; copy or download"),
        ("model.safetensors", LFS, r"model.safetensors: a Git LFS pointer, .*`git lfs pull`"),
        ("model.json", LFS, r"model.json: a Git LFS pointer"),
        ("model.safetensors", b"<!DOCTYPE html>", r"model.safetensors: a web page, not the file"),
        ("model.safetensors", -100, r"not a whole safetensors file, of \d+ bytes .*; copy or"),
        ("model.json", b"{", r"model.json: not valid JSON .*; copy or download"),
    ],
)
def test_what_arrived_instead_of_a_model_is_named(tmp_path, name, content, message):
    save(tmp_path / "a")
    path = tmp_path / "a" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:content])
    with pytest.raises(UserError, match=message):
        load_encoder(tmp_path / "a")


def test_weights_of_another_model_and_a_later_version_are_named(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / name)
    flip(tmp_path / "a" / "model.safetensors", -3)
    with pytest.raises(UserError, match=r"a: .* do not match the digest .* of two models; copy"):
        load_encoder(tmp_path / "a")
    sign(tmp_path / "b", lambda content: content | {"library": "pipeline_lib 9.0", "lens": 1})
    with pytest.raises(UserError, match=r"written by pipeline_lib 9\.0, and not read by this"):
        load_encoder(tmp_path / "b")


def save_joint(folder):
    block, latents = Block(), {"sentinel-1": 2, "sentinel-2": 9}
    model, encoders = Fusion(latents, block), {"sentinel-1": "x", "sentinel-2": "y"}
    results = {"metrics": {}, "training": TRAINING, "curves": [{"epoch": 0}]}
    digest = save_fusion(
        folder, block=block, fusion=model, latents=latents, encoders=encoders, **results
    )
    return digest, block, model


def test_fusion_is_not_taken_for_an_encoder(tmp_path):
    digest, block, model = save_joint(tmp_path / "fusion")
    trained = load_fusion(tmp_path / "fusion")
    assert trained.digest == digest and trained.block == block
    assert torch.equal(trained.fusion.into, model.into)
    with pytest.raises(UserError, match="holds no encoder"):
        load_encoder(tmp_path / "fusion")
    save(tmp_path / "encoder")
    with pytest.raises(UserError, match="holds no fusion"):
        load_fusion(tmp_path / "encoder")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An encoder and a fusion as they were saved, and how they are loaded."""
    root = tmp_path_factory.mktemp("saved")
    save(root / "encoder")
    save_joint(root / "fusion")
    return {"encoder": (root / "encoder", load_encoder), "fusion": (root / "fusion", load_fusion)}


def sign(folder, change=None, weights=None):
    """Change a model and make its digest fit again, as anyone can."""
    description = json.loads((folder / "model.json").read_text())
    del description["digest"]
    if change is not None:
        description = change(description) or description
    weights = (folder / "model.safetensors").read_bytes() if weights is None else weights
    state = hashlib.sha256(weights)
    state.update(digest_of(description).encode())
    (folder / "model.safetensors").write_bytes(weights)
    text = json.dumps({**description, "digest": state.hexdigest()})
    (folder / "model.json").write_text(text)


def assert_rejected(load, folder):
    """In one line that names the folder."""
    with pytest.raises(UserError, match=re.escape(str(folder))) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def copied(saved, kind, tmp_path):
    folder, load = saved[kind]
    return shutil.copytree(folder, tmp_path / "copy"), load


PLAIN = SENSOR.model_dump(mode="json")
SCALING = {"bands": ["vv", "vh"], "lower": [0, 0], "upper": [1, 1]}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("encoder", {"metrics": {"validation": {"sam": float("nan")}}}),
        ("encoder", {"sensor_name": ["sentinel-1"]}),
        ("encoder", {"normalisation": SCALING | {"bands": ["vh", "vv"]}}),
        ("encoder", {"normalisation": SCALING | {"upper": [1, float("inf")]}}),
        ("encoder", {"normalisation": SCALING | {"upper": [1, 10**400]}}),
        ("encoder", {"context": {"patch_px": 10**9 + 1, "frames": 3}}),
        ("encoder", {"context": {"patch_px": 3, "frames": 3}}),
        ("encoder", {"sensor": PLAIN | {"latent_dim": 10**12}}),
        ("encoder", {"sensor": PLAIN | {"encoder": PLAIN["encoder"] | {"head_layers": 10**9}}}),
        ("fusion", {"latents": [["sentinel-1", 2], ["sentinel-2", 9]]}),
        ("fusion", {"latents": {}, "encoders": {}}),
        ("fusion", {"encoders": {"sentinel-1": "x"}}),
        ("fusion", {"latents": {"sentinel-1": 2, "sentinel-2": 8}}),
        ("fusion", {"fusion": Block(reference="x").model_dump()}),
    ],
)
def test_signed_descriptions_that_cannot_be_true_are_rejected(saved, tmp_path, kind, change):
    folder, load = copied(saved, kind, tmp_path)
    sign(folder, lambda description: description | change)
    assert_rejected(load, folder)


@pytest.mark.parametrize(
    ("dtype", "shape", "count"),
    [("F4", [2], 1), ("F8_E4M3", [1], 1), ("F32", [0, 2**62, 4], 0), ("F32", [0, 2**63], 0)],
)
def test_signed_weights_that_torch_cannot_hold_are_rejected(saved, tmp_path, dtype, shape, count):
    folder, load = copied(saved, "encoder", tmp_path)
    about = {"dtype": dtype, "shape": shape, "data_offsets": [0, count]}
    header = json.dumps({"encoder.bottleneck.weight": about}).encode()
    sign(folder, weights=struct.pack("<Q", len(header)) + header + bytes(count))
    assert_rejected(load, folder)


@pytest.mark.parametrize("size", [{"head_layers": 2000}, {"width": 10**6, "decoder_width": 10**6}])
def test_models_larger_than_their_weights_are_not_even_built(saved, tmp_path, monkeypatch, size):
    folder, load = copied(saved, "encoder", tmp_path)
    sign(folder, lambda description: description["sensor"]["encoder"].update(size))

    def built(*_):
        raise AssertionError("built")

    monkeypatch.setattr(artefact, "Autoencoder", built)
    assert_rejected(load, folder)


def test_models_too_large_for_any_memory_are_rejected(saved, tmp_path):
    folder, load = copied(saved, "encoder", tmp_path)

    def change(description):
        huge = {"kind": "patch", "width": 10**6, "head_width": 1000, "head_layers": 1}
        description["sensor"]["encoder"] |= huge
        description["context"]["patch_px"] = 10**6 - 1

    sign(folder, change, serialise({"a": torch.zeros(10**6)}))
    assert_rejected(load, folder)


@pytest.mark.parametrize(
    "change", [lambda v: v * torch.nan, lambda v: v.double(), lambda v: v[None]]
)
def test_weights_that_are_not_finite_or_of_another_type_are_rejected(saved, tmp_path, change):
    folder, load = copied(saved, "encoder", tmp_path)
    weights = parse((folder / "model.safetensors").read_bytes())
    name = "encoder.bottleneck.weight"
    changed = weights | {name: change(weights[name]).contiguous()}
    sign(folder, weights=serialise(changed))
    assert_rejected(load, folder)
