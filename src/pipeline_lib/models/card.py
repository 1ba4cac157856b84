"""The model card that lies beside every trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline_lib.config import Loss

KINDS = {
    "dense": "fully convolutional: applied to a tile, it gives each pixel the numbers that it "
    "gives the patch around it",
    "patch": "the paper's, which pools over a whole patch: run on the patch around each pixel",
}
"""Kind of encoder -> what it is."""

_GROUPS = {
    "land_cover": "Validation, by land-cover class of the site",
    "seasons": "Validation, by season of the centre frame (DJF: December to February, and so on)",
}
"""Kind of group -> heading of its results."""


def encoder_card(description: Mapping[str, Any], parameters: int) -> str:
    """Markdown card of a sensor's encoder, from its description and its number of parameters."""
    name, sensor = description["sensor_name"], description["sensor"]
    context, training = description["context"], description["training"]
    return "\n".join(
        [
            f"# Encoder of {name}",
            "",
            f"Turns {context['frames']} frames of {context['patch_px']} x {context['patch_px']} "
            f"pixels of `{sensor['collection']}` ({sensor['quantity']}, bands "
            f"{', '.join(sensor['bands'])}) into {sensor['latent_dim']} dimensions for the centre "
            "pixel and the date of the middle frame.",
            "",
            "## Model",
            *_architecture(sensor, context, parameters),
            "",
            "## Data",
            *_data(training),
            "",
            "## Training loss",
            *_loss(sensor["loss"]),
            "",
            "## Use and limits",
            "Made to be applied densely to cubes of the same collection, processed by the same "
            "pipeline, and to be joined with other sensors' latents by a fusion model. Inputs "
            "are clipped at the bounds of its normalisation. Nothing is known of its behaviour "
            "outside the climates, land covers and years of its training sites; numbers of two "
            "separately trained encoders are not comparable.",
            "",
            "## Results",
            f"Centre and context MAE in {sensor['quantity']}, the scaled one in units of the "
            "training quantiles (0..1), SAM in radians; best epoch.",
            "",
            *_table(description["metrics"]),
            *_groups(description["groups"]),
            "",
        ]
    )


def fusion_card(description: Mapping[str, Any], parameters: int) -> str:
    """Markdown card of a fusion, from its description and its number of parameters."""
    block, training = description["fusion"], description["training"]
    inputs = ", ".join(f"{name} ({size})" for name, size in description["latents"].items())
    encoders = [f"- {name}: `{digest}`" for name, digest in description["encoders"].items()]
    return "\n".join(
        [
            "# Fusion",
            "",
            f"Joins the latents of {inputs} into {block['embedding_dim']} dimensions per pixel and "
            f"date of {block['reference']}.",
            "",
            "## Model",
            "A transformer over one token per sensor. Before training it was the linear map of all "
            "latents to the embedding and back that keeps best what the decoders tell of the "
            "centre and its neighbourhood.",
            "",
            f"- Layers: {block['layers']}, channels: {block['width']}.",
            f"- Dimensions of an embedding: {block['embedding_dim']}, of mean 0 over training "
            "samples, and of variance 1 over all of them or those that have all sensors, whichever "
            "is larger.",
            f"- Parameters: {parameters:,}.",
            "",
            "## Data",
            *_data(training),
            "",
            "## Training loss",
            "Per sensor the loss of its own encoder, over the share of samples that have the "
            f"sensor; the neighbourhood's weight in it is multiplied by "
            f"{block['neighbourhood_weight']:g}, that of the centre by "
            f"{_factors(block['centre_weights'], description['latents'])}. Added to it, times "
            f"{block['joint_weight']:g}: 1 - SSIM and the spectral angle over all sensors "
            "together.",
            "",
            "## Encoders it belongs to",
            *encoders,
            "",
            "## Use and limits",
            "Only valid with exactly these encoders. A sensor that is absent is masked out; so "
            f"that the fusion learns to do without, each but {block['reference']} was left out of "
            f"{100 * block['sensor_dropout']:g} % of the training samples. Nothing is known of its "
            "behaviour outside the climates, land covers and years of its training sites.",
            "",
            "## Results",
            "Per sensor as in the cards of the encoders; best epoch. The metrics of training are "
            "those of its samples, some of them with sensors left out.",
            "",
            *_table(description["metrics"]),
            *_groups(description["groups"]),
            "",
        ]
    )


def _architecture(
    sensor: Mapping[str, Any], context: Mapping[str, Any], parameters: int
) -> list[str]:
    encoder = sensor["encoder"]
    return [
        f"- Kind: {encoder['kind']}, {KINDS[encoder['kind']]}.",
        f"- Receptive field: {context['patch_px']} x {context['patch_px']} pixels, "
        f"{context['frames']} frames.",
        f"- Dimensions of a latent: {sensor['latent_dim']}{_fixed(encoder)}.",
        f"- Parameters, decoder included: {parameters:,}.",
    ]


def _fixed(encoder: Mapping[str, Any]) -> str:
    count = encoder["components"]
    return f", the first {count} of them principal components of the spectrum" if count else ""


def _loss(loss: Mapping[str, float]) -> list[str]:
    fields = Loss.model_fields
    rows = [f"| {fields[name].description} | {value:g} |" for name, value in loss.items()]
    return ["| | value |", "|---|---|", *rows]


def _factors(weights: Mapping[str, float], sensors: Mapping[str, int]) -> str:
    return ", ".join(f"{weights.get(name, 1.0):g} ({name})" for name in sensors)


def _data(training: Mapping[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {split}" for split, count in training["cubes"].items())
    return [
        f"Cubes: {counts}. Digest of the training data: `{training['data_digest']}`.",
        f"Seed {training['seed']}, {training['epochs']} epochs, best epoch "
        f"{training['best_epoch']}, config digest `{training['config_digest']}`.",
    ]


def _groups(groups: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    parts = [["", f"### {_GROUPS[kind]}", "", *_table(found)] for kind, found in groups.items()]
    return [line for part in parts for line in part]


def _table(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    columns = list(metrics)
    names = list(dict.fromkeys(name for column in columns for name in metrics[column]))
    rows = [
        f"| {name} | " + " | ".join(_number(metrics[column].get(name)) for column in columns) + " |"
        for name in names
    ]
    return [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
