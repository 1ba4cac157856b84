"""Mistakes in the config, one line each: key, what is wrong, and what was meant."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline_lib.errors import UserError, in_a_line

Location = tuple[str | int, ...]


def refuse(mistakes: Sequence[str]) -> None:
    """Raise one UserError with all mistakes, if there are any."""
    if mistakes:
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        raise UserError(f"the config has {len(mistakes)} mistake(s):\n{lines}")


def mistakes_in(
    error: ValidationError, root: type[BaseModel], content: Mapping[str, Any]
) -> list[str]:
    """One line per error of pydantic in a config; ``root`` is its type."""
    lines = []
    missing: dict[Location, list[str]] = {}
    for detail in error.errors(include_url=False):
        location = _as_given(detail["loc"], content)
        if detail["type"] == "missing":
            name = location[-1] if isinstance(location[-1], str) else f"entry {location[-1]}"
            missing.setdefault(location[:-1], []).append(name)
        else:  # The validator of the outermost block reports several mistakes, with their own keys.
            where = f"{_text(location)}: " if location else ""
            lines += [f"{where}{text}" for text in _what(detail, location, root)]
    for block, keys in missing.items():
        lines.append(f"{_text(block)}: missing {', '.join(keys)}{_other_name(block, content)}")
    return list(dict.fromkeys(lines))


def _as_given(location: Location, content: Any) -> Location:
    """The location without the indices of lists that were given as their only entry."""
    kept: list[str | int] = []
    for part in location:
        if part == "[key]" or (part == 0 and isinstance(content, Mapping) and 0 not in content):
            continue
        kept.append(part)
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            content = None
    return tuple(kept)


def _text(location: Location) -> str:
    return ".".join(map(str, location))


def _other_name(block: Location, content: Any) -> str:
    """An incomplete block may be a misspelt name of another, such as `sentinel2`."""
    for part in block[:-1]:
        content = content[part]
    if not block or not isinstance(content, dict):
        return ""
    close = _close(str(block[-1]), (name for name in content if name != block[-1]))
    return "".join(f"; did you mean `{_text((*block[:-1], name))}`?" for name in close)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or all of them."""
    names = list(known)
    close = _close(word, names)
    return f"did you mean `{close[0]}`?" if close else f"use {' or '.join(names)}"


def _close(word: str, known: Iterable[str]) -> list[str]:
    folded = {name.casefold(): name for name in known}
    return [folded[name] for name in get_close_matches(word.casefold(), folded, 1)]


def _what(detail: Any, location: Location, root: type[BaseModel]) -> list[str]:
    kind, given = detail["type"], detail["input"]
    if kind in ("extra_forbidden", "invalid_key"):
        return [f"unknown key; {_meant(location, root)}"]
    if kind == "value_error":
        texts: list[str] = str(detail["ctx"]["error"]).splitlines()
        return texts
    text = in_a_line(detail["msg"]).removeprefix("Input ")
    text = text[:1].lower() + text[1:]
    if not isinstance(given, dict | BaseModel):
        text += f" (given: {in_a_line(repr(given))})"
    if kind == "literal_error":
        choices = detail["ctx"]["expected"].split("'")[1::2]
        text += "".join(f"; did you mean `{close}`?" for close in _close(str(given), choices))
    return [text]


def _meant(location: Location, root: type[BaseModel]) -> str:
    """The key of the same block that is spelled alike, and the same key in another block."""
    *block, word = map(str, location)
    # An only entry may be given without its list.
    forms = (".[]", "")
    keys = [name.replace("[]", form).split(".") for form in forms for name, _ in keys_of(root)]
    near = [key[-1] for key in keys if len(key) == len(location) and _fits(key, block)]
    meant = [_text((*block, name)) for name in _close(word, near)]
    meant += [_text(tuple(key)).replace(".[]", "[]") for key in keys if key[-1] == word][:1]
    return f"did you mean `{'` or `'.join(meant)}`?" if meant else "see config/README.md"


def _fits(key: Sequence[str], block: Sequence[str]) -> bool:
    return all(part in (name, "<name>", "[]") for part, name in zip(key, block, strict=False))


def keys_of(block: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a block and of the blocks within it, each by its whole name.

    Names and list entries that the user chooses are ``<name>`` and ``[]``.
    """
    for name, field in block.model_fields.items():
        yield f"{prefix}{name}", field
        inner, suffix = _inner(field.annotation)
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}{suffix}.")


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The block that a type is, or has as entries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    suffix = {dict: ".<name>", tuple: "[]"}.get(typing.get_origin(annotation), "")
    for argument in typing.get_args(annotation):
        inner, below = _inner(argument)
        if inner is not None:
            return inner, suffix + below
    return None, ""
