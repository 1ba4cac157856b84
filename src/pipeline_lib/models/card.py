"""The model card that lies beside every trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline_lib.config import Loss

KINDS = {
    "dense": "fully convolutional: applied to a tile, it gives each pixel the latent that it "
    "gives the patch around it",
    "patch": "the paper's, which pools over a whole patch: run on the patch around each pixel",
}
"""Kind of encoder -> what it is."""

HEADINGS = {
    "land_cover": "Validation, by land-cover class of the site",
    "seasons": "Validation, by season of the centre frame (DJF: December to February, and so on)",
}
"""Kind of group -> heading of its results."""


def model_card(description: Mapping[str, Any], parameters: int) -> str:
    """Markdown card of a model, from its description and its number of parameters."""
    # Markdown for a reader of files, not a page for a browser: nothing is to be escaped.
    environment = Environment(
        loader=PackageLoader("pipeline_lib.models"), undefined=StrictUndefined, autoescape=False
    )
    return environment.get_template(f"{description['kind']}.md.j2").render(
        **description,
        parameters=parameters,
        kinds=KINDS,
        headings=HEADINGS,
        loss_terms={name: field.description for name, field in Loss.model_fields.items()},
        names=lambda columns: dict.fromkeys(name for values in columns.values() for name in values),
    )
