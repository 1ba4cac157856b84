"""What is wrong with the files of a config as such, whatever their keys mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.errors import UserError, in_a_line

MERGE = "tag:yaml.org,2002:merge"
TIMESTAMP = "tag:yaml.org,2002:timestamp"


def check_files(paths: Iterable[Path]) -> None:
    """Refuse files in which a key stands twice: YAML takes the last one without a word.

    Raises
    ------
    UserError
        With one line per key.
    """
    repeated = [line for path in paths for line in _repeated(path)]
    if repeated:
        lines = "\n".join(f"  {line}" for line in repeated)
        raise UserError(f"the config has {len(repeated)} mistake(s):\n{lines}")


def _repeated(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as handle:
            root = yaml.compose(handle, yaml.SafeLoader)
    except yaml.YAMLError:
        # Snakemake has read this file, so it is JSON, in which tabs may stand.
        return
    # A block with an anchor stands in several places, and is looked at once.
    seen: set[int] = set()
    places = [(root, "")]
    while places:
        node, place = places.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            places += [(entry, f"{place}{index}.") for index, entry in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in lines and key.tag != MERGE:
                    yield (
                        f"{place}{name}: stands twice in {path}, lines {lines[name]} and {line}; "
                        "keep one"
                    )
                lines[name] = line
                places.append((value, f"{place}{name}."))


class _Loader(yaml.SafeLoader):
    """Tells where a day stands that is in no calendar."""

    def construct_yaml_timestamp(self, node: Any) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            problem = f"{node.value} is in no calendar"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


_Loader.add_constructor(TIMESTAMP, _Loader.construct_yaml_timestamp)


def read_file(path: Path) -> dict[str, Any]:
    """Read one file of a config.

    Raises
    ------
    UserError
        If it cannot be read, or is no YAML with keys; with the line.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            content = yaml.load(handle, _Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); mend the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text in UTF-8; save it as such") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = in_a_line(error.problem)
        advice = "indent with spaces" if r"\t" in problem else "mend this line"
        raise UserError(f"{path}{line}: no YAML: {problem}; {advice}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no YAML: {in_a_line(error)}; mend it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no keys; write `key: value`")
    return content
