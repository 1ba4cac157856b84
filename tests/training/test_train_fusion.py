import csv

import numpy as np
import pytest
import torch

from pipeline_lib.dataset import cubes_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_file
from pipeline_lib.models import load_encoder, load_fusion
from pipeline_lib.seeds import generator
from pipeline_lib.training import fusion_evaluation
from pipeline_lib.training.fusions import load_fusion_source


@pytest.fixture(scope="module")
def fused(world):
    folder = world.root / "models" / "fusion"
    names = ("optical", "radar")
    files = [world.root / "models" / name / "model.safetensors" for name in names]
    before = [digest_file(path) for path in files]
    world.fuse(folder, world.root / "state" / "fusion")
    assert [digest_file(path) for path in files] == before
    return folder


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
    encoders = {name: load_encoder(world.root / "models" / name) for name in ("optical", "radar")}
    cubes = {name: cubes_of(world.cubes[name], world.table, "training") for name in encoders}
    source = load_fusion_source(encoders, cubes, "optical")
    drawn = source.primary.draw(generator(0, "x"), None, "test")
    lone = np.array([source.primary.index.stack[c].name == "site-4" for c in drawn.cube])
    assert lone.any() and not lone.all()
    (batch,) = source.batches(drawn, len(drawn))
    radar = batch["radar"]
    np.testing.assert_array_equal(radar["present"].numpy(), ~lone)
    assert not radar["valid"][torch.from_numpy(lone)].any()
    for row in np.flatnonzero(~lone):
        cube = source.primary.index.stack[drawn.cube[row]]
        other = source.others["radar"][source.partners["radar"][drawn.cube[row]]]
        gaps = other.days - cube.days[drawn.frames[row, 2]]
        assert abs(radar["offset"][row]) == np.abs(gaps).min()
        assert radar["offset"][row] in gaps


def test_metrics_of_a_missing_sensor_are_left_out(world, fused):
    trained = load_fusion(fused)
    encoders = {name: load_encoder(world.root / "models" / name) for name in ("optical", "radar")}
    cubes = {"optical": world.cubes["optical"][4:], "radar": []}
    found = fusion_evaluation(
        trained,
        encoders,
        cubes,
        spectra=np.zeros((0, 5)),
        land_cover={"site-4": "others"},
        seed=1,
        max_samples=20,
    )["model"]
    assert np.isnan(found["radar"]["centre_mae"]) and found["radar"]["samples"] == 0
    assert np.isfinite(found["optical"]["centre_mae"]) and found["optical"]["samples"] == 20


def test_fusion_works_with_one_sensor(world, tmp_path):
    world.fuse(tmp_path / "fusion", tmp_path / "state", chosen=("optical",))
    assert load_fusion(tmp_path / "fusion").fusion.sensors == ("optical",)
