import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline_lib.dataset import cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.reconstruction import fusion_evaluation
from pipeline_lib.files import digest_file
from pipeline_lib.models import Fusion, load_encoder, load_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training import train_fusion
from pipeline_lib.training.data import Batch, FusionDataset, centre_of
from pipeline_lib.training.initialisation import initialise
from pipeline_lib.training.runs import TrainingData
from pipeline_lib.training.tasks import FusionTask


@pytest.fixture(scope="module")
def fused(world):
    folder = world.root / "models" / "fusion"
    names = ("optical", "radar")
    files = [world.root / "models" / name / "model.safetensors" for name in names]
    before = [digest_file(path) for path in files]
    world.fuse(folder, world.root / "state" / "fusion")
    assert [digest_file(path) for path in files] == before
    return folder


def samples_of(world, split="training"):
    encoders = {name: load_encoder(world.root / "models" / name) for name in ("optical", "radar")}
    cubes = {name: cubes_of(world.cubes[name], world.table, split) for name in encoders}
    return encoders, FusionDataset(encoders, cubes, "optical")


def test_fusion_learns_and_names_its_encoders(world, fused):
    trained = load_fusion(fused)
    encoders = {name: load_encoder(world.root / "models" / name) for name in ("optical", "radar")}
    assert trained.encoders == {name: encoder.digest for name, encoder in encoders.items()}
    trained.check_encoders(encoders)
    with (fused / "curves.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    losses = [float(row["loss"]) for row in rows if row["split"] == "train"]
    assert losses[-1] < losses[0]
    assert "radar.centre_mae" in rows[0]
    with pytest.raises(UserError, match="another encoder of radar"):
        trained.check_encoders(encoders | {"radar": encoders["optical"]})


def test_pairs_are_the_closest_dates_and_gaps_are_absent(world):
    _, dataset = samples_of(world)
    drawn = dataset.draw(generator(0, "x"), None, "test")
    lone = np.array([dataset.index.stack[c].name == "site-4" for c in drawn.cube])
    assert lone.any() and not lone.all()
    (batch,) = dataset.loader(drawn, len(drawn))
    radar = batch.sensors["radar"]
    np.testing.assert_array_equal(radar.present.numpy(), ~lone)
    assert not radar.valid[torch.from_numpy(lone)].any()
    for row in np.flatnonzero(~lone):
        cube = dataset.index.stack[drawn.cube[row]]
        other = dataset.others["radar"].stack[dataset.partners["radar"][drawn.cube[row]]]
        gaps = other.days - cube.days[drawn.frames[row, 2]]
        assert abs(radar.offset[row]) == np.abs(gaps).min()
        assert radar.offset[row] in gaps
    augmented = TrainingData("x", 0, world.training, {"training": dataset}).training_samples(0)
    for windows in (augmented, augmented.others["radar"]):
        present = windows.present[windows.cube >= 0]
        assert present[:, 2].all() and 0.2 < present[:, [0, 1, 3, 4]].mean() < 0.9
    again = TrainingData("x", 0, world.training, {"training": dataset}).training_samples(0)
    assert np.array_equal(again.others["radar"].frames, augmented.others["radar"].frames)


def test_fusion_works_with_one_sensor(world, tmp_path):
    world.fuse(tmp_path / "fusion", tmp_path / "state", chosen=("optical",))
    assert load_fusion(tmp_path / "fusion").fusion.sensors == ("optical",)


def test_fusion_works_with_three_sensors_named_in_any_order(world, tmp_path):
    """The third sensor has the radar's cubes and its encoder, under a name of its own."""
    cubes = {"optical": world.cubes["optical"], "radar": world.cubes["radar"]}
    cubes["thermal"] = cubes["radar"][:1]
    models = {name: world.root / "models" / name for name in ("optical", "radar")}
    models["thermal"] = models["radar"]
    short = world.training.model_copy(update={"max_epochs": 1})
    block = world.fusion.model_copy(update={"reference": "optical", "training": short})
    for name, order in (("a", 1), ("b", -1)):
        train_fusion(
            fusion=block,
            context=load_encoder(models["optical"]).context,
            seed=7,
            cubes=dict(list(cubes.items())[::order]),
            split_table=world.table,
            encoders=dict(list(models.items())[::order]),
            state=tmp_path / f"state {name}",
            output=tmp_path / name,
            config_digest="test",
        )
    first, second = (load_fusion(tmp_path / name) for name in "ab")
    assert first.fusion.sensors == ("optical", "radar", "thermal")
    assert first.digest == second.digest
    trained = {name: load_encoder(folder) for name, folder in models.items()}
    found = fusion_evaluation(
        first,
        trained,
        {name: cubes_of(paths, world.table, "training") for name, paths in cubes.items()},
        spectra=np.zeros((0, 7)),
        land_cover=dict.fromkeys((f"site-{number}" for number in range(5)), "others"),
        seed=1,
        max_samples=None,
    )
    assert list(found["absence"]) == ["radar", "thermal", "radar + thermal"]


def test_one_seed_gives_one_fusion_also_after_a_kill(world, fused, tmp_path):
    with world.killed(1, 1):
        world.fuse(tmp_path / "fusion", tmp_path / "state")
    world.fuse(tmp_path / "fusion", tmp_path / "state")
    assert (tmp_path / "fusion" / "curves.csv").read_text() == (fused / "curves.csv").read_text()
    resumed, whole = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "fusion", fused)
    )
    for key, values in whole.items():
        torch.testing.assert_close(resumed[key], values, rtol=0, atol=1e-6)


def test_the_embedding_is_scaled_and_its_scaling_changes_no_metric(world, fused):
    trained = load_fusion(fused)
    encoders, dataset = samples_of(world)
    drawn = dataset.draw(generator(7, "fusion"), 4096, "test")
    task = FusionTask(trained.fusion, trained.block, encoders).eval()
    (batch,) = dataset.loader(drawn, len(drawn))
    with torch.inference_mode():
        found = task.embedding(batch)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    parts = (found, found[batch.sensors["radar"].present])
    deviations = torch.stack([part.std(dim=0, correction=0) for part in parts])
    torch.testing.assert_close(deviations.amax(dim=0), torch.ones(4), atol=1e-4, rtol=0)
    assert (deviations.argmax(dim=0) == 1).any(), "some dimensions follow the radar"
    # The metrics beside the weights are those of before the scaling.
    _, dataset = samples_of(world, "validation")
    batches = TrainingData(
        "fusion", 7, trained.block.training, {"validation": dataset}
    ).validation()
    with torch.inference_mode():
        errors = [task(batch) for batch in batches]
    for name in ("optical.centre_mae", "radar.centre_mae", "optical.context_mae"):
        value = float(torch.cat([error[name] for error in errors]).nanmean())
        assert value == pytest.approx(trained.metrics["validation"][name], rel=1e-4)


def test_sensors_are_left_out_of_the_training_and_not_of_the_validation(world, tmp_path):
    short = world.training.model_copy(update={"max_epochs": 1})
    block = world.fusion.model_copy(update={"sensor_dropout": 1.0, "training": short})
    world.fuse(tmp_path / "fusion", tmp_path / "state", block=block)
    with (tmp_path / "fusion" / "curves.csv").open() as handle:
        start, train, validation = csv.DictReader(handle)
    assert train["radar.centre_mae"] == "nan" and float(train["optical.centre_mae"]) > 0
    assert float(validation["radar.centre_mae"]) > 0 and float(start["radar.centre_mae"]) > 0


def test_other_sensors_are_left_out_at_random_the_same_each_time(world):
    _, dataset = samples_of(world)
    plain = dataset.draw(generator(3, "x"), None, "test")
    (batch,) = dataset.loader(plain, len(plain))
    dataset.dropout = 0.3
    drawn = dataset.draw(generator(3, "x"), None, "test")
    (gaps,) = dataset.loader(drawn, len(drawn))
    for part, whole in zip(gaps.sensors["optical"], batch.sensors["optical"], strict=True):
        assert torch.equal(part, whole)
    radar, whole = gaps.sensors["radar"], batch.sensors["radar"]
    assert torch.equal(radar.values, whole.values)
    assert not (radar.present & ~whole.present).any()
    left_out = whole.present & ~radar.present
    assert left_out.sum() / whole.present.sum() == pytest.approx(0.3, abs=0.1)
    parts = [part.sensors["radar"].present for part in dataset.loader(drawn, 7)]
    assert torch.equal(torch.cat(parts), radar.present)
    again = dataset.draw(generator(3, "x"), None, "test")
    assert np.array_equal(again.dropped, drawn.dropped)


def test_what_is_left_out_reaches_neither_the_embedding_nor_the_loss(world, fused):
    trained = load_fusion(fused)
    encoders, dataset = samples_of(world)
    task = FusionTask(trained.fusion, trained.block, encoders).eval()
    drawn = dataset.draw(generator(3, "x"), 40, "test")
    (batch,) = dataset.loader(drawn)
    gone = batch.without_any(["radar"])
    radar = gone.sensors["radar"]
    changed = Batch(gone.sensors | {"radar": radar._replace(values=radar.values + 0.3)})
    with torch.inference_mode():
        for name, values in task(gone).items():
            torch.testing.assert_close(task(changed)[name], values, equal_nan=True)
        assert torch.isnan(task(gone)["radar.centre_mae"]).all()
        apart = (task.embedding(gone) - task.embedding(batch)).abs().amax(dim=1)
    assert (apart[batch.sensors["radar"].present] > 1e-3).all()
    assert (apart[~batch.sensors["radar"].present] == 0).all()


def initialised(world, **changes):
    """An untrained task, and the batch of all training samples that it was initialised with."""
    encoders, dataset = samples_of(world)
    block = world.fusion.model_copy(update={"reference": "optical"} | changes)
    drawn = dataset.draw(generator(3, "x"), None, "test")
    (batch,) = dataset.loader(drawn, len(drawn))
    torch.manual_seed(0)
    latents = {name: encoder.sensor.latent_dim for name, encoder in encoders.items()}
    task = FusionTask(Fusion(latents, block), block, encoders).eval()
    initialise(task, [batch])
    return task, batch, encoders


def test_untrained_the_fusion_gives_back_what_the_encoders_alone_do(world):
    """Four dimensions for five."""
    task, batch, encoders = initialised(world)
    with torch.inference_mode():
        errors, latents = task(batch), task.latents(batch)
        for name, encoder in encoders.items():
            truth = centre_of(batch.sensors[name].values)
            alone = (encoder.autoencoder.decoder.centre(latents[name]) - truth).abs()
            here = batch.sensors[name].present
            assert errors[f"{name}.centre_mae_scaled"][here].mean() < 1.1 * alone[here].mean()


def test_a_rare_sensor_weighs_as_much_as_the_others(world):
    """Some of the samples have no radar; its terms count by so much more where it is."""
    task, batch, _ = initialised(world, joint_weight=0.0)
    here = batch.sensors["radar"].present
    torch.testing.assert_close(task.shares, torch.stack([torch.tensor(1.0), here.float().mean()]))
    with torch.inference_mode():
        whole = task(batch)["loss"]
        task.shares.fill_(1.0)
        plain = task(batch)["loss"]
    assert torch.equal(whole[~here], plain[~here])
    assert (whole[here] > plain[here]).all()
