"""Trained models on disk: weights as safetensors, everything else as JSON, and a card.

Loading executes nothing from the files: JSON is parsed and validated by blocks of the config, and
safetensors holds numbers only. The digest covers the weights and `model.json`, so a damaged or
edited model is rejected. A digest does not prove who wrote a file; so a model is built only if its
sizes are those of the weights beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, Self, TypedDict, TypeVar, Unpack

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, Field, ValidationError, model_validator
from torch import Tensor, nn

from pipeline_lib import __version__
from pipeline_lib.config import Context, Loss, Sensor, models_folder
from pipeline_lib.config import Fusion as FusionBlock
from pipeline_lib.config.base import Block, Count
from pipeline_lib.dataset import Normalisation
from pipeline_lib.dataset.inputs import Inputs
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import (
    atomic_path,
    check_arrived,
    digest_of,
    read_json,
    write_csv,
    write_json,
)
from pipeline_lib.models.autoencoder import Autoencoder
from pipeline_lib.models.fusion import Fusion

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
CURVES = "curves.csv"
CARD = "README.md"
AGAIN = "copy or download the model's whole folder again, or train it again"

Metrics = Mapping[str, Mapping[str, float]]
"""Split or group -> metric -> value."""
ModelType = TypeVar("ModelType", bound=nn.Module)
DescriptionType = TypeVar("DescriptionType", bound="_Description")


class Results(TypedDict):
    """What a training leaves beside the weights.

    ``metrics`` are those of the best epoch, ``groups`` those by land-cover class and by season
    (`training.groups.group_metrics`); ``training`` says what the model was trained on and how:
    digests, cubes, seed, epochs. ``curves`` are the rows of ``curves.csv``.
    """

    metrics: Metrics
    groups: NotRequired[Mapping[str, Metrics]]
    training: Mapping[str, Any]
    curves: Sequence[Mapping[str, Any]]


class _Training(BaseModel):
    """What is used of the record of a training; earlier versions recorded less."""

    remarks: tuple[str, ...] = ()
    inputs: Inputs = Inputs()


class _Description(Block):
    """Content of ``model.json`` for any model, but for the digest."""

    metrics: dict[str, dict[str, float]]
    groups: dict[str, dict[str, dict[str, float]]] = Field({})
    training: _Training
    library: str


class _EncoderDescription(_Description):
    kind: Literal["encoder"]
    sensor_name: str
    sensor: Sensor
    context: Context
    normalisation: dict[str, Any]


class _FusionDescription(_Description):
    kind: Literal["fusion"]
    fusion: FusionBlock
    latents: dict[str, Count]
    encoders: dict[str, str]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if set(self.encoders) != set(self.latents) or self.fusion.reference not in self.latents:
            raise ValueError("latents, encoders and reference name different sensors")
        return self


@dataclass(frozen=True)
class TrainedEncoder:
    """A trained autoencoder of one sensor, in evaluation mode on the CPU, and how it is applied.

    ``normalisation`` scales its inputs, ``digest`` is that of its weights and description,
    ``metrics`` (split -> metric -> value) are those of the best epoch, ``remarks`` sentences on
    what went wrong in its training (`training.remarks`), and ``inputs`` what it was trained on
    (`dataset.inputs`); both are empty of earlier versions.
    """

    name: str
    sensor: Sensor
    context: Context
    autoencoder: Autoencoder
    normalisation: Normalisation
    digest: str
    metrics: dict[str, dict[str, float]]
    remarks: tuple[str, ...] = ()
    inputs: Inputs = field(default_factory=Inputs)


@dataclass(frozen=True)
class TrainedFusion:
    """Trained fusion layers, and the digest of the encoder of each sensor they belong to."""

    block: FusionBlock
    fusion: Fusion
    encoders: dict[str, str]
    digest: str
    metrics: dict[str, dict[str, float]]
    remarks: tuple[str, ...] = ()

    @property
    def model_digest(self) -> str:
        """Digest of the fusion and its encoders together: of whatever decides an embedding."""
        return digest_of({"fusion": self.digest, "encoders": self.encoders})

    def check_encoders(self, encoders: Mapping[str, TrainedEncoder]) -> None:
        """Raise UserError, naming the sensor, if an encoder is not the fusion's."""
        for name, digest in self.encoders.items():
            if name not in encoders:
                raise UserError(f"fusion: the encoder of {name} is missing; train it first")
            if encoders[name].digest != digest:
                raise UserError(
                    f"fusion: was trained on another encoder of {name} (digest {digest[:12]}, "
                    f"not {encoders[name].digest[:12]}); copy all models of one run together, or "
                    "train the fusion again"
                )


def save_encoder(
    folder: str | Path,
    *,
    name: str,
    sensor: Sensor,
    context: Context,
    autoencoder: Autoencoder,
    normalisation: Normalisation,
    **results: Unpack[Results],
) -> str:
    """Write a trained encoder, whole or not at all, and return its digest."""
    own = {
        "kind": "encoder",
        "sensor_name": name,
        "sensor": sensor.model_dump(mode="json"),
        "context": context.model_dump(mode="json"),
        "normalisation": normalisation.to_json(),
    }
    return _save(folder, autoencoder, own, results)


def save_fusion(
    folder: str | Path,
    *,
    block: FusionBlock,
    fusion: Fusion,
    latents: Mapping[str, int],
    encoders: Mapping[str, str],
    **results: Unpack[Results],
) -> str:
    """Write trained fusion layers, as `save_encoder` does an encoder; returns the digest."""
    own = {
        "kind": "fusion",
        "fusion": block.model_dump(mode="json"),
        "latents": dict(sorted(latents.items())),
        "encoders": dict(sorted(encoders.items())),
    }
    return _save(folder, fusion, own, results)


def _save(folder: str | Path, model: nn.Module, own: dict[str, Any], results: Results) -> str:
    from safetensors.torch import save

    description = {
        **own,
        "metrics": results["metrics"],
        "groups": results.get("groups", {}),
        "training": results["training"],
        "library": f"pipeline_lib {__version__}",
    }
    weights = save({key: value.contiguous().cpu() for key, value in model.state_dict().items()})
    digest = _digest(weights, description)
    card = _card(description, sum(value.numel() for value in model.parameters()))
    with atomic_path(folder) as partial:
        partial.mkdir()
        (partial / WEIGHTS).write_bytes(weights)
        write_json(partial / DESCRIPTION, {**description, "digest": digest})
        write_csv(partial / CURVES, results["curves"])
        (partial / CARD).write_text(f"{card}\n\nDigest: `{digest}`\n")
    return digest


def _card(description: Mapping[str, Any], parameters: int) -> str:
    """Markdown card of a model."""
    loss_terms = {name: field.description for name, field in Loss.model_fields.items()}
    return render(description["kind"], **description, parameters=parameters, loss_terms=loss_terms)


def render(template: str, **content: Any) -> str:
    """Markdown of a template of this package."""
    # Markdown for a reader of files, not a page for a browser: nothing is to be escaped.
    environment = Environment(
        loader=PackageLoader("pipeline_lib.models"), undefined=StrictUndefined, autoescape=False
    )
    return environment.get_template(f"{template}.md.j2").render(**content)


def _digest(weights: bytes, description: Mapping[str, Any]) -> str:
    state = hashlib.sha256(weights)
    state.update(digest_of(description).encode())
    return state.hexdigest()


def _read(
    folder: Path, kind: str, schema: type[DescriptionType]
) -> tuple[DescriptionType, dict[str, Tensor], str]:
    """Description, weights and digest of a model, checked against each other."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    for name in (DESCRIPTION, WEIGHTS):
        check_arrived(folder / name, AGAIN)
    content = read_json(folder / DESCRIPTION, AGAIN)
    weights = (folder / WEIGHTS).read_bytes()
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise UserError(f"{folder}: holds no {kind} of this library; name the folder of one")
    digest = content.pop("digest", None)
    writer = in_a_line(content.get("library", "an unknown version"))
    try:
        numbers = load(weights)
    except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(
            f"{folder / WEIGHTS}: not a whole safetensors file, of {len(weights)} bytes "
            f"({in_a_line(error)}); {AGAIN}"
        ) from error
    if _digest(weights, content) != digest:
        raise UserError(
            f"{folder}: {DESCRIPTION} and {WEIGHTS} do not match the digest in {DESCRIPTION}: one "
            f"was edited, or they are of two models; {AGAIN}"
        )
    try:
        return schema.model_validate(content), numbers, str(digest)
    except (ValidationError, OverflowError) as error:
        raise UserError(
            f"{folder / DESCRIPTION}: written by {writer}, and not read by this version, "
            f"{__version__}; use the version that wrote it, or train the model again"
        ) from error


def _filled(
    build: Callable[[], ModelType],
    *,
    layers: int,
    sizes: Iterable[int],
    weights: Mapping[str, Tensor],
    folder: Path,
) -> ModelType:
    """A model with the weights, in evaluation mode.

    ``layers`` and ``sizes`` are the model's by its description. Each layer has tensors and each
    size has numbers of its own, so greater ones cannot be true and are not built. Raises UserError
    if the weights are not the model's in name, shape and type, or not finite.
    """
    misfit = UserError(
        f"{folder}: the weights do not fit this version of the library, {__version__}; use that of "
        f"its {DESCRIPTION}, or train the model again"
    )
    if layers > len(weights) or max(sizes) > sum(values.numel() for values in weights.values()):
        raise misfit
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                wanted = build().state_dict()
        except (UserError, RuntimeError) as error:
            raise misfit from error
        if _shapes(wanted) != _shapes(weights):
            raise misfit
        model = build()
    if not all(bool(torch.isfinite(values).all()) for values in weights.values()):
        raise UserError(f"{folder / WEIGHTS}: holds weights that are not finite; train again")
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (values.shape, values.dtype) for name, values in weights.items()}


def _integers(block: Block) -> list[int]:
    return [value for value in block.model_dump().values() if isinstance(value, int)]


def load_encoder(folder: str | Path) -> TrainedEncoder:
    """Trained encoder; raises UserError if the folder holds none, or a damaged one."""
    folder = Path(folder)
    description, weights, digest = _read(folder, "encoder", _EncoderDescription)
    sensor, context = description.sensor, description.context
    scaling = Normalisation.from_json(description.normalisation, str(folder))
    scaling.check_bands(sensor.bands, str(folder))
    autoencoder = _filled(
        lambda: Autoencoder(sensor, context),
        layers=sensor.encoder.head_layers,
        sizes=[sensor.latent_dim, *_integers(sensor.encoder), *_integers(context)],
        weights=weights,
        folder=folder,
    )
    return TrainedEncoder(
        description.sensor_name,
        sensor,
        context,
        autoencoder,
        scaling,
        digest,
        description.metrics,
        description.training.remarks,
        description.training.inputs,
    )


def load_fusion(folder: str | Path) -> TrainedFusion:
    """Trained fusion; raises UserError if the folder holds none, or a damaged one."""
    folder = Path(folder)
    description, weights, digest = _read(folder, "fusion", _FusionDescription)
    block, latents = description.fusion, description.latents
    fusion = _filled(
        lambda: Fusion(latents, block),
        layers=1,
        sizes=[*latents.values(), *_integers(block)],
        weights=weights,
        folder=folder,
    )
    about = (digest, description.metrics, description.training.remarks)
    return TrainedFusion(block, fusion, description.encoders, *about)


def load_models(where: str | Path) -> tuple[TrainedFusion, dict[str, TrainedEncoder]]:
    """The fusion and the encoders of a run, or of a place that `config.models_folder` knows.

    Raises UserError if they are missing, damaged or do not belong together.
    """
    folder = models_folder(where)
    fusion = load_fusion(folder / "fusion")
    encoders = {sensor: load_encoder(folder / sensor) for sensor in fusion.encoders}
    fusion.check_encoders(encoders)
    return fusion, encoders
