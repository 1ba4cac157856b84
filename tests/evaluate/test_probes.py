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

from pipeline_lib.config import SENTINEL_1, Sequence
from pipeline_lib.cubes import CLEAR, THICK_CLOUD
from pipeline_lib.dataset import Normalisation
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate import probes
from pipeline_lib.evaluate.probe_features import Pixels, bands_at, feature_sets
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
    dict.fromkeys("abcd", "training"),
    {name: name for name in "abcd"},
    {"a": "crops", "b": "forest", "c": "crops", "d": "forest"},
    {},
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
        assert scores["embedding"] > 0.99 and scores["bands+embedding"] > 0.99
        assert abs(scores["bands"]) < 0.15
    # What follows is drawn anew: the change is predicted by half, from what is now.
    change = targets["next_change"]["scores"]
    assert change["bands"] == pytest.approx(0.5, abs=0.1) and change["embedding"] < 0.1
    frames = run(Frames(), scattered)["splits"]["test"]["targets"]["next_change"]["scores"]
    assert frames["embedding"] > frames["bands"] + 0.05


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
    assert len(np.unique(many.features["bands"], axis=0)) == len(many)
    parts = [many.targets[f"neighbourhood_{what}"] for what in ("mean", "std")]
    np.testing.assert_allclose(many.features["embedding"], np.concatenate(parts, axis=1), atol=1e-4)
    assert list(many.origin.site) == list(many.origin.cube) and set(many.origin.cube) == {"a", "b"}
    assert len(np.unique(many.origin.position, axis=0)) > len(many) / 2
    assert len(samples(30)) == 30
    assert np.array_equal(samples(400).features["bands"], many.features["bands"])
    assert not np.array_equal(samples(30, seed=2).features["bands"], samples(30).features["bands"])


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

    def samples(count: int, absent: int, shift: float) -> dict[str, np.ndarray]:
        bands = rng.standard_normal((count, 3)) * [3, 2, 1] + shift
        bands[:absent, 2] = np.nan
        return {"bands": bands, "latents": bands.copy(), "embedding": np.zeros((count, 2))}

    fit, held_out = samples(100, 60, 1.0), samples(50, 10, 5.0)
    found = feature_sets(fit, held_out)
    assert list(found) == ["bands", "pca_2", "latents", "embedding", "bands+embedding"]
    complete = fit["bands"][60:]
    mean, spread = complete.mean(axis=0), complete.std(axis=0)
    for name in ("bands", "latents"):
        np.testing.assert_allclose(found[name][:10, 2], mean[2])
        np.testing.assert_array_equal(found[name][10:], held_out["bands"][10:])
    axes = np.linalg.svd((complete - mean) / spread, full_matrices=False)[2][:2]
    expected = (found["bands"] - mean) / spread @ axes.T
    np.testing.assert_allclose(np.abs(found["pca_2"]), np.abs(expected))
    few = fit | {"bands": np.where(np.arange(100)[:, None] < 98, np.nan, fit["bands"])}
    assert "pca_2" not in feature_sets(few, held_out), "two samples, of which two components"


def test_averages_of_backscatter_are_of_valid_pixels_in_decibel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    power = rng.uniform(0.01, 0.5, (2, 2, 9, 9)).astype(np.float32)
    mask = np.zeros((2, 9, 9), np.uint8)
    mask[0, 3, 3:5] = mask[1, 4, 4] = THICK_CLOUD
    path = write_made_cube(tmp_path / "a.zarr.zip", power, mask, SENTINEL_1, days=10)
    start = int(np.datetime64("2021-01-01").astype(int))
    # In the last sample the frame of its own date is not valid at the pixel.
    place = np.array([[4, 4], [0, 1], [4, 4], [0, 0]]).T
    pixels = Pixels(np.array(["a", "a", "a", "b"]), start + np.array([0, 10, 9, 0]), *place)
    found = bands_at([path], pixels, (1, 5), 2)
    decibel = np.where(mask[:, None] == CLEAR, 10 * np.log10(power), np.nan)
    for size, means in zip((0, 2), found, strict=True):
        around = np.s_[..., 4 - size : 5 + size, 4 - size : 5 + size]
        for row in (0, 2):
            np.testing.assert_allclose(
                means[row], np.nanmean(decibel[0][around], axis=(1, 2)), rtol=1e-3
            )
        corner = decibel[1, :, : 1 + size, max(0, 1 - size) : 2 + size]
        np.testing.assert_allclose(means[1], np.nanmean(corner, axis=(1, 2)), rtol=1e-3)
        assert np.isnan(means[3]).all(), "no cube"


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
        "labels": {},
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
        inputs = {"truth": truth, "labels": {}, "output": output}
        probe_encoder(model=model, cubes=cubes, **inputs, **world.settings)
        return json.loads(output.read_text())

    optical = found("optical", world.truth)
    assert drawn == ["ab", "c", "d"], "held-out samples come from held-out cubes"
    assert optical["features"] == {
        "bands": 3,
        "pca_2": 2,
        "embedding": 2,
        "bands+embedding": 5,
    }
    assert list(optical["splits"]) == ["validation", "test"] and optical["skipped"] == {}
    targets = optical["splits"]["test"]["targets"]
    assert {"ndvi_change", "leaf_area", "leaf_area_change"} <= set(targets)
    assert all(one["reason"] is None for one in targets.values())
    second = {name for name, one in targets.items() if {"nearest", "boosting"} & one.keys()}
    assert second == {"leaf_area", "soil_moisture", "land_cover"}
    # The truth is drawn at random: nothing predicts it.
    assert targets["land_cover"]["classes"] == 3
    for kind in ("scores", "boosting"):
        assert targets["leaf_area"][kind]["embedding"] < 0.1
    for kind in ("scores", "nearest"):
        assert 0.2 < targets["land_cover"][kind]["bands"] < 0.5
    sites = optical["leave_one_site_out"]
    assert set(sites) == second and sites["leaf_area"]["sites"] == len(SITES)
    assert sites["leaf_area"]["boosting"].keys() == optical["features"].keys()
    assert sites["leaf_area"]["scores"]["embedding"] < 0.1
    radar = found("radar", {})
    assert radar["skipped"] == {"test": "it has no cube"}
    targets = radar["splits"]["validation"]["targets"]
    assert set(targets) == {"neighbourhood_mean", "neighbourhood_std", "next_change", "land_cover"}
    assert targets["land_cover"]["scores"]["bands"] is None
    assert targets["land_cover"]["nearest"]["bands"] is None
    assert "one class" in targets["land_cover"]["reason"]


def test_fused_embeddings_stand_beside_spectra_and_latents_of_all_sensors(
    world: SimpleNamespace, tmp_path: Path
) -> None:
    probe_fusion(**world.fusion, output=tmp_path / "probes.json")
    found = json.loads((tmp_path / "probes.json").read_text())
    assert found["model"] == "fusion" and found["skipped"] == {}
    sizes = {"bands": 5, "bands_averaged": 5, "pca_4": 4, "pca_4_averaged": 4}
    sizes |= {"latents_optical": 2, "latents_radar": 1, "latents": 3}
    sizes |= {"reference_only": 4, "embedding": 4, "embedding_mixed": 4}
    assert found["features"] == sizes | {"bands+embedding": 9}
    scores = found["splits"]["test"]["targets"]["neighbourhood_mean"]["scores"]
    assert set(scores) == set(found["features"])
    assert scores["bands"] > 0.5 > scores["embedding"]
    assert probe_scores(world.samples)["splits"] == found["splits"]


def test_the_targets_are_those_of_the_reference_and_absent_sensors_are_known(
    world: SimpleNamespace,
) -> None:
    fit = world.samples[FITTED_ON]
    bands, latents, embedding, without, mixed = (
        fit.features[name]
        for name in ("bands", "latents", "embedding", "reference_only", "embedding_mixed")
    )
    lone = fit.origin.cube == "b"
    assert lone.any() and not lone.all()
    assert np.isnan(bands[lone, 3:]).all() and np.isfinite(bands[:, :3]).all()
    assert np.isnan(latents[lone, 2:]).all() and np.isfinite(latents[:, :2]).all()
    assert np.isfinite(embedding).all()
    # Where there is no radar, it makes no difference to mask it.
    there = np.isfinite(latents).all(axis=1)
    np.testing.assert_allclose(without[~there], embedding[~there], atol=1e-6)
    assert (np.abs(without - embedding)[there].max(axis=1) > 1e-4).all()
    assert there.any() and not (there & lone).any()
    masked = (mixed == without).all(axis=1)
    np.testing.assert_array_equal(mixed[~masked], embedding[~masked])
    assert 0.3 < masked[there].mean() < 0.7
    assert fit.targets["neighbourhood_mean"].shape == (len(fit), 3)


def test_cubes_of_no_split_are_further_sites_to_leave_out(
    world: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tower, whose truth is known, and a cube of which nothing is."""

    def sites(samples: Probed) -> list[str]:
        return sorted(set(samples.origin.site.tolist()))

    monkeypatch.setattr(probes, "leave_one_site_out", sites)
    cubes = [*world.cubes["optical"]]
    for number, name in enumerate(("tower", "unknown")):
        made = smooth(10 + number, 3)
        cubes.append(write_made_cube(tmp_path / f"{name}.zarr.zip", *made, SENSORS["optical"]))
    truth = world.truth | {"tower": world.truth["a"]}
    inputs = {"model": world.root / "optical", "labels": {}, **world.settings, "max_samples": 80}
    found = []
    for paths, known in ((cubes, truth), (world.cubes["optical"], world.truth)):
        output = tmp_path / f"{len(found)}.json"
        probe_encoder(cubes=paths, truth=known, output=output, **inputs)
        found.append(json.loads(output.read_text()))
    assert [one["leave_one_site_out"] for one in found] == [[*SITES, "tower"], [*SITES]]
    assert found[0]["splits"] == found[1]["splits"]


def test_embeddings_may_be_altered_before_they_are_scored(world: SimpleNamespace) -> None:
    """The optical bands stand for an embedding, as the random one is of no use."""

    def scores(change: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        altered = {
            split: replace(
                part,
                features={**part.features, "embedding": change(part.features["bands"][:, :3])},
            )
            for split, part in world.samples.items()
        }
        return probe_scores(altered)["splits"]["test"]["targets"]["neighbourhood_mean"]["scores"]

    rng = np.random.default_rng(0)
    plain = scores(lambda embedding: embedding)
    step = 4 * world.samples[FITTED_ON].features["bands"][:, :3].std(axis=0) / 127
    rounded = scores(lambda embedding: np.round(embedding / step) * step)
    shuffled = scores(lambda embedding: rng.permutation(embedding))
    assert rounded["bands"] == plain["bands"] == shuffled["bands"]
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
