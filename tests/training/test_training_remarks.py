"""What a training says of itself: its size at first, and at its end what went wrong."""

import logging

import numpy as np
import pytest

from pipeline_lib.config import Training
from pipeline_lib.models import load_encoder
from pipeline_lib.training.remarks import shortcomings
from pipeline_lib.training.runs import TrainingData

FINE = np.random.default_rng(0).standard_normal((50, 3))


def said(values, latents=FINE, steps=10, start=5, **block):
    """Remarks on a training whose validation loss took these values after that of the start."""
    block = Training(**{"warmup_steps": 5, "plateau_patience": 2, "stop_patience": 4} | block)
    rows = [
        {"split": split, "epoch": epoch, "step": steps * epoch, "loss": loss}
        for epoch, value in enumerate([start, *values])
        for split, loss in (("train", 0.0), ("validation", value))
    ]
    return shortcomings(TrainingData("optical", 1, block, {}), "loss", rows, latents)


CONVERGED = [0.5, 0.3, 0.2, 0.199, 0.2, 0.199, 0.201, 0.2]
FALLING, FOUR = [4, 3, 2, 1], {"max_epochs": 4}
COLLAPSED = FINE * [1, 0, 1e-5]


@pytest.mark.parametrize(
    ("remark", "values", "keys"),
    [
        (None, CONVERGED, {}),
        (None, [*CONVERGED, 0.1985], {"max_epochs": 9}),
        ("warm-up never ends: it has 80 steps", CONVERGED, {"warmup_steps": 80}),
        ("training.max_epochs (4) while", FALLING, FOUR),
        ("loss still fell, from 3 to 1 in", FALLING, FOUR),
        ("training.max_minutes (30) while", FALLING, {"max_minutes": 30}),
        ("training.max_epochs (1) while", [4], {"max_epochs": 1}),
        ("lowest in epoch 1 of 5, 1 (last 5)", [1, 2, 3, 4, 5], {}),
        ("lowest in epoch 2 of 6", [2, 1, 3, 4, 5, 6], {}),
        ("in none of 8 epochs as low as at the start, 0.1 (last 0.2)", CONVERGED, {"start": 0.1}),
        ("dimension 1, 2 of 3 (from 0) hardly varies", CONVERGED, {"latents": COLLAPSED}),
        ("dimension 0, 1, 2 of 3", CONVERGED, {"latents": np.full((50, 3), 0.7)}),
    ],
)
def test_a_training_says_in_one_sentence_what_went_wrong(remark, values, keys):
    found = said(values, **keys)
    assert len(found) == (remark is not None)
    if remark:
        assert remark in found[0]


def test_the_log_begins_with_the_size_and_the_card_holds_the_remarks(world, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    block = world.training.model_copy(update={"max_epochs": 1, "warmup_steps": 500})
    world.train("radar", tmp_path / "model", tmp_path / "state", training=block)
    first, samples, steps, *_ = [record.getMessage() for record in caplog.records]
    assert "the warm-up never ends: it has 500 steps, and the training 4;" in first
    assert "50 training samples from 2 cubes, 24 validation samples from 1" in samples
    assert "at most 1 epochs of 4 steps, the first 500 of which are warm-up" in steps
    warmup, limit = load_encoder(tmp_path / "model").remarks
    assert "the training 4;" in warmup and "training.max_epochs" in limit
    card = (tmp_path / "model" / "README.md").read_text()
    assert all(f"**Remark:** {remark}." in card for remark in (warmup, limit))


def test_a_training_that_diverges_says_so_and_keeps_its_start(world, tmp_path):
    block = world.training.model_copy(update={"warmup_steps": 0, "learning_rate": 1.0})
    world.train("radar", tmp_path / "model", tmp_path / "state", training=block)
    trained = load_encoder(tmp_path / "model")
    assert any("the start is kept; lower" in one for one in trained.remarks)
    assert "best epoch 0" in (tmp_path / "model" / "README.md").read_text()
    assert list(trained.metrics) == ["validation"]
