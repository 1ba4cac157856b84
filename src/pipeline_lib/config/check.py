"""Read and check YAML files of a config without Snakemake.

``python -m pipeline_lib.config.check my.yaml``
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.config.messages import refuse
from pipeline_lib.config.root import Config, merged, parse
from pipeline_lib.errors import UserError, in_a_line


def check(paths: Sequence[Path]) -> Config:
    """The config that Snakemake makes of these files, the last one on top.

    Raises UserError with all mistakes.
    """
    content: dict[str, Any] = {}
    for path in paths:
        try:
            with path.open(encoding="utf-8") as handle:
                content = merged(content, yaml.safe_load(handle) or {})
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise UserError(f"{path}: not a YAML file with keys ({in_a_line(error)})") from None
    check_yaml(paths)
    return parse(content)


def check_yaml(paths: Iterable[Path]) -> None:
    """Raise UserError for what YAML silently reads as something else.

    Of a key that occurs twice it takes the last one, and `010` is 8, `1:30` is 90.
    """
    mistakes: list[str] = []
    for path in paths:
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
        except yaml.YAMLError:
            continue  # JSON with tabs, which Snakemake reads as JSON
        mistakes += _misread(node, path)
    refuse(mistakes)


def _misread(node: yaml.Node | None, path: Path, place: str = "") -> Iterator[str]:
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")):
        if re.fullmatch("[-+]?0[0-7_]+|.*:.*", node.value):
            yield (
                f"{place.rstrip('.')}: {node.value} in {path}, line {node.start_mark.line + 1}, "
                f"is {yaml.safe_load(node.value)} in YAML; write that, or quote it if it is text"
            )
    elif isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            yield from _misread(entry, path, f"{place}{index}.")
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and name != "<<":
                yield f"{place}{name}: duplicate key in {path}, lines {lines[name]} and {line}"
            lines[name] = line
            yield from _misread(value, path, f"{place}{name}.")


if __name__ == "__main__":
    try:
        check([Path(name) for name in sys.argv[1:]])
    except UserError as error:
        sys.exit(str(error))
    print("The config has no mistakes.")
