"""Probes of fused embeddings: what they stand beside, and what altering embeddings does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from untrained import save_all_untrained, scaled_by

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Context, Encoder, Fusion, Sensor, Sequence
from pipeline_lib.cubes import CLEAR, THICK_CLOUD, Grid, make_cube, write_cube
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.probe_targets import Targets
from pipeline_lib.evaluate.probes import (
    Origin,
    Probed,
    _features,
    fused_splits,
    probe_fusion,
    probe_scores,
)
from pipeline_lib.files import write_csv
from pipeline_lib.report.probes import plot_probes, probe_tables

CONTEXT = Context(patch_px=7, frames=3)
SMALL = Encoder(width=8, head_width=16, heads=2, head_layers=1, decoder_width=8)
APART = Sequence(frames=6, stride_time=4, stride_space=2)
SENSORS = {
    "optical": SENTINEL_2.model_copy(
        update={
            "bands": ("B03", "B04", "B08"),
            "rgb": None,
            "latent_dim": 3,
            "sequence": APART,
            "encoder": SMALL,
        }
    ),
    "radar": SENTINEL_1.model_copy(update={"latent_dim": 2, "sequence": APART, "encoder": SMALL}),
}
BLOCK = Fusion(reference="optical", embedding_dim=4, width=16, layers=1, heads=2)
SITES = {"a": "training", "b": "training", "c": "validation", "d": "test"}


def write(path: Path, sensor: Sensor, number: int) -> Path:
    """Smooth fields that change with the seasons, noise, and a tenth of the pixels clouded."""
    rng = np.random.default_rng(number)
    size, count, bands = 19, 12, len(sensor.bands)
    y, x = np.mgrid[:size, :size] / size
    field = 0.4 + 0.2 * np.sin(5 * x + number) * np.cos(4 * y)
    gains = rng.uniform(0.5, 1.0, (count, bands, 1, 1))
    values = gains * field + 0.03 * rng.standard_normal((count, bands, size, size))
    cube = make_cube(
        values=values.astype(np.float32),
        mask=np.where(rng.random((count, size, size)) < 0.1, THICK_CLOUD, CLEAR).astype(np.uint8),
        times=np.datetime64("2021-01-01") + (6 * np.arange(count)).astype("timedelta64[D]"),
        bands=sensor.bands,
        grid=Grid(32631, 600000, 5600000, 10, size, size),
        quantity=sensor.quantity,
        frames={},
        attributes={"cube": path.name.split(".")[0]},
    )
    write_cube(cube, path)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Random models; the second training site has no radar."""
    root = tmp_path_factory.mktemp("world")
    torch.manual_seed(1)
    rows = [
        {"cube": name, "site": name, "land_cover": "others", "split": split}
        for name, split in SITES.items()
    ]
    write_csv(root / "split.csv", rows)
    save_all_untrained(root, SENSORS, CONTEXT, BLOCK, scaled_by(0, 1))
    cubes = {
        name: [
            write(root / "cubes" / name / f"{site}.zarr.zip", sensor, number)
            for number, site in enumerate(SITES)
            if (site, name) != ("b", "radar")
        ]
        for name, sensor in SENSORS.items()
    }
    settings: dict[str, Any] = {
        "fusion": root / "fusion",
        "encoders": {name: root / name for name in SENSORS},
        "cubes": cubes,
        "split_table": root / "split.csv",
        "truth": {},
        "seed": 2,
        "max_samples": 200,
    }
    samples, left_out = fused_splits(**settings)
    assert left_out == {}
    return SimpleNamespace(root=root, settings=settings, samples=samples)


def test_fused_embeddings_stand_beside_spectra_and_latents_of_all_sensors(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    probe_fusion(**world.settings, output=tmp_path / "probes.json")
    found = json.loads((tmp_path / "probes.json").read_text())
    assert found["model"] == "fusion" and found["left_out"] == {}
    assert found["features"] == {
        "spectrum": 5,
        "pca_4": 4,
        "latents": 5,
        "alone": 4,
        "embedding": 4,
        "spectrum+embedding": 9,
    }
    scores = found["splits"]["test"]["targets"]["surroundings_mean"]["scores"]
    assert set(scores) == set(found["features"])
    assert scores["spectrum"] > 0.5 > scores["embedding"]
    again = probe_scores(world.samples)
    assert again["splits"] == found["splits"]
    test, *_ = probe_tables("fusion", found)
    assert "latents of all sensors (5)" in test.columns
    plot_probes(evaluation=tmp_path / "probes.json", output=tmp_path / "probes.png")
    assert (tmp_path / "probes.png").read_bytes().startswith(b"\x89PNG")


def test_the_targets_are_those_of_the_reference_and_absent_sensors_are_known(
    world: SimpleNamespace,
) -> None:
    fit = world.samples["training"]
    lone = fit.origin.cube == "b"
    assert lone.any() and not lone.all()
    assert np.isnan(fit.spectrum[lone, 3:]).all() and np.isfinite(fit.spectrum[:, :3]).all()
    assert np.isnan(fit.latents[lone, 3:]).all() and np.isfinite(fit.latents[:, :3]).all()
    assert np.isfinite(fit.embedding).all()
    # Where there is no radar, it makes no difference to leave it out.
    there = np.isfinite(fit.latents).all(axis=1)
    np.testing.assert_allclose(fit.alone[~there], fit.embedding[~there], atol=1e-6)
    assert (np.abs(fit.alone - fit.embedding)[there].max(axis=1) > 1e-4).all()
    assert there.any() and not (there & lone).any()
    assert fit.targets.numbers["surroundings_mean"].shape == (len(fit), 3)


def test_what_is_absent_has_the_mean_of_the_fit_and_components_are_of_whole_samples() -> None:
    rng = np.random.default_rng(0)

    def samples(count: int, absent: int, shift: float) -> Probed:
        spectrum = rng.standard_normal((count, 3)) * [3, 2, 1] + shift
        spectrum[:absent, 2] = np.nan
        origin = Origin(np.full(count, "a"), np.full(count, "a"), np.arange(count)[:, None])
        return Probed(spectrum, np.zeros((count, 2)), Targets({}, {}), origin, spectrum.copy())

    fit, held_out = samples(100, 60, 1.0), samples(50, 10, 5.0)
    found = _features(fit, held_out)
    mean = fit.spectrum[60:, 2].mean()
    for name in ("spectrum", "latents"):
        np.testing.assert_allclose(found[name][:10, 2], mean)
        np.testing.assert_array_equal(found[name][10:], held_out.spectrum[10:])
    whole = fit.spectrum[60:]
    axes = np.linalg.svd(whole - whole.mean(axis=0), full_matrices=False)[2][:2]
    np.testing.assert_allclose(found["pca_2"], (found["spectrum"] - whole.mean(axis=0)) @ axes.T)
    few = replace(fit, spectrum=np.where(np.arange(100)[:, None] < 98, np.nan, fit.spectrum))
    assert "pca_2" not in _features(few, held_out), "two whole samples, of which two components"


def test_embeddings_may_be_altered_before_they_are_scored(world: SimpleNamespace) -> None:
    """The optical bands stand for an embedding, which the random one is no use as."""

    def scores(change: Any) -> dict[str, float]:
        altered = {
            split: replace(part, embedding=change(part.spectrum[:, :3]))
            for split, part in world.samples.items()
        }
        return probe_scores(altered)["splits"]["test"]["targets"]["surroundings_mean"]["scores"]

    rng = np.random.default_rng(0)
    plain = scores(lambda embedding: embedding)
    step = 4 * world.samples["training"].spectrum[:, :3].std(axis=0) / 127
    rounded = scores(lambda embedding: np.round(embedding / step) * step)
    shuffled = scores(lambda embedding: rng.permutation(embedding))
    assert rounded["spectrum"] == plain["spectrum"] == shuffled["spectrum"]
    assert rounded["embedding"] == pytest.approx(plain["embedding"], abs=0.05)
    assert rounded["embedding"] != plain["embedding"]
    assert shuffled["embedding"] < 0.05 < plain["embedding"]


def test_splits_without_cubes_and_foreign_encoders_are_told(world: SimpleNamespace) -> None:
    cubes = {
        name: [path for path in paths if path.name[0] != "c"]
        for name, paths in world.settings["cubes"].items()
    }
    samples, left_out = fused_splits(**world.settings | {"cubes": cubes})
    assert list(samples) == ["training", "test"]
    assert left_out == {"validation": "it has no cube"}
    swapped = dict.fromkeys(SENSORS, world.root / "optical")
    with pytest.raises(UserError, match="another encoder of radar"):
        fused_splits(**world.settings | {"encoders": swapped})
