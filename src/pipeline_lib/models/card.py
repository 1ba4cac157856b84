"""The model card that lies beside every trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def encoder_card(description: Mapping[str, Any]) -> str:
    """Markdown card of a sensor's encoder, from its description."""
    name, sensor = description["sensor_name"], description["sensor"]
    context, training = description["context"], description["training"]
    return "\n".join(
        [
            f"# Encoder of {name}",
            "",
            f"Turns {context['frames']} frames of {context['patch_px']} x {context['patch_px']} "
            f"pixels of `{sensor['collection']}` ({sensor['quantity']}, bands "
            f"{', '.join(sensor['bands'])}) into {sensor['latent']} numbers for the centre pixel "
            "and the date of the middle frame.",
            "",
            "## Data",
            *_data(training),
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
            "",
        ]
    )


def fusion_card(description: Mapping[str, Any]) -> str:
    """Markdown card of a fusion, from its description."""
    block, training = description["fusion"], description["training"]
    inputs = ", ".join(f"{name} ({size})" for name, size in description["latents"].items())
    encoders = [f"- {name}: `{digest}`" for name, digest in description["encoders"].items()]
    return "\n".join(
        [
            "# Fusion",
            "",
            f"Joins the latents of {inputs} into {block['features']} numbers per pixel and date "
            f"of {block['reference']}.",
            "",
            "## Data",
            *_data(training),
            "",
            "## Encoders it belongs to",
            *encoders,
            "",
            "## Use and limits",
            "Only valid with exactly these encoders. A sensor that is absent is masked out; what "
            "that costs depends on how often it was absent in training.",
            "",
            "## Results",
            "Per sensor as in the cards of the encoders; best epoch.",
            "",
            *_table(description["metrics"]),
            "",
        ]
    )


def _data(training: Mapping[str, Any]) -> list[str]:
    counts = ", ".join(f"{count} {split}" for split, count in training["cubes"].items())
    return [
        f"Cubes: {counts}. Digest of the training data: `{training['data_digest']}`.",
        f"Seed {training['seed']}, {training['epochs']} epochs, best epoch "
        f"{training['best_epoch']}, config digest `{training['config_digest']}`.",
    ]


def _table(metrics: Mapping[str, Any]) -> list[str]:
    splits = list(metrics)
    names = list(dict.fromkeys(name for split in splits for name in metrics[split]))
    rows = [
        f"| {name} | " + " | ".join(_number(metrics[split].get(name)) for split in splits) + " |"
        for name in names
    ]
    return [f"| | {' | '.join(splits)} |", "|---" * (len(splits) + 1) + "|", *rows]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
