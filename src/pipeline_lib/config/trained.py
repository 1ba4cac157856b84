"""The config blocks of trained models; weights are not read here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline_lib.config.base import Name
from pipeline_lib.config.learning import Context, Fusion
from pipeline_lib.config.sensors import Sensor
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import check_arrived, read_json

ADVICE = "set it to the folder `models` of a finished run"


class _Inputs(BaseModel):
    resolution_m: tuple[float, ...] = ()


class _Training(BaseModel):
    inputs: _Inputs = _Inputs()


class _Encoder(BaseModel):
    kind: Literal["encoder"]
    training: _Training = _Training()
    sensor: Sensor
    context: Context
    digest: str


class _Fusion(BaseModel):
    kind: Literal["fusion"]
    fusion: Fusion
    encoders: dict[Name, str]
    digest: str


Description = TypeVar("Description", _Encoder, _Fusion)


class TrainedBlocks(BaseModel):
    """The blocks of trained models; the context is that of the reference sensor's encoder.

    ``digest`` is that of the fusion, which covers the digests of the encoders; ``resolution_m`` the
    pixel sizes that they were trained on, none if they recorded none.
    """

    sensors: dict[str, Sensor]
    context: Context
    fusion: Fusion
    digest: str
    resolution_m: set[float]


def are_trained(folder: Path) -> bool:
    """Whether a folder contains models: their fusion, which is trained last."""
    return (folder / "fusion").is_dir()


def trained_blocks(folder: Path) -> TrainedBlocks:
    """The blocks of the models in ``<folder>/fusion`` and ``<folder>/<sensor>``.

    Raises UserError if there are none, or an encoder is not the one that the fusion was trained
    with.
    """
    if not folder.is_dir():
        raise UserError(f"folder not found: {folder}; {ADVICE}")
    fusion = _read(folder / "fusion", _Fusion)
    encoders = {name: _read(folder / name, _Encoder) for name in fusion.encoders}
    for name, digest in fusion.encoders.items():
        if encoders[name].digest != digest:
            raise UserError(
                f"{folder / name}: not the encoder that the fusion was trained with (digest "
                f"{in_a_line(encoders[name].digest[:12])}, not {in_a_line(digest[:12])}); {ADVICE}"
            )
    reference = fusion.fusion.reference
    if reference not in encoders:
        raise UserError(f"{folder / 'fusion'}: no encoder of its reference sensor; {ADVICE}")
    sensors = {name: encoder.sensor for name, encoder in encoders.items()}
    context = encoders[reference].context
    return TrainedBlocks(
        sensors=sensors,
        context=context,
        fusion=fusion.fusion,
        digest=fusion.digest,
        resolution_m={m for one in encoders.values() for m in one.training.inputs.resolution_m},
    )


def _read(folder: Path, kind: type[Description]) -> Description:
    path = folder / "model.json"
    check_arrived(path, ADVICE)
    if (weights := folder / "model.safetensors").exists():
        check_arrived(weights, ADVICE)
    content = read_json(path, "copy or download it again")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = ".".join(str(part) for part in error.errors()[0]["loc"]) or "content"
        writer = content.get("library") if isinstance(content, dict) else None
        by = f" but by {in_a_line(writer)}" if writer else ""
        raise UserError(
            f"{path}: not written by this version of the library ({in_a_line(wrong)}){by}; {ADVICE}"
        ) from error
