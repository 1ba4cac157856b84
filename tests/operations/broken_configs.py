"""Forty configs, each broken in one way, made from the schema; what is said of each of them.

python tests/operations/broken_configs.py [--docs]
"""

from __future__ import annotations

import copy
import json
import operator
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from real_runs import NOISE, TINY, Run, run, table, write_docs
from snakemake.utils import update_config

from pipeline_lib.config import Config

SEED = 7
COUNTS = {
    "wrong type": 6,
    "below the least": 4,
    "above the most": 3,
    "no multiple": 1,
    "no choice": 4,
    "misspelt key": 5,
    "key of another block": 2,
    "missing": 4,
    "null": 3,
    "wrong pattern": 2,
    "contradiction": 6,
}
LIMITS: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("minimum", "below the least", lambda least: least - 1),
    ("exclusiveMinimum", "below the least", lambda bound: bound),
    ("maximum", "above the most", lambda most: most + 1),
    ("multipleOf", "no multiple", lambda unit: 100 * unit + 1),
    ("enum", "no choice", lambda choices: choices[0][:-1]),
    ("pattern", "wrong pattern", lambda pattern: "nothing like it!"),
]
"""Key of the schema, how it is broken, and by what."""
WRONG = {"integer": "many", "number": "much", "boolean": "perhaps", "string": 5, "array": "one"}
"""For each type of the schema, what is of another."""
LEFT_OUT = object()

MEADOW = {"bounds": [11.0, 48.0, 11.1, 48.1], "start": "2021-05-01", "end": "2021-08-31"}
OWN = {"site": "mine", "files": {"sentinel-2": {"file": "mine.nc", "variable": "reflectance"}}}
RADAR = {"site": "mine", "files": {"radar": {"file": "mine.nc", "variable": "sigma"}}}
ADDED = {"areas": {"meadow": MEADOW}, "own_cubes": {"mine": OWN}}
"""One of each block that the small config has none of."""

MISSPELT_NAMES = [("sensors.sentinel2", {"sensors": {"sentinel2": {"latent_dim": 5}}})]
CONTRADICTIONS: list[tuple[str, dict[str, Any]]] = [
    ("split", {"split": {"training": 0.9}}),
    ("sites", {"sites": None}),
    ("fusion.reference", {"fusion": {"reference": "sentinel2"}}),
    ("fusion", {"fusion": {"heads": 3}}),
    ("context", {"context": {"patch_px": 14}}),
    ("sensors.sentinel-2.sequence.frames", {"context": {"frames": 11}}),
    ("sites.bounds", {"sites": {"bounds": [13.5, 47.0, 10.5, 49.5]}}),
    ("sites.periods", {"sites": {"periods": {"count": 9}}}),
    ("areas", {"areas": {"meadow": MEADOW}}),
    ("own_cubes.mine.files", {"own_cubes": {"mine": RADAR}}),
    ("sensors.sentinel-1", {"sensors": {"sentinel-1": {"rolling_mean": 2}}}),
    ("sensors.sentinel-1", {"sensors": {"sentinel-1": {"brdf": True}}}),
    ("sensors.sentinel-2", {"sensors": {"sentinel-2": {"quantiles": [0.9, 0.1]}}}),
    ("sensors.sentinel-2", {"sensors": {"sentinel-2": {"encoder": {"components": 10}}}}),
    ("sensors.sentinel-2", {"sensors": {"sentinel-2": {"rgb": ["B4", "B03", "B02"]}}}),
    ("gpp.windows.validation_years", {"gpp": {"windows": {"validation_years": [2031]}}}),
    ("gpp.windows.other_lengths_days", {"gpp": {"windows": {"length_days": 60}}}),
    ("gpp.period", {"gpp": {"period": {"end": "2018-12-31"}}}),
    ("gpp.series.smoothing.window_days", {"gpp": {"series": {"smoothing": {"window_days": 61}}}}),
    ("gpp.fluxnet", {"gpp": {"fluxnet": "nowhere"}}),
]
"""What single keys allow and other keys forbid: the key that is to be named, and the change."""

FILES = {
    "a key twice": "run: small\nseed: 1\nseed: 2\n",
    "a bracket that is not closed": "run: small\nsplit: {training: 0.8\nseed: 1\n",
    "a tab": "run: small\nsplit:\n\ttraining: 0.8\n",
    "a list": "- run: small\n",
    "nothing": "",
    "a day that is in no calendar": "run: small\ngpp: {period: {end: 2019-02-30}}\n",
    "text in UTF-16": "run: small\n",
    "a key that is a number": "run: small\n1: 2\n",
    "(there is no such file)": None,
}
"""Files that are no config, whatever their keys mean."""

Way = tuple[str | int, ...]


@dataclass(frozen=True)
class Broken:
    """A config that is broken in one way.

    Attributes
    ----------
    kind, what
        In which way, and by which value.
    key
        The key that has to be named.
    content
        The config as a user would write it; the project's stands behind it.
    """

    kind: str
    what: str
    key: str
    content: dict[str, Any]

    def merged(self) -> dict[str, Any]:
        """The config as Snakemake hands it to our check."""
        return _merged(Config().model_dump(mode="json"), self.content)


def broken_configs() -> list[Broken]:
    """The forty."""
    small = json.loads(json.dumps(yaml.safe_load(TINY.read_text()), default=str))
    whole = _merged(_merged(Config().model_dump(mode="json"), small), ADDED)
    schema = Config.model_json_schema()
    found: dict[str, list[Broken]] = {kind: [] for kind in COUNTS}
    for kind, way, value in _breaks(schema, schema, whole, ()):
        key = ".".join(map(str, way))
        what = "left out" if value is LEFT_OUT else json.dumps(value)
        what = "{...}" if isinstance(value, dict) else what
        change = _change(whole, way, value)
        found[kind].append(Broken(kind, f"{key}: {what}", key, _merged(small, change)))
    for kind, chosen in (("missing", MISSPELT_NAMES), ("contradiction", CONTRADICTIONS)):
        for key, change in chosen:
            what = yaml.safe_dump(change, default_flow_style=True, width=1000, sort_keys=False)
            what = what.strip().removeprefix("{").removesuffix("}")
            found[kind].append(Broken(kind, what, key, _merged(small, change)))
    draw = random.Random(SEED)
    return [broken for kind, count in COUNTS.items() for broken in draw.sample(found[kind], count)]


def _merged(content: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A config with a change, as Snakemake merges files."""
    result: dict[str, Any] = copy.deepcopy(dict(content))
    update_config(result, copy.deepcopy(dict(change)))
    return result


def _breaks(
    schema: Mapping[str, Any], node: Mapping[str, Any], value: Any, way: Way
) -> Iterator[tuple[str, Way, Any]]:
    """Every way to break what stands at a place: how, where, and what stands there then."""
    options = [_resolved(schema, option) for option in node.get("anyOf", [node])]
    node = next(option for option in options if option.get("type") != "null")
    if "properties" in node:
        yield from _breaks_of_block(schema, node, value or {}, way)
    elif named := node.get("patternProperties"):
        for name, entry in (value or {}).items():
            yield from _breaks(schema, *named.values(), entry, (*way, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from _breaks(schema, node["items"], value[0], (*way, 0))
    elif node.get("format") == "date":
        yield "wrong type", way, "soon"
    elif node.get("type") in WRONG:
        yield "wrong type", way, WRONG[node["type"]]
    for limit, kind, beyond in LIMITS:
        if limit in node:
            yield kind, way, beyond(node[limit])


def _breaks_of_block(
    schema: Mapping[str, Any], block: Mapping[str, Any], value: Mapping[str, Any], way: Way
) -> Iterator[tuple[str, Way, Any]]:
    for key, inner in block["properties"].items():
        if key[-1] != key[-2:-1]:
            yield "misspelt key", (*way, f"{key[:-2]}{key[-1]}{key[-2]}"), value.get(key)
        if "anyOf" not in inner:
            yield "null", (*way, key), None
        further = _resolved(schema, inner).get("properties", {})
        for other in sorted(further.keys() - block["properties"].keys()):
            yield "key of another block", (*way, other), value[key].get(other)
        yield from _breaks(schema, inner, value.get(key), (*way, key))
    if any(isinstance(part, int) or part in ADDED for part in way):
        for key in block.get("required", ()):
            yield "missing", (*way, key), LEFT_OUT


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    name = node.get("$ref", "").removeprefix("#/$defs/")
    resolved: Mapping[str, Any] = schema["$defs"][name] if name else node
    return resolved


def _change(content: Any, way: Way, value: Any) -> dict[str, Any]:
    """What a user writes to have this value at a place: lists and added blocks are whole."""
    lists = (index for index, part in enumerate(way) if isinstance(part, int))
    split = 1 if way[0] in ADDED else next(lists, len(way))
    before, rest = way[:split], way[split:]
    if rest:
        part = copy.deepcopy(_at(content, before))
        around, key = _at(part, rest[:-1]), rest[-1]
        if value is LEFT_OUT:
            del around[key]
        else:
            around[key] = value
        value = part
    for key in reversed(before):
        value = {key: value}
    changed: dict[str, Any] = value
    return changed


def _at(content: Any, way: Way) -> Any:
    return reduce(operator.getitem, way, content)


def told(text: str) -> list[str]:
    """The lines that tell mistakes, one each."""
    lines = text.partition("mistake(s):\n")[2].splitlines()
    return [line.strip() for line in takewhile(lambda line: not NOISE.match(line), lines)]


def rows_of_configs(folder: Path) -> Iterator[tuple[object, ...]]:
    """Run the forty; a row of the table for each."""
    for number, broken in enumerate(broken_configs(), 1):
        place, file = folder / str(number), folder / f"{number}.yaml"
        place.mkdir(parents=True)
        file.write_text(yaml.safe_dump(broken.content, sort_keys=False))
        ended = run(place, "--configfile", str(file))
        said = "<br>".join(told(ended.text))
        yield broken.kind, f"`{broken.what}`", said, *_ended(ended, place)


def rows_of_files(folder: Path) -> Iterator[tuple[object, ...]]:
    """Run with files that are no config; a row of the table for each."""
    for number, (what, content) in enumerate(FILES.items()):
        place, file = folder / str(number), folder / str(number) / "my.yaml"
        place.mkdir(parents=True)
        if content is not None:
            file.write_text(content, encoding="utf-16" if "UTF-16" in what else "utf-8")
        ended = run(place, "--configfile", str(file))
        said = ended.lines[-1:] if ended.traceback else ended.lines[1:]
        check = [sys.executable, "-m", "pipeline_lib.config.check", file.name]
        checked = subprocess.run(check, cwd=place, capture_output=True, text=True, check=False)
        checks = [line.strip() for line in checked.stderr.splitlines()]
        plain = ("<br>".join(lines).replace(f"{place}/", "") for lines in (said, checks))
        yield what, *_ended(ended, place), *plain


def _ended(ended: Run, folder: Path) -> tuple[object, str, str]:
    started = (folder / "results").exists()
    return ended.status, "yes" if started else "no", "yes" if ended.traceback else "no"


def main() -> None:
    """Print the tables; with ``--docs`` put them into the docs as well."""
    ended = ["exit status", "a job started", "traceback on the terminal"]
    configs = ["broken", "by", "what was said", *ended]
    files = ["the file holds", *ended, "Snakemake says", "`pipeline_lib.config.check` says"]
    with tempfile.TemporaryDirectory() as folder:
        tables = {
            "configs": table(configs, rows_of_configs(Path(folder, "configs"))),
            "files": table(files, rows_of_files(Path(folder, "files"))),
        }
    for mark, text in tables.items():
        print(text)
        if "--docs" in sys.argv[1:]:
            write_docs(mark, text)


if __name__ == "__main__":
    main()
