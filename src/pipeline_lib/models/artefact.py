"""Trained models on disk: weights as safetensors, everything else as JSON, and a card.

Nothing in the files is executed when they are loaded. The digest covers the weights and what
`model.json` says, so that a damaged or edited model is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pipeline_lib import __version__
from pipeline_lib.config import Context, Sensor
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.dataset import Normalisation
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, digest_of, read_json, write_csv, write_json
from pipeline_lib.models.autoencoder import Autoencoder
from pipeline_lib.models.card import encoder_card, fusion_card
from pipeline_lib.models.fusion import Fusion

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
CURVES = "curves.csv"
CARD = "README.md"


@dataclass(frozen=True)
class TrainedEncoder:
    """A trained autoencoder of one sensor and what is needed to apply it.

    Parameters
    ----------
    name
        Sensor's name in the config.
    sensor, context
        Config blocks it was trained with.
    autoencoder
        In evaluation mode, on the CPU.
    normalisation
        Scaling of its inputs.
    digest
        SHA-256 over weights and description.
    metrics
        Split -> metric -> value, of the best epoch.
    """

    name: str
    sensor: Sensor
    context: Context
    autoencoder: Autoencoder
    normalisation: Normalisation
    digest: str
    metrics: dict[str, Any]

    def check_bands(self, bands: Sequence[str], where: str) -> None:
        """Refuse data whose bands are not the model's, in order; `where` names the data."""
        self.normalisation.check_bands(bands, where)


@dataclass(frozen=True)
class TrainedFusion:
    """Trained fusion layers.

    Parameters
    ----------
    block
        Config block.
    fusion
        In evaluation mode, on the CPU.
    encoders
        Sensor -> digest of the encoder it was trained on.
    digest, metrics
        As in `TrainedEncoder`.
    """

    block: FusionBlock
    fusion: Fusion
    encoders: dict[str, str]
    digest: str
    metrics: dict[str, Any]

    def check_encoders(self, encoders: Mapping[str, TrainedEncoder]) -> None:
        """Refuse encoders other than those the fusion was trained on.

        Raises
        ------
        UserError
            Naming the sensor.
        """
        for name, digest in self.encoders.items():
            if name not in encoders:
                raise UserError(f"fusion: the encoder of {name} is missing; train it first")
            if encoders[name].digest != digest:
                raise UserError(
                    f"fusion: was trained on another encoder of {name} (digest {digest[:12]}, "
                    f"found {encoders[name].digest[:12]}); train the fusion again"
                )


def save_encoder(
    folder: str | Path,
    *,
    name: str,
    sensor: Sensor,
    context: Context,
    autoencoder: Autoencoder,
    normalisation: Normalisation,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
    curves: Sequence[Mapping[str, Any]],
) -> str:
    """Write a trained encoder; the folder appears whole or not at all.

    Parameters
    ----------
    folder
        Where ``model.safetensors``, ``model.json``, ``curves.csv`` and ``README.md`` go.
    training
        What it was trained on and how: digests, cubes, seed, epochs.
    curves
        Rows of ``curves.csv``.

    Returns
    -------
    str
        The digest.
    """
    description = {
        "kind": "encoder",
        "sensor_name": name,
        "sensor": sensor.model_dump(mode="json"),
        "context": context.model_dump(mode="json"),
        "normalisation": normalisation.to_json(),
        "metrics": metrics,
        "training": training,
        "library": f"pipeline_lib {__version__}",
    }
    return _save(folder, description, autoencoder, curves, encoder_card(description))


def save_fusion(
    folder: str | Path,
    *,
    block: FusionBlock,
    fusion: Fusion,
    latents: Mapping[str, int],
    encoders: Mapping[str, str],
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
    curves: Sequence[Mapping[str, Any]],
) -> str:
    """Write trained fusion layers, as `save_encoder` does an encoder; returns the digest."""
    description = {
        "kind": "fusion",
        "fusion": block.model_dump(mode="json"),
        "latents": dict(sorted(latents.items())),
        "encoders": dict(sorted(encoders.items())),
        "metrics": metrics,
        "training": training,
        "library": f"pipeline_lib {__version__}",
    }
    return _save(folder, description, fusion, curves, fusion_card(description))


def _save(
    folder: str | Path,
    description: dict[str, Any],
    model: nn.Module,
    curves: Sequence[Mapping[str, Any]],
    card: str,
) -> str:
    from safetensors.torch import save

    weights = save({key: value.contiguous().cpu() for key, value in model.state_dict().items()})
    digest = _digest(weights, description)
    with atomic_path(folder) as partial:
        partial.mkdir()
        (partial / WEIGHTS).write_bytes(weights)
        write_json(partial / DESCRIPTION, {**description, "digest": digest})
        write_csv(partial / CURVES, curves)
        (partial / CARD).write_text(f"{card}\nDigest: `{digest}`\n")
    return digest


def _digest(weights: bytes, description: Mapping[str, Any]) -> str:
    state = hashlib.sha256(weights)
    state.update(digest_of(description).encode())
    return state.hexdigest()


def _read(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Description, weights and digest of a model, checked against each other."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    description = read_json(folder / DESCRIPTION)
    if not isinstance(description, dict) or description.get("kind") != kind:
        raise UserError(f"{folder}: holds no {kind} of this library; name the folder of one")
    try:
        content = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{folder / WEIGHTS}: no such file; train the model again") from None
    digest = description.pop("digest", "")
    if _digest(content, description) != digest:
        raise UserError(
            f"{folder}: damaged or edited, its content does not match its digest; "
            "train the model again"
        )
    try:
        return description, load(content), digest
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS}: not a safetensors file ({error})") from error


def _fill(model: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"{folder}: the weights do not fit this version of the library; train the model again"
        ) from error
    model.eval().requires_grad_(False)


def load_encoder(folder: str | Path) -> TrainedEncoder:
    """Load a trained encoder.

    Raises
    ------
    UserError
        If the folder holds none, or it is damaged or foreign.
    """
    folder = Path(folder)
    description, weights, digest = _read(folder, "encoder")
    try:
        sensor = Sensor.model_validate(description["sensor"])
        context = Context.model_validate(description["context"])
        normalisation = Normalisation.from_json(description["normalisation"], str(folder))
        name, metrics = str(description["sensor_name"]), dict(description["metrics"])
    except (KeyError, ValidationError) as error:
        raise _foreign(folder) from error
    with torch.random.fork_rng(devices=[]):
        autoencoder = Autoencoder(sensor, context)
    _fill(autoencoder, weights, folder)
    return TrainedEncoder(name, sensor, context, autoencoder, normalisation, digest, metrics)


def load_fusion(folder: str | Path) -> TrainedFusion:
    """Load trained fusion layers.

    Raises
    ------
    UserError
        If the folder holds none, or it is damaged or foreign.
    """
    folder = Path(folder)
    description, weights, digest = _read(folder, "fusion")
    try:
        block = FusionBlock.model_validate(description["fusion"])
        latents = {str(name): int(size) for name, size in description["latents"].items()}
        encoders = {str(name): str(value) for name, value in description["encoders"].items()}
        metrics = dict(description["metrics"])
    except (KeyError, ValidationError) as error:
        raise _foreign(folder) from error
    with torch.random.fork_rng(devices=[]):
        fusion = Fusion(latents, block)
    _fill(fusion, weights, folder)
    return TrainedFusion(block, fusion, encoders, digest, metrics)


def _foreign(folder: Path) -> UserError:
    return UserError(
        f"{folder / DESCRIPTION}: written by another version of the library; train the model again"
    )
