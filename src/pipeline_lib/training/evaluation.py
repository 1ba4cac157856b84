"""Reconstruction of fixed samples by trained models and by what needs no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_lib.dataset import Draw
from pipeline_lib.models import TrainedEncoder, TrainedFusion
from pipeline_lib.models.losses import spectral_angle
from pipeline_lib.seeds import generator
from pipeline_lib.training.batches import Batch
from pipeline_lib.training.fusions import load_fusion_source
from pipeline_lib.training.loop import Means
from pipeline_lib.training.sources import EncoderSource
from pipeline_lib.training.tasks import CRITERION, EncoderTask, FusionTask, Task

BATCH = 256


def sample_metrics(
    trained: TrainedEncoder, cubes: Sequence[Path], *, seed: int, max_samples: int | None
) -> dict[str, float]:
    """Errors of a trained encoder on fixed samples of some cubes.

    Parameters
    ----------
    trained
        The encoder.
    cubes
        Files of its sensor's cubes.
    seed, max_samples
        They and the cubes decide which samples are drawn, the same as in `baseline_metrics`.

    Returns
    -------
    dict
        ``loss``, ``centre_mae`` and ``context_mae`` (physical units), ``centre_mae_scaled``
        (0..1), ``sam`` (radians), ``ssim_loss``, and ``samples``.

    Raises
    ------
    UserError
        If no sample can be drawn.
    """
    source, drawn = _samples(trained, cubes, seed, max_samples)
    task = EncoderTask(trained.autoencoder, trained.sensor, trained.context, trained.normalisation)
    return {**_means(task, source.batches(drawn, BATCH)).take(), "samples": len(drawn)}


def fusion_metrics(
    trained: TrainedFusion,
    encoders: Mapping[str, TrainedEncoder],
    cubes: Mapping[str, Sequence[Path]],
    *,
    seed: int,
    max_samples: int | None,
) -> dict[str, float]:
    """Errors of the reconstructions from fused embeddings, on fixed samples.

    Returns
    -------
    dict
        ``loss``, ``centre_mae_scaled`` (sum over sensors), ``<sensor>.<metric>`` with the metrics
        of `sample_metrics` over the ``<sensor>.samples`` that have this sensor, and ``samples``.

    Raises
    ------
    UserError
        If the encoders are not the fusion's, or no sample can be drawn.
    """
    trained.check_encoders(encoders)
    own = {name: encoders[name] for name in trained.encoders}
    source = load_fusion_source(
        own, {name: sorted(cubes[name]) for name in own}, trained.block.reference
    )
    rng = generator(seed, "evaluation")
    drawn = source.primary.draw(rng, max_samples, "evaluation of the fusion")
    task = FusionTask(trained.fusion, trained.block, own)
    means = _means(task, source.batches(drawn, BATCH))
    counts = means.counts()
    samples = {f"{name}.samples": counts[f"{name}.{CRITERION}"] for name in own}
    return {**means.take(), **samples, "samples": len(drawn)}


def baseline_metrics(
    trained: TrainedEncoder,
    cubes: Sequence[Path],
    *,
    training_cubes: Sequence[Path],
    components: Sequence[int],
    seed: int,
    max_samples: int | None,
) -> dict[str, dict[str, float]]:
    """Errors at the centre of what needs no network, on the samples of `sample_metrics`.

    Parameters
    ----------
    trained
        Says which sensor, context and scaling.
    cubes, seed, max_samples
        As in `sample_metrics`.
    training_cubes
        Files that the principal components are fitted on.
    components
        Numbers of principal components of the centre's spectrum.

    Returns
    -------
    dict
        ``nearest_date`` (the same pixel in the sample's other frame closest in time),
        ``adjacent_pixel`` (a direct neighbour in the same frame) and ``pca_<n>``; each with
        ``centre_mae``, ``centre_mae_scaled``, ``sam`` and ``samples``, the number of samples
        where it exists.
    """
    source, drawn = _samples(trained, cubes, seed, max_samples)
    found = [_copies(batch) for batch in source.batches(drawn, BATCH)]
    truth, nearest, adjacent = (np.concatenate(parts) for parts in zip(*found, strict=True))
    fitting, chosen = _samples(trained, training_cubes, seed, max_samples)
    spectra = np.concatenate([_copies(batch)[0] for batch in fitting.batches(chosen, BATCH)])
    guesses = {"nearest_date": nearest, "adjacent_pixel": adjacent}
    mean = spectra.mean(axis=0)
    axes = np.linalg.svd(spectra - mean, full_matrices=False)[2]
    for count in components:
        basis = axes[:count]
        guesses[f"pca_{count}"] = mean + (truth - mean) @ basis.T @ basis
    return {name: _errors(trained, truth, guess) for name, guess in guesses.items()}


def _samples(
    trained: TrainedEncoder, cubes: Iterable[Path], seed: int, max_samples: int | None
) -> tuple[EncoderSource, Draw]:
    source = EncoderSource.load(
        sorted(cubes), trained.sensor, trained.context, trained.normalisation
    )
    rng = generator(seed, "evaluation")
    return source, source.draw(rng, max_samples, f"evaluation of {trained.name}")


def _means(task: Task, batches: Iterable[Any]) -> Means:
    means = Means()
    task.eval()
    with torch.inference_mode():
        for batch in batches:
            means.add(task(batch))
    return means


Spectra = NDArray[np.float64]


def _copies(batch: Batch) -> tuple[Spectra, Spectra, Spectra]:
    """Spectra ``(B, C)`` of centre, nearest date and neighbour; NaN where there is none."""
    values, valid = batch.values.double().numpy(), batch.valid.numpy()
    apart = np.abs(batch.days.double().numpy())
    frame, middle = values.shape[1] // 2, values.shape[-1] // 2
    rows = np.arange(len(values))
    here = valid[:, :, middle, middle].copy()
    here[:, frame] = False
    closest = np.where(here, apart, np.inf).argmin(axis=1)
    nearest = values[rows, closest, :, middle, middle]
    nearest[~here.any(axis=1)] = np.nan
    adjacent = np.full_like(nearest, np.nan)
    for dy, dx in ((-1, 0), (0, -1), (1, 0), (0, 1)):
        y, x = middle + dy, middle + dx
        free = np.isnan(adjacent[:, 0]) & valid[:, frame, y, x]
        adjacent[free] = values[free, frame, :, y, x]
    return values[:, frame, :, middle, middle], nearest, adjacent


def _errors(trained: TrainedEncoder, truth: Spectra, guess: Spectra) -> dict[str, float]:
    exists = ~np.isnan(guess).any(axis=1)
    truth, guess = truth[exists], guess[exists]
    lower = trained.normalisation.lower.astype(np.float64)
    extent = trained.normalisation.upper.astype(np.float64) - lower
    error = np.abs(guess - truth)
    angle = spectral_angle(
        torch.from_numpy(lower + guess * extent), torch.from_numpy(lower + truth * extent)
    )
    return {
        "centre_mae": float((error * extent).mean()) if len(error) else float("nan"),
        "centre_mae_scaled": float(error.mean()) if len(error) else float("nan"),
        "sam": float(angle.mean()),
        "samples": int(exists.sum()),
    }
