"""Every key of the config: its name, its field, and the block that it holds."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo


class Key(NamedTuple):
    """One key of the config.

    ``name``: as the table of keys has it, with ``<name>`` and ``[]`` for what the user chooses.
    ``block``: what the key holds, if that is a block, or several by name (``suffix`` is
    ``.<name>``) or in a list (``[]``).
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


class Place(NamedTuple):
    """Where something stands in the config.

    ``block``: the innermost block around it. ``generic``: the place of that block, as the
    table of keys has it. ``names``: what stands for each ``<name>`` and ``[]`` in it.
    ``inside``: what is left of the way, within the block.
    """

    block: type[BaseModel]
    generic: str
    names: tuple[str, ...]
    inside: tuple[str | int, ...]


def place_of(root: type[BaseModel], way: Sequence[str | int]) -> Place:
    """Follow keys, names and numbers of entries from the outermost block."""
    block, generic, left = root, "", tuple(way)
    names: tuple[str, ...] = ()
    while left and (field := block.model_fields.get(str(left[0]))) is not None:
        inner, suffix = _inner(field.annotation)
        taken = 2 if suffix else 1
        if inner is None or len(left) < taken:
            break
        generic = f"{generic}.{left[0]}{suffix}".removeprefix(".")
        names += tuple(str(part) for part in left[1:taken])
        block, left = inner, left[taken:]
    return Place(block, generic, names, left)


def _inner(annotation: Any, suffix: str = "") -> tuple[type[BaseModel] | None, str]:
    """The block that a key of this type holds, and how one of several is addressed."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, suffix
    if origin is dict:
        return _inner(arguments[1], ".<name>")
    if origin is tuple:
        return _inner(arguments[0], "[]")
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        for argument in arguments:
            found = _inner(argument, suffix)
            if found[0] is not None:
                return found
    return None, ""
