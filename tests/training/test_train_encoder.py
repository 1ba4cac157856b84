import csv
import multiprocessing
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline_lib.dataset import stacks
from pipeline_lib.errors import UserError
from pipeline_lib.models import load_encoder
from pipeline_lib.training import encoders, runs


def weights(folder):
    return load_file(folder / "model.safetensors")


def losses(folder, split):
    with (folder / "curves.csv").open() as handle:
        return [float(row["loss"]) for row in csv.DictReader(handle) if row["split"] == split]


def test_training_learns_and_reports_it(world, tmp_path):
    folder = tmp_path / "model"
    world.train("optical", folder, tmp_path / "state", components=0)
    with (folder / "curves.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["epoch"], row["split"]) for row in rows] == [
        ("0", "validation"),
        *((epoch, split) for epoch in "123" for split in ("train", "validation")),
    ]
    assert losses(folder, "train")[-1] < 0.8 * losses(folder, "train")[0]
    trained = load_encoder(folder)
    assert trained.metrics["validation"]["centre_mae_scaled"] < 0.25
    card = (folder / "README.md").read_text()
    assert trained.digest in card and "limits" in card
    assert "by land-cover class of the site\n\n| | others |\n" in card
    assert "| samples |" in card.split("by season", 1)[1]
    assert not (tmp_path / "state").exists()
    assert trained.inputs == {
        "quantity": ["reflectance"],
        "resolution_m": [10.0],
        "rolling_mean": [False],
        "nadir": [False],
    }
    assert "Pixels: 10 m; rolling mean over time: 1 frames" in card
    # Principal components are a better start, which training improves too.
    better = world.root / "models" / "optical"
    assert losses(better, "validation")[0] < losses(folder, "validation")[-1]
    assert losses(better, "validation")[-1] < losses(better, "validation")[0]
    trained = load_encoder(better)
    assert trained.metrics["validation"]["loss"] == min(losses(better, "validation"))
    # The decoder starts with the way back from components to bands, which training refines.
    own = trained.autoencoder
    back = own.decoder.linear.weight[:, :2] @ own.encoder.spectrum_axes.T
    assert torch.linalg.eigvals(back).real.sum() == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("kind", ["dense", "patch"])
def test_one_seed_gives_one_model_and_another_gives_another(world, tmp_path, kind):
    short = world.training.model_copy(update={"max_epochs": 1})
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        world.train(
            "radar", tmp_path / name, tmp_path / "state", training=short, seed=seed, kind=kind
        )
    same = load_encoder(tmp_path / "a").digest == load_encoder(tmp_path / "b").digest
    assert same and load_encoder(tmp_path / "a").digest != load_encoder(tmp_path / "c").digest


@pytest.fixture(scope="module")
def whole(world):
    """Folders of uninterrupted trainings, by kind of encoder."""
    folder = world.root / "models" / "optical patch"
    world.train("optical", folder, world.root / "state" / "patch", kind="patch")
    return {"dense": world.root / "models" / "optical", "patch": folder}


@pytest.mark.parametrize(("kind", "killed_in"), [("dense", 0), ("dense", 2), ("patch", 1)])
def test_killed_and_resumed_equals_uninterrupted(
    world, whole, tmp_path, monkeypatch, kind, killed_in
):
    """Killed in an epoch's middle, before the first checkpoint as well as after the second."""
    state = tmp_path / "state"
    with world.killed(killed_in, 1):
        world.train("optical", tmp_path / "model", state, kind=kind)
    assert not (tmp_path / "model").exists()
    # A state copied elsewhere is as good, and its cubes are not read again.
    kept = state.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(stacks, "_pack", None)
    world.train("optical", tmp_path / "model", kept, kind=kind)
    assert not kept.exists()
    resumed, uninterrupted = weights(tmp_path / "model"), weights(whole[kind])
    for key in uninterrupted:
        torch.testing.assert_close(resumed[key], uninterrupted[key], rtol=0, atol=1e-6)
    curves = "curves.csv"
    assert (tmp_path / "model" / curves).read_text() == (whole[kind] / curves).read_text()


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_weights_of_an_undisturbed_training(world, tmp_path):
    """By SIGKILL, from the reading of the cubes to the saving of the model."""
    moments = np.random.default_rng(0).uniform(0.05, 2.0, 12)
    killed = 0
    for moment in moments:
        process = multiprocessing.get_context("fork").Process(
            target=world.train, args=("optical", tmp_path / "model", tmp_path / "state")
        )
        process.start()
        process.join(moment)
        killed += process.is_alive()
        process.kill()
        process.join()
    assert killed
    if not (tmp_path / "model").exists():
        world.train("optical", tmp_path / "model", tmp_path / "state")
    digest = load_encoder(world.root / "models" / "optical").digest
    assert load_encoder(tmp_path / "model").digest == digest


@contextmanager
def killed_removing(victim):
    """Killed when a folder is removed, after the first file of a name is gone."""

    remove = shutil.rmtree

    def removing(folder, **more):
        if found := [*Path(folder).rglob(victim)]:
            found[0].unlink()
            raise KeyboardInterrupt
        remove(folder, **more)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", removing)
        yield


@pytest.mark.parametrize("victim", ["best.ckpt", "identity.json", "index.json", "values.uint16"])
def test_killed_while_the_state_is_removed_trains_again(world, tmp_path, victim):
    short = world.training.model_copy(update={"max_epochs": 1})
    with killed_removing(victim):
        world.train("radar", tmp_path / "model", tmp_path / "state", training=short)
    digest = load_encoder(tmp_path / "model").digest
    world.train("radar", tmp_path / "model", tmp_path / "state", training=short)
    assert load_encoder(tmp_path / "model").digest == digest
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# Another seed has the same cubes, and another sensor has others.
@pytest.mark.parametrize(
    ("victim", "other"), [("best.ckpt", "radar"), ("values.uint16", "optical")]
)
def test_killed_while_the_state_of_another_config_is_removed_trains_again(
    world, tmp_path, victim, other
):
    """The config is changed, the run killed at once, and the change taken back."""
    state, model = tmp_path / "state", tmp_path / "model"
    short = world.training.model_copy(update={"max_epochs": 2})
    with world.killed(1, 1):
        world.train("radar", model, state, training=short)
    with killed_removing(victim):
        world.train(other, model, state, training=short, seed=2)
    assert not model.exists()
    world.train("radar", model, state, training=short)
    assert load_encoder(model).name == "radar"


def test_the_state_of_another_training_is_not_resumed(world, tmp_path, monkeypatch):
    short = world.training.model_copy(update={"max_epochs": 1})
    with monkeypatch.context() as patch:
        patch.setattr(encoders, "save_encoder", lambda *_, **__: None)
        patch.setattr(runs, "remove_folder", lambda *_: None)
        world.train("radar", tmp_path / "a", tmp_path / "state", training=short, seed=1)
    world.train("radar", tmp_path / "b", tmp_path / "state", training=short, seed=2)
    world.train("radar", tmp_path / "c", tmp_path / "fresh", training=short, seed=2)
    assert load_encoder(tmp_path / "b").digest == load_encoder(tmp_path / "c").digest


def test_no_validation_cube_is_rejected_in_one_line(world, tmp_path):
    table = world.table.read_text()
    try:
        world.table.write_text(table.replace("validation", "test"))
        with pytest.raises(UserError, match=r"no sample can be .* from no cube") as caught:
            world.train("radar", tmp_path / "model", tmp_path / "state")
        assert "\n" not in str(caught.value)
    finally:
        world.table.write_text(table)
