import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline_lib import config
from pipeline_lib.config import SENTINEL_1, Encoder
from pipeline_lib.dataset import cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.reconstruction import fusion_evaluation
from pipeline_lib.files import digest_file
from pipeline_lib.models import Fusion, load_encoder, load_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training import fusions, train_fusion
from pipeline_lib.training.data import Batch, FusionDataset, centre_of
from pipeline_lib.training.fusions import fit, latent_axes, latent_weights
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


def test_fusion_names_its_encoders_and_shows_its_metrics(world, fused):
    trained = load_fusion(fused)
    encoders = {name: load_encoder(world.root / "models" / name) for name in ("optical", "radar")}
    assert trained.encoders == {name: encoder.digest for name, encoder in encoders.items()}
    trained.check_encoders(encoders)
    with (fused / "curves.csv").open() as handle:
        (row,) = csv.DictReader(handle)
    assert (row["epoch"], row["split"]) == ("0", "validation")
    assert float(row["radar.centre_mae"]) == trained.metrics["validation"]["radar.centre_mae"]
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
    block = world.fusion.model_copy(update={"reference": "optical"})
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


def test_one_seed_gives_one_fusion_also_after_a_kill(world, fused, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fusions, "save_fusion", killed)
        world.fuse(tmp_path / "fusion", tmp_path / "state")
    world.fuse(tmp_path / "fusion", tmp_path / "state")
    assert load_fusion(tmp_path / "fusion").digest == load_fusion(fused).digest
    assert [path.name for path in tmp_path.iterdir()] == ["fusion"]


def test_the_embedding_is_scaled(world, fused):
    trained = load_fusion(fused)
    encoders, dataset = samples_of(world)
    drawn = dataset.draw(generator(7, "fusion", "training"), 4096, "test")
    task = FusionTask(trained.fusion, encoders).eval()
    (batch,) = dataset.loader(drawn, len(drawn))
    with torch.inference_mode():
        found = task.embedding(batch)
    # Dimensions that follow the radar vary less where it is absent.
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(4), atol=1e-3, rtol=0)
    deviation = found.std(dim=0, correction=0)
    assert (deviation < 1.05).all() and deviation.max() > 0.9 and deviation.min() > 0.2


def test_what_is_left_out_does_not_reach_the_embedding(world, fused):
    trained = load_fusion(fused)
    encoders, dataset = samples_of(world)
    task = FusionTask(trained.fusion, encoders).eval()
    drawn = dataset.draw(generator(3, "x"), 40, "test")
    (batch,) = dataset.loader(drawn)
    gone = batch.without(["radar"])
    radar = gone.sensors["radar"]
    changed = Batch(gone.sensors | {"radar": radar._replace(values=radar.values + 0.3)})
    with torch.inference_mode():
        for name, values in task(gone).items():
            torch.testing.assert_close(task(changed)[name], values, equal_nan=True)
        assert torch.isnan(task(gone)["radar.centre_mae"]).all()
        apart = (task.embedding(gone) - task.embedding(batch)).abs().amax(dim=1)
    assert (apart[batch.sensors["radar"].present] > 1e-3).all()
    assert (apart[~batch.sensors["radar"].present] < 1e-5).all()


def fitted(world, **changes):
    """A fusion of all training samples, and their batch."""
    encoders, dataset = samples_of(world)
    block = world.fusion.model_copy(update={"reference": "optical"} | changes)
    drawn = dataset.draw(generator(3, "x"), None, "test")
    (batch,) = dataset.loader(drawn, len(drawn))
    latents = {name: encoder.sensor.latent_dim for name, encoder in encoders.items()}
    task = FusionTask(Fusion(latents, block), encoders).eval()
    with torch.inference_mode():
        latents = task.latents(batch)
        values = torch.cat([latents["optical"], latents["radar"]], dim=1)
        shown = torch.ones_like(values, dtype=torch.bool)
        shown[~batch.sensors["radar"].present, 3:] = False
        fit(task.model, values, shown, latent_axes(encoders), latent_weights(block, encoders))
    return task, batch, encoders


def test_the_fusion_gives_back_what_the_encoders_alone_do(world):
    """With as many dimensions as all latents have."""
    task, batch, encoders = fitted(world, embedding_dim=7)
    with torch.inference_mode():
        errors, latents = task(batch), task.latents(batch)
        for name, encoder in encoders.items():
            truth = centre_of(batch.sensors[name].values)
            alone = (encoder.autoencoder.decoder.centre(latents[name]) - truth).abs()
            here = batch.sensors[name].present
            found = errors[f"{name}.centre_mae_scaled"][here]
            torch.testing.assert_close(found, alone.mean(dim=1)[here], atol=1e-4, rtol=0)


def test_a_sensor_that_weighs_more_is_kept_better(world):
    """In two dimensions."""
    missed = []
    for weight in (0.1, 10.0):
        task, batch, _ = fitted(world, embedding_dim=2, weights={"radar": weight})
        here = batch.sensors["radar"].present
        with torch.inference_mode():
            back = task.model.split(task.embedding(batch))["radar"]
            missed.append(float((back - task.latents(batch)["radar"])[here].square().mean()))
    assert missed[1] < 0.1 * missed[0]


def test_weights_of_the_reference_are_those_of_its_components(world):
    encoders, _ = samples_of(world)
    weights = latent_weights(world.fusion.model_copy(update={"reference": "optical"}), encoders)
    assert {name: own.tolist() for name, own in weights.items()} == {
        "optical": [1.0, 1.0, 0.5],
        "radar": [0.7, 0.7, 0.7, 0.7],
    }


def test_how_far_a_signal_is_from_its_mean_counts_like_the_mean():
    """Two bands that vary alike, and whose signal is nearly their mean: two dimensions keep both
    the mean and the small difference."""
    block = config.Fusion(reference="radar", embedding_dim=2)
    blind = SENTINEL_1.model_copy(update={"encoder": Encoder(blind=True)})
    encoders = {"radar": SimpleNamespace(sensor=blind)}
    torch.manual_seed(0)
    level, change, noise = torch.randn(1000, 1), torch.randn(1000, 1), torch.randn(1000, 4)
    mean = level + 0.1 * noise[:, :2]
    apart = 0.05 * (change + 0.1 * noise[:, 2:])
    values = torch.cat([mean + apart, mean], dim=1)
    model = Fusion({"radar": 4}, block)
    shown = torch.ones_like(values, dtype=torch.bool)
    fit(model, values, shown, latent_axes(encoders), latent_weights(block, encoders))
    with torch.no_grad():
        present = torch.ones(1000, dtype=torch.bool)
        found = model.fuse({"radar": values}, {"radar": level[:, 0]}, {"radar": present})
    design = torch.cat([found, torch.ones(1000, 1)], dim=1)
    left = change - design @ torch.linalg.lstsq(design, change).solution
    assert left.square().mean() < 0.05
