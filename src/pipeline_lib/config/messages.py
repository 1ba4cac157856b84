"""Mistakes in the config, one line each: key, what is wrong, and what was meant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline_lib.config.keys import keys_of
from pipeline_lib.errors import UserError, in_a_line

SHOWN = 60
"""Characters of a value that are repeated."""

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
        # An absent entry is a mistake of its list.
        entry = detail["type"] == "missing" and isinstance(detail["loc"][-1], int)
        where = _text(detail["loc"][:-1] if entry else detail["loc"])
        if detail["type"] == "missing" and not entry:
            missing.setdefault(detail["loc"][:-1], []).append(str(detail["loc"][-1]))
            continue
        # The validator of the outermost block reports several mistakes, with their own keys.
        for text in _what(detail, root):
            lines.append(f"{where}: {text}" if where else text)
    for block, keys in missing.items():
        lines.append(f"{_text(block)}: missing {', '.join(keys)}{_other_name(block, content)}")
    return list(dict.fromkeys(lines))


def _text(location: Location) -> str:
    return ".".join(str(part) for part in location if part != "[key]")


def _other_name(block: Location, content: Any) -> str:
    """An incomplete block may be a misspelt name of another, such as `sentinel2`."""
    if not block:
        return ""
    for part in block[:-1]:
        content = content[part]
    others = [name for name in content if name != block[-1]] if isinstance(content, dict) else []
    close = _close(str(block[-1]), others)
    return f"; did you mean `{_text((*block[:-1], close[0]))}`?" if close else ""


def suggestion(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or all of them."""
    names = list(known)
    close = _close(word, names)
    return f"did you mean `{close[0]}`?" if close else f"use {' or '.join(names)}"


def _close(word: str, known: Iterable[str]) -> list[str]:
    folded = {name.casefold(): name for name in known}
    return [folded[name] for name in get_close_matches(word.casefold(), folded, 1)]


def _what(detail: Any, root: type[BaseModel]) -> list[str]:
    kind, given = detail["type"], detail["input"]
    if kind in ("extra_forbidden", "invalid_key"):
        return [f"unknown key; {_meant(detail['loc'], root)}"]
    if kind == "missing":
        return [f"too few entries ({len(given)})"]
    if kind == "value_error":
        texts: list[str] = str(detail["ctx"]["error"]).splitlines()
        return texts
    text = in_a_line(detail["msg"]).removeprefix("Input ")
    text = text[:1].lower() + text[1:]
    if not isinstance(given, dict | BaseModel):
        shown = in_a_line(repr(given))
        text += f" (given: {shown if len(shown) <= SHOWN else shown[:SHOWN] + '...'})"
    if kind == "literal_error":
        choices = detail["ctx"]["expected"].split("'")[1::2]
        text += "".join(f"; did you mean `{close}`?" for close in _close(str(given), choices))
    return [text]


def _meant(location: Location, root: type[BaseModel]) -> str:
    """The key of the same block that is spelled alike, and the same key in another block."""
    *block, word = map(str, location)
    known = [key.name.replace("[]", ".[]").split(".") for key in keys_of(root)]
    here = [
        key
        for key in known
        if len(key) == len(location)
        and all(part in (name, "<name>", "[]") for part, name in zip(key, block, strict=False))
    ]
    meant = [".".join([*block, name]) for name in _close(word, [key[-1] for key in here])]
    meant += [".".join(key).replace(".[]", "[]") for key in known if key[-1] == word][:1]
    if not meant:
        return "see config/README.md"
    return f"did you mean {' or '.join(f'`{key}`' for key in meant)}?"


def check_duplicates(paths: Iterable[Path]) -> None:
    """Raise UserError if a YAML file holds a key twice: YAML silently takes the last one."""
    refuse([mistake for path in paths for mistake in _duplicates(path)])


def _duplicates(path: Path) -> Iterator[str]:
    try:
        nodes = [(yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader), "")]
    except yaml.YAMLError:
        return  # JSON with tabs, which Snakemake reads as JSON
    seen: set[int] = set()
    while nodes:
        node, place = nodes.pop()
        if id(node) in seen:  # the target of an anchor
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += [(entry, f"{place}{index}.") for index, entry in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in lines and name != "<<":
                    yield f"{place}{name}: duplicate key in {path}, lines {lines[name]} and {line}"
                lines[name] = line
                nodes.append((value, f"{place}{name}."))
