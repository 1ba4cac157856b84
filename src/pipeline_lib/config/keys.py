"""Every key of the config, for the table of keys and for suggestions."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class Key(NamedTuple):
    """One key; its ``name`` has ``<name>`` and ``[]`` for what the user chooses.

    ``block`` is the type of the value, if that is a block, or of its entries, if those are blocks
    by name (``suffix`` is ``.<name>``) or in a list (``[]``).
    """

    name: str
    field: FieldInfo
    block: type[BaseModel] | None
    suffix: str


def keys_of(block: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """The keys of a block and of the blocks within it."""
    for name, field in block.model_fields.items():
        inner, suffix = _inner(field.annotation)
        yield Key(f"{prefix}{name}", field, inner, suffix)
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}{suffix}.")


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    suffix = {dict: ".<name>", tuple: "[]"}.get(typing.get_origin(annotation), "")
    for argument in typing.get_args(annotation):
        inner, below = _inner(argument)
        if inner is not None:
            return inner, suffix + below
    return None, ""
