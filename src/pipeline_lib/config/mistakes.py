"""Mistakes in the config, each told in one line: what, where and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline_lib.config.keys import Place, keys_of, place_of
from pipeline_lib.errors import in_a_line

Way = tuple[str | int, ...]

FORMER = {
    "sensors.<name>.loss.fusion_centre": "was renamed to `fusion.centre_weights.<name>`",
}
"""Keys that earlier versions had, and what became of them."""

TYPES = {
    "bool": "must be true or false",
    "date": "must be a day such as 2021-05-31",
    "dict": "must be a block of keys",
    "finite": "must be a finite number",
    "float": "must be a number",
    "int": "must be a whole number",
    "invalid": "must be a text; put it in quotes",
    "list": "must be a list",
    "mapping": "must be a block of keys",
    "model": "must be a block of keys",
    "path": "must be a path",
    "string": "must be a text; put it in quotes",
    "tuple": "must be a list",
}
"""First word of pydantic's name for a mistake in type -> what is told."""

PATTERNS = {
    "^[A-Za-z0-9][A-Za-z0-9-]*$": "must be made of letters, digits and hyphens, no hyphen first",
    "^[A-Z]{2}-[A-Za-z0-9]{3}$": "must be the code of a FLUXNET site, such as DE-Hai",
}

SHOWN = 60
"""Most characters of a value that are repeated."""


def told(error: ValidationError, root: type[BaseModel], content: Mapping[str, Any]) -> list[str]:
    """Each mistake in one line.

    Parameters
    ----------
    error
        What pydantic found.
    root
        The outermost block.
    content
        The config, for names that are close to others in it.
    """
    lines: list[str] = []
    missing: dict[Way, list[str]] = {}
    for detail in error.errors():
        way = detail["loc"]
        if detail["type"] == "missing" and isinstance(way[-1], str):
            missing.setdefault(way[:-1], []).append(way[-1])
        elif detail["type"] == "value_error":
            lines += _contradictions(way, detail["msg"], detail["input"])
        else:
            # An entry that a list lacks is a mistake of the list.
            whole = way[:-1] if detail["type"] == "missing" else way
            lines.append(f"{_where(whole)}: {_what(detail, place_of(root, way), root)}")
    lines += [_lacking(way, keys, place_of(root, way), content) for way, keys in missing.items()]
    # A list that is too short is one mistake, not one for each entry that it lacks.
    return list(dict.fromkeys(lines))


def suggestion(word: str, known: Iterable[str]) -> str:
    """What to put in place of a word: the one of the known ones that is close, or any of them."""
    names = list(known)
    close = _close(word, names)
    return f"did you mean `{close[0]}`?" if close else f"use {' or '.join(names)}"


def _close(word: str, known: Iterable[str]) -> list[str]:
    folded = {name.casefold(): name for name in known}
    return [folded[name] for name in get_close_matches(word.casefold(), folded, 1)]


def _where(way: Way) -> str:
    return ".".join(str(part) for part in way if part != "[key]")


def _shown(given: Any) -> str:
    """What was given, unless that is a whole block."""
    if isinstance(given, dict | BaseModel):
        return ""
    text = repr(given)
    return f" (given: {text if len(text) <= SHOWN else text[:SHOWN] + '...'})"


def _contradictions(way: Way, message: str, given: Any) -> Iterator[str]:
    """What a validator of ours says; the outermost one says several things, one in each line."""
    for line in message.removeprefix("Value error, ").splitlines():
        yield f"{_where(way)}: {line}{_shown(given)}" if way else line


def _what(detail: Any, place: Place, root: type[BaseModel]) -> str:
    kind, given, more = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in ("extra_forbidden", "invalid_key"):
        return f"unknown key; {_advice(place, root)}"
    if given is None:
        return "is empty; give a value, or leave the key out"
    if kind in ("missing", "too_short"):
        return f"has {len(given)} entries, which are too few{_meaning(place)}"
    if kind == "too_long":
        return f"has {len(given)} entries, which are too many{_meaning(place)}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", more["expected"])
        return f"{given!r} is no choice; {suggestion(str(given), choices)}"
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(more["pattern"], f"must match {more['pattern']}") + _shown(given)
    plain = TYPES.get(kind.split("_")[0])
    if plain is None:
        plain = in_a_line(detail["msg"].replace("Input should be", "must be"))
    return plain + _shown(given)


def _meaning(place: Place) -> str:
    """What the key of a place holds."""
    field = place.block.model_fields.get(str(place.inside[0])) if place.inside else None
    return f"; it holds: {field.description}" if field is not None else ""


def _lacking(way: Way, keys: Sequence[str], place: Place, content: Mapping[str, Any]) -> str:
    """A block without keys that it needs; with several it may be a misspelt name of another."""
    if len(keys) == 1:
        field = place.block.model_fields[keys[0]]
        return f"{_where((*way, keys[0]))}: is missing; add it ({field.description})"
    siblings: Any = content
    for part in way[:-1]:
        siblings = siblings[part]
    others = set(siblings) - {way[-1]} if isinstance(siblings, Mapping) else set()
    close = _close(str(way[-1]), map(str, others))
    instead = f", or did you mean `{_where((*way[:-1], close[0]))}`?" if close else ""
    return f"{_where(way)}: lacks {', '.join(keys)}; add them{instead}"


def _advice(place: Place, root: type[BaseModel]) -> str:
    """What to do about a key that its block does not know."""
    key = str(place.inside[0])
    if became := FORMER.get(f"{place.generic}.{key}".removeprefix(".")):
        return became.replace("<name>", place.names[0] if place.names else "<name>")
    here = [f"{place.generic}.{name}" for name in _close(key, place.block.model_fields)]
    there = [known.name for known in keys_of(root) if known.name.split(".")[-1] == key]
    there.sort(key=lambda name: _shared(name, place.generic), reverse=True)
    found = [f"`{_named(name.removeprefix('.'), place)}`" for name in [*here, *there[:1]]]
    if not found:
        return "see config/README.md for the known ones"
    return f"did you mean {' or '.join(found)}?"


def _shared(name: str, other: str) -> int:
    """How many of the first parts of two keys are the same."""
    pairs = zip(name.split("."), other.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _named(name: str, place: Place) -> str:
    """A key with the names of a place, as far as it is within the same blocks."""
    parts, names = name.split("."), iter(place.names)
    for index in range(_shared(name, place.generic)):
        if parts[index] == "<name>":
            parts[index] = next(names)
        elif parts[index].endswith("[]"):
            parts[index] = f"{parts[index][:-2]}.{next(names)}"
    return ".".join(parts)
