"""Probes of latents and fused embeddings: fair samples, and what they find in made landscapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_cubes import (
    CONTEXT,
    FUSION,
    small_sensors,
    write_made_cube,
    write_split,
    write_truth,
)
from torch import Tensor, nn
from untrained import save_all_untrained, scaled_by

from pipeline_lib.config import Sequence
from pipeline_lib.cubes import CLEAR, THICK_CLOUD
from pipeline_lib.dataset import Normalisation
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate import probes
from pipeline_lib.evaluate.probe_scores import NEAREST_TARGETS, Origin
from pipeline_lib.evaluate.probes import (
    FITTED_ON,
    ROUNDS,
    Probed,
    SiteFacts,
    fused_splits,
    probe_encoder,
    probe_fusion,
    probe_scores,
    probed_samples,
    split_samples,
)
from pipeline_lib.models import Autoencoder, TrainedEncoder
from pipeline_lib.seeds import generator

SIZE = 21
FRAMES = 14
NEAR = Sequence(frames=6, stride_time=4, stride_space=7, max_span_days=12)
"""Windows hold the frames next to the centre."""
SENSOR = small_sensors(NEAR)["optical"]
FACTS = SiteFacts(
    {name: name for name in "abcd"},
    {"a": "crops", "b": "forest", "c": "crops", "d": "forest"},
    {},
)


class Neighbourhood(nn.Module):
    """Stands for an encoder that holds the neighbourhood's mean and deviation, nothing else."""

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        frame, middle = values.shape[1] // 2, values.shape[-1] // 2
        around = valid[:, frame].clone()
        around[:, middle, middle] = False
        weight = around[:, None] / around.sum(dim=(1, 2))[:, None, None, None]
        mean = (values[:, frame] * weight).sum(dim=(2, 3))
        square = (values[:, frame] ** 2 * weight).sum(dim=(2, 3))
        return torch.cat([mean, (square - mean**2).clamp(0).sqrt()], dim=1)


class Frames(nn.Module):
    """Stands for an encoder that holds all frames of the target pixel, and their dates."""

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        middle = values.shape[-1] // 2
        return torch.cat([values[..., middle, middle].flatten(1), days], dim=1)


def trained_with(encoder: nn.Module) -> TrainedEncoder:
    autoencoder = Autoencoder(SENSOR, CONTEXT).eval()
    autoencoder.encoder = encoder  # type: ignore[assignment]
    scaling = Normalisation(SENSOR.bands, np.zeros(3, np.float32), np.ones(3, np.float32))
    return TrainedEncoder("made", SENSOR, CONTEXT, autoencoder, scaling, "0" * 64, {})


def unrelated(number: int, bands: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel is drawn alone, from a mean and a deviation of its ninth and date."""
    rng = np.random.default_rng(number)
    shape = (FRAMES, bands, 3, 3)
    mean, spread = rng.uniform(0.3, 0.7, shape), rng.uniform(0.0, 0.15, shape)
    mean, spread = (part.repeat(7, 2).repeat(7, 3) for part in (mean, spread))
    values = mean + spread * rng.uniform(-1, 1, mean.shape)
    # The middle of each patch that lies on one ninth says nothing about the ninth.
    values[:, :, 3::7, 3::7] = rng.uniform(0.3, 0.7, shape)
    mask = np.full((FRAMES, SIZE, SIZE), CLEAR, np.uint8)
    mask[rng.random(mask.shape) < 0.1] = THICK_CLOUD
    return values, mask


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Cubes whose target pixels are unrelated to what surrounds them."""
    folder = tmp_path_factory.mktemp("scattered")
    paths = [
        write_made_cube(folder / f"{name}.zarr.zip", *unrelated(number), SENSOR)
        for number, name in enumerate("abcd")
    ]
    return {"training": paths[:2], "validation": paths[2:3], "test": paths[3:]}


def run(encoder: nn.Module, cubes: dict[str, list[Path]], seed: int = 3) -> dict[str, Any]:
    """Scores of an encoder's probes, and the splits that are skipped."""
    trained = trained_with(encoder)

    def samples(split: str) -> Probed:
        rng = generator(seed, "probes", split)
        return probed_samples(trained, cubes[split], FACTS, rng=rng, max_samples=400)

    found, skipped = split_samples(samples, cubes)
    return {**probe_scores(found), "skipped": skipped}


def test_what_the_target_pixel_cannot_know_is_found_in_the_embedding_alone(
    scattered: dict[str, list[Path]],
) -> None:
    found = run(Neighbourhood(), scattered)
    assert found == run(Neighbourhood(), scattered) != run(Neighbourhood(), scattered, seed=4)
    targets = found["splits"]["test"]["targets"]
    for name in ("neighbourhood_mean", "neighbourhood_std"):
        scores = targets[name]["scores"]
        assert scores["embedding"] > 0.99 and scores["spectrum+embedding"] > 0.99
        assert abs(scores["spectrum"]) < 0.15
    # What follows is drawn anew: the change is predicted by half, from what is now.
    change = targets["next_change"]["scores"]
    assert change["spectrum"] == pytest.approx(0.5, abs=0.1) and change["embedding"] < 0.1
    frames = run(Frames(), scattered)["splits"]["test"]["targets"]["next_change"]["scores"]
    assert frames["embedding"] > frames["spectrum"] + 0.05


def test_samples_have_distinct_target_pixels_and_their_own_features(
    scattered: dict[str, list[Path]],
) -> None:
    trained = trained_with(Neighbourhood())

    def samples(most: int, seed: int = 1) -> Probed:
        rng = generator(seed, "test")
        return probed_samples(trained, scattered["training"], FACTS, rng=rng, max_samples=most)

    many = samples(400)
    sequences = 2 * 9 * 3
    assert sequences < len(many) <= ROUNDS * sequences
    assert len(np.unique(many.spectrum, axis=0)) == len(many)
    parts = [many.targets[f"neighbourhood_{what}"] for what in ("mean", "std")]
    np.testing.assert_allclose(many.embedding, np.concatenate(parts, axis=1), atol=1e-4)
    assert list(many.origin.site) == list(many.origin.cube) and set(many.origin.cube) == {"a", "b"}
    assert len(np.unique(many.origin.position, axis=0)) > len(many) / 2
    assert len(samples(30)) == 30
    assert np.array_equal(samples(400).spectrum, many.spectrum)
    assert not np.array_equal(samples(30, seed=2).spectrum, samples(30).spectrum)


def test_scores_of_a_split_depend_on_it_and_the_training_cubes_alone(
    scattered: dict[str, list[Path]],
) -> None:
    whole = run(Neighbourhood(), scattered)["splits"]
    alone = run(Neighbourhood(), {name: scattered[name] for name in ("training", "test")})["splits"]
    assert list(whole) == ["validation", "test"] and list(alone) == ["test"]
    assert whole["test"] == alone["test"]
    other = run(
        Neighbourhood(), scattered | {"training": scattered["validation"], "validation": []}
    )
    assert other["splits"]["test"] != alone["test"]
    assert other["skipped"] == {"validation": "it has no cube"}
    with pytest.raises(ValueError, match="both fitted and scored on: a"):
        run(Neighbourhood(), scattered | {"test": scattered["training"][:1]})


def test_absent_values_have_the_mean_of_the_fit_and_components_are_of_complete_samples() -> None:
    rng = np.random.default_rng(0)

    def samples(count: int, absent: int, shift: float) -> Probed:
        spectrum = rng.standard_normal((count, 3)) * [3, 2, 1] + shift
        spectrum[:absent, 2] = np.nan
        names = np.full(count, "a")
        origin = Origin(names, names, np.arange(count)[:, None])
        return Probed(spectrum, np.zeros((count, 2)), {}, origin, spectrum.copy())

    fit, held_out = samples(100, 60, 1.0), samples(50, 10, 5.0)
    found = probes._features(fit, held_out)
    mean = fit.spectrum[60:, 2].mean()
    for name in ("spectrum", "latents"):
        np.testing.assert_allclose(found[name][:10, 2], mean)
        np.testing.assert_array_equal(found[name][10:], held_out.spectrum[10:])
    complete = fit.spectrum[60:]
    axes = np.linalg.svd(complete - complete.mean(axis=0), full_matrices=False)[2][:2]
    expected = (found["spectrum"] - complete.mean(axis=0)) @ axes.T
    np.testing.assert_allclose(np.abs(found["pca_2"]), np.abs(expected))
    few = replace(fit, spectrum=np.where(np.arange(100)[:, None] < 98, np.nan, fit.spectrum))
    assert "pca_2" not in probes._features(few, held_out), "two samples, of which two components"


SENSORS = small_sensors(Sequence(frames=6, stride_time=4, stride_space=2))
SITES = {"a": "training", "b": "training", "c": "validation", "d": "test"}


def smooth(number: int, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth fields that change with the seasons, noise, and a tenth of the pixels clouded."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    field = 0.4 + 0.2 * np.sin(5 * x + number) * np.cos(4 * y)
    gains = rng.uniform(0.5, 1.0, (FRAMES, bands, 1, 1))
    values = gains * field + 0.03 * rng.standard_normal((FRAMES, bands, SIZE, SIZE))
    return values, np.where(rng.random((FRAMES, SIZE, SIZE)) < 0.1, THICK_CLOUD, CLEAR)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Random models; the second training site and the test site have no radar."""
    root = tmp_path_factory.mktemp("world")
    torch.manual_seed(1)
    write_split(root / "split.csv", SITES)
    save_all_untrained(root, SENSORS, CONTEXT, FUSION, scaled_by(0, 1))
    cubes = {
        name: [
            write_made_cube(
                root / "cubes" / name / f"{site}.zarr.zip", *smooth(number, bands), sensor
            )
            for number, site in enumerate(SITES)
            if name != "radar" or site in "ac"
        ]
        for name, sensor in SENSORS.items()
        for bands in [len(sensor.bands)]
    }
    rng = np.random.default_rng(9)
    dates = np.datetime64("2021-01-01") + np.arange(90)
    truth = {
        name: write_truth(
            root / f"{name}.npz",
            rng.integers(0, 3, (SIZE, SIZE)),
            rng.random((90, SIZE, SIZE)),
            [f"{day}T10:10:00+00:00" for day in dates],
        )
        for name in SITES
    }
    settings: dict[str, Any] = {"split_table": root / "split.csv", "seed": 2, "max_samples": 200}
    fusion = {
        "fusion": root / "fusion",
        "encoders": {name: root / name for name in SENSORS},
        "cubes": cubes,
        "truth": {},
    }
    samples, skipped = fused_splits(**settings, **fusion)
    assert skipped == {}
    given = {"root": root, "settings": settings, "fusion": settings | fusion}
    return SimpleNamespace(**given, cubes=cubes, truth=truth, samples=samples)


def test_truth_adds_targets_and_without_it_there_are_none(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def watched(trained: TrainedEncoder, cubes: Any, *rest: Any, **settings: Any) -> Probed:
        drawn.append("".join(path.name[0] for path in cubes))
        return probed_samples(trained, cubes, *rest, **settings)

    monkeypatch.setattr(probes, "probed_samples", watched)

    def found(name: str, truth: dict[str, Path]) -> dict[str, Any]:
        output = tmp_path / f"{name}.json"
        model, cubes = world.root / name, world.cubes[name]
        probe_encoder(model=model, cubes=cubes, truth=truth, output=output, **world.settings)
        return json.loads(output.read_text())

    optical = found("optical", world.truth)
    assert drawn == ["ab", "c", "d"], "held-out samples come from held-out cubes"
    assert optical["features"] == {
        "spectrum": 3,
        "pca_2": 2,
        "embedding": 2,
        "spectrum+embedding": 5,
    }
    assert list(optical["splits"]) == ["validation", "test"] and optical["skipped"] == {}
    targets = optical["splits"]["test"]["targets"]
    assert {"ndvi_change", "leaf_area", "leaf_area_change"} <= set(targets)
    assert all(one["reason"] is None for one in targets.values())
    assert {name for name, one in targets.items() if "nearest" in one} == set(NEAREST_TARGETS)
    # The truth is drawn at random: nothing predicts it.
    assert targets["land_cover"]["classes"] == 3
    for kind in ("scores", "nearest"):
        assert targets["leaf_area"][kind]["embedding"] < 0.1
        assert 0.2 < targets["land_cover"][kind]["spectrum"] < 0.5
    radar = found("radar", {})
    assert radar["skipped"] == {"test": "it has no cube"}
    targets = radar["splits"]["validation"]["targets"]
    assert set(targets) == {"neighbourhood_mean", "neighbourhood_std", "next_change", "land_cover"}
    assert targets["land_cover"]["scores"]["spectrum"] is None
    assert targets["land_cover"]["nearest"]["spectrum"] is None
    assert "one class" in targets["land_cover"]["reason"]


def test_fused_embeddings_stand_beside_spectra_and_latents_of_all_sensors(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    probe_fusion(**world.fusion, output=tmp_path / "probes.json")
    found = json.loads((tmp_path / "probes.json").read_text())
    assert found["model"] == "fusion" and found["skipped"] == {}
    sizes = {"spectrum": 5, "pca_4": 4, "latents": 3, "reference_only": 4, "embedding": 4}
    assert found["features"] == sizes | {"spectrum+embedding": 9}
    scores = found["splits"]["test"]["targets"]["neighbourhood_mean"]["scores"]
    assert set(scores) == set(found["features"])
    assert scores["spectrum"] > 0.5 > scores["embedding"]
    assert probe_scores(world.samples)["splits"] == found["splits"]


def test_the_targets_are_those_of_the_reference_and_absent_sensors_are_known(
    world: SimpleNamespace,
) -> None:
    fit = world.samples[FITTED_ON]
    lone = fit.origin.cube == "b"
    assert lone.any() and not lone.all()
    assert np.isnan(fit.spectrum[lone, 3:]).all() and np.isfinite(fit.spectrum[:, :3]).all()
    assert np.isnan(fit.latents[lone, 2:]).all() and np.isfinite(fit.latents[:, :2]).all()
    assert np.isfinite(fit.embedding).all()
    # Where there is no radar, it makes no difference to mask it.
    there = np.isfinite(fit.latents).all(axis=1)
    np.testing.assert_allclose(fit.reference_only[~there], fit.embedding[~there], atol=1e-6)
    assert (np.abs(fit.reference_only - fit.embedding)[there].max(axis=1) > 1e-4).all()
    assert there.any() and not (there & lone).any()
    assert fit.targets["neighbourhood_mean"].shape == (len(fit), 3)


def test_embeddings_may_be_altered_before_they_are_scored(world: SimpleNamespace) -> None:
    """The optical bands stand for an embedding, as the random one is of no use."""

    def scores(change: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        altered = {
            split: replace(part, embedding=change(part.spectrum[:, :3]))
            for split, part in world.samples.items()
        }
        return probe_scores(altered)["splits"]["test"]["targets"]["neighbourhood_mean"]["scores"]

    rng = np.random.default_rng(0)
    plain = scores(lambda embedding: embedding)
    step = 4 * world.samples[FITTED_ON].spectrum[:, :3].std(axis=0) / 127
    rounded = scores(lambda embedding: np.round(embedding / step) * step)
    shuffled = scores(lambda embedding: rng.permutation(embedding))
    assert rounded["spectrum"] == plain["spectrum"] == shuffled["spectrum"]
    assert rounded["embedding"] == pytest.approx(plain["embedding"], abs=0.05)
    assert rounded["embedding"] != plain["embedding"]
    assert shuffled["embedding"] < 0.05 < plain["embedding"]


def test_splits_without_cubes_and_foreign_encoders_are_reported(world: SimpleNamespace) -> None:
    cubes = {
        name: [path for path in paths if path.name[0] != "c"] for name, paths in world.cubes.items()
    }
    samples, skipped = fused_splits(**world.fusion | {"cubes": cubes})
    assert list(samples) == ["training", "test"]
    assert skipped == {"validation": "it has no cube"}
    swapped = dict.fromkeys(SENSORS, world.root / "optical")
    with pytest.raises(UserError, match="another encoder of radar"):
        fused_splits(**world.fusion | {"encoders": swapped})
