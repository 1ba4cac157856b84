"""Config key -> rules that an edit of it runs again: the table of docs/reruns.md.

    python tests/workflow/reruns.py            # writes the table

A job runs again if its params or inputs change, or if what it reads is made anew. So both are
compared, job by job, between Snakemake's own graphs of a config and of the same config with one key
edited; nothing is run.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
)

from pipeline_lib.config import Config, parse
from pipeline_lib.config.keys import keys_of
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_json

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reruns.md"
BEGIN, END = "<!-- reruns: begin -->\n", "<!-- reruns: end -->"

SENTINEL_2 = {"file": "meadow.nc", "bands": None, "variable": "all"}
REAL = {
    "run": "real",
    "sites": {"count": 3, "periods": {"count": 1}},
    "own_cubes": {
        "meadow": {"site": "meadow", "files": {"sentinel-2": SENTINEL_2}},
        "forest": {"site": "forest", "files": {"sentinel-2": SENTINEL_2}},
    },
    "embed": {"geotiff_dates": ["2020-06-01"]},
    "gpp": {
        "fluxnet": "fluxes",
        "towers": [
            {"name": "DE-HoH", "lon": 11.2, "lat": 52.1, "vegetation": "DBF"},
            {"name": "FR-Hes", "lon": 7.1, "lat": 48.7, "vegetation": "DBF"},
        ],
        "series": {"smoothing": {"window_days": 21, "order": 2}},
    },
}
"""A run on the real catalog, with every block that a run which trains may have."""

TRAINED = {
    "run": "mine",
    "models": "trained",
    "areas": {
        name: {"bounds": [10.0, 50.0, 10.1, 50.1], "start": "2021-03-01", "end": "2021-10-31"}
        for name in ("valley", "hill")
    },
}
"""A run that uses trained models."""

SCENES = {"tile_px": 222, "radar_tile_px": 90}
SIMULATED = {"run": "simulated", "demo": SCENES, "sites": {"count": 3, "periods": {"count": 1}}}


@dataclass(frozen=True)
class Together:
    """Keys that can only be edited together: place -> value."""

    edits: Mapping[str, Any]


LANDSAT = Together(
    {
        "sensors.sentinel-1.loader": "landsat-c2-l2",
        "sensors.sentinel-1.quantity": "reflectance",
        "sensors.sentinel-1.bands": ["red", "nir08"],
    }
)
EDITS: dict[str, Any] = {
    "run": "another",
    "models": "trained-again",
    "areas": TRAINED["areas"] | {"lake": TRAINED["areas"]["valley"]},
    "areas.<name>.outline": "outline.json",
    "catalog.source": "https://example.org/stac",
    "catalog.signing": "none",
    "catalog.missing_asset": "fail",
    "sites.land_cover.file": "map.tif",
    "sites.land_cover.excluded": [0],
    "sites.strata[].fraction": Together(
        {f"sites.strata.{n}.fraction": v for n, v in enumerate((0.15, 0.25, 0.2, 0.05, 0.35))}
    ),
    "split.training": Together({"split.training": 0.7, "split.test": 0.13}),
    "split.validation": Together({"split.validation": 0.15, "split.test": 0.1}),
    "split.test": Together({"split.test": 0.1, "split.validation": 0.15}),
    "fusion.reference": Together(
        {"fusion.reference": "sentinel-1", "sensors.sentinel-1.rgb": ["vv", "vh", "vv"]}
    ),
    "sensors": Together({"sensors.sentinel-1": None}),
    "fusion.centre_weights": Together({"fusion.centre_weights.sentinel-1": 2.0}),
    "sensors.<name>.loader": LANDSAT,
    "sensors.<name>.quantity": LANDSAT,
    "own_cubes": Together(
        {"own_cubes.lake": {"site": "lake", "files": {"sentinel-2": SENTINEL_2}}}
    ),
    "own_cubes.<name>.split": "test",
    "own_cubes.<name>.window": [0, 45, 0, 45],
    "own_cubes.<name>.files": {
        "sentinel-1": {"file": "meadow.nc", "bands": {"vv": "VV", "vh": "VH"}},
        "sentinel-2": SENTINEL_2,
    },
    "own_cubes.<name>.files.<name>.file": "meadow-2.nc",
    "own_cubes.<name>.files.<name>.bands": Together(
        {
            "own_cubes.meadow.files.sentinel-2.bands": {
                band: band.lower() for band in Config().sensors["sentinel-2"].bands
            },
            "own_cubes.meadow.files.sentinel-2.variable": None,
        }
    ),
    "own_cubes.<name>.files.<name>.crs": "EPSG:32632",
    "own_cubes.<name>.files.<name>.resolution_m": 20,
    "own_cubes.<name>.files.<name>.no_data": [0],
    "own_cubes.<name>.files.<name>.conversion": "decibel",
    "own_cubes.<name>.files.<name>.mask": "SCL",
    "own_cubes.<name>.files.<name>.mask_clear": [4],
    "sensors.<name>.encoder.kind": "patch",
    "embed.dtype": "int8",
    "embed.geotiff_dates": ["2020-07-01"],
    "gpp.fluxnet": "fluxes-2",
    "gpp.towers[].vegetation": "GRA",
    "gpp.towers[].footprint": "footprint.tif",
    "gpp.fluxes.weather": ["TA_F"],
    "gpp.windows.validation_years": [2019],
}
"""Keys whose next value cannot be guessed from their last."""


@dataclass(frozen=True)
class Rerun:
    """What an edit runs again.

    Attributes
    ----------
    begins
        Rule -> jobs whose own params or inputs change, and of how many.
    follows
        Stages (rule files) with jobs that read what those make.
    everything
        Whether each job of the run begins anew.
    """

    begins: Mapping[str, tuple[int, int]]
    follows: tuple[str, ...]
    everything: bool


def base_of(key: str) -> dict[str, Any]:
    """The run that an edit of a key is tried on."""
    if key.startswith("demo"):
        return SIMULATED
    return TRAINED if key.split(".")[0] in ("models", "areas") else REAL


def edited(key: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A whole config, and the same with one key edited; the files it names lie in a folder.

    Raises
    ------
    ValueError
        If no other value of the key can be thought of that makes a valid config: name one in
        ``EDITS``.
    """
    base = base_of(key)
    given = _merged(Config().model_dump(mode="json"), base)
    config = parse(given, folder)
    whole = config.model_dump(mode="json")
    if base is TRAINED:  # these come with the models
        for block in ("sensors", "context", "fusion", "sites", "gpp"):
            whole[block] = given[block]
    for edits in _edits(key, whole):
        changed = copy.deepcopy(whole)
        for place, value in edits:
            *above, last = place
            _at(changed, above)[last] = value
        try:
            if parse(changed, folder) != config:
                return whole, changed
        except UserError:
            continue
    raise ValueError(f"{key}: what else could it be?")


def _edits(key: str, whole: Mapping[str, Any]) -> Iterator[list[tuple[list[Any], Any]]]:
    edit = EDITS.get(key)
    if isinstance(edit, Together):
        places = ([int(p) if p.isdigit() else p for p in k.split(".")] for k in edit.edits)
        yield list(zip(places, edit.edits.values(), strict=True))
        return
    for place in _places(whole, key.split(".")):
        others = [edit] if edit is not None else _others(_at(whole, place))
        yield from ([(place, value)] for value in others)


def _merged(content: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        inner = content.get(key)
        nested = isinstance(inner, dict) and isinstance(value, Mapping)
        content[key] = _merged(inner, value) if nested else value
    return content


def _at(content: Any, path: list[Any]) -> Any:
    for part in path:
        content = content[part]
    return content


def _places(content: Any, parts: list[str]) -> Iterator[list[Any]]:
    """Where a key of the table stands in a config; names and entries are the first ones."""
    if not parts:
        yield []
        return
    head, *rest = parts
    if head == "<name>":
        heads: list[Any] = sorted(content)
    elif head.endswith("[]"):
        yield from ([head[:-2], 0, *more] for more in _places(content[head[:-2]][0], rest))
        return
    else:
        heads = [head]
    for name in heads:
        inner = content.get(name) if rest else None
        if not rest or inner is not None:
            yield from ([name, *more] for more in _places(inner, rest))


def _others(value: Any) -> list[Any]:
    """Other values that a key might have."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value + 2, value * 2, value - 1, value / 2, value + 0.05, value - 0.05]
    if isinstance(value, list):
        numbers = all(isinstance(item, int | float) for item in value)
        nudged = [[item + 1 for item in value], [item * 0.9 for item in value]] if numbers else []
        return [value[:-1], *nudged, value[::-1]]
    if isinstance(value, dict):
        return [{name: inner for name, inner in value.items() if name != min(value)}]
    if isinstance(value, str):
        return [f"{value}x", f"{value[:-1]}0", f"{value[:-1]}5", "none"]
    return [1, 50, "x"]


def graph(content: Mapping[str, Any], folder: Path) -> dict[Any, Any]:
    """Jobs of a config: name -> stage, recipe, names of the jobs that read what it makes."""
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(dict(content)))
    with (
        SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api,
        # The library is the same before and after an edit of the config.
        patch("pipeline_lib.code_digest.code_digest", lambda *names: ""),
    ):
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[file]),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        workflow.dag(dag_settings=DAGSettings()).execute_workflow(executor="dryrun")
        dag = workflow._workflow.dag
        jobs = {job: (job.rule.name, *map(str, job.output)) for job in dag.jobs}
        return {
            name: (
                Path(job.rule.snakefile).stem,
                _recipe(job),
                {jobs[reader] for reader in dag.depending[job]},
            )
            for job, name in jobs.items()
        }


def _recipe(job: Any) -> str:
    try:
        params = dict(job.params.items())
    except Exception as error:
        if "Incomplete" not in type(error).__name__:
            raise
        params = {}  # known once the sites are drawn; their table counts as an input
    return json.dumps([params, sorted(map(str, job.input))], sort_keys=True, default=str)


def rerun(key: str, folder: Path, known: dict[str, Any]) -> Rerun:
    """What an edit of a key runs again, told by Snakemake's graphs before and after it.

    ``known`` keeps the graphs before, which are few.
    """
    whole, changed = edited(key, folder)
    if whole["run"] not in known:
        known[whole["run"]] = graph(whole, folder)
    before = known[whole["run"]]
    after = graph(changed, folder)
    stage = {name: place for name, (place, _, _) in after.items() if name[0] != "all"}
    own = {n for n in stage if n not in before or before[n][1] != after[n][1]}
    reached, front = set(own), list(own)
    while front:
        for reader in after[front.pop()][2]:
            if reader in stage and reader not in reached:
                reached.add(reader)
                front.append(reader)
    rules = [name[0] for name in stage]
    begins = {
        rule: (sum(name[0] == rule for name in own), rules.count(rule))
        for rule in sorted({name[0] for name in own})
    }
    follows = {stage[name] for name in reached - own}
    return Rerun(begins, tuple(place for place in STAGES if place in follows), own == set(stage))


STAGES = ("demo", "sites", "cubes", "dataset", "models", "embed", "gpp", "report")


def table(keys: list[str] | None = None) -> str:
    """The table in Markdown, for these keys of the config, or all."""
    rows = ["| key | runs again | and, of what reads it |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder)
        known: dict[str, Any] = {}
        for key in keys or every_key():
            found = rerun(key, folder, known)
            begins = (
                "everything"
                if found.everything
                else ", ".join(
                    f"`{rule}`" + (f" ({jobs} of {of})" if jobs < of else "")
                    for rule, (jobs, of) in found.begins.items()
                )
            )
            rows.append(f"| `{key}` | {begins or 'nothing'} | {', '.join(found.follows)} |")
    return "\n".join(rows) + "\n"


def every_key() -> list[str]:
    """Every key that the table of config/README.md explains."""
    return [key.name for key in keys_of(Config) if key.block is None or key.suffix]


def prepare(folder: Path) -> None:
    """Make the files that the configs above name; nothing reads them but to see that they exist."""
    for name in ("meadow.nc", "meadow-2.nc", "map.tif", "footprint.tif"):
        (folder / name).touch()
    for name in ("fluxes", "fluxes-2"):
        (folder / name).mkdir()
        for tower in REAL["gpp"]["towers"]:
            (folder / name / f"FLX_{tower['name']}_FULLSET_DD.csv").touch()
    ring = [[9, 49], [12, 49], [12, 52], [9, 52], [9, 49]]
    write_json(folder / "outline.json", {"type": "Polygon", "coordinates": [ring]})
    config = Config()
    for name in ("trained", "trained-again"):
        for sensor, block in config.sensors.items():
            told = {"kind": "encoder", "sensor_name": sensor, "digest": f"{name} {sensor}"}
            told |= {"sensor": block.model_dump(mode="json"), "context": {}}
            write_json(folder / name / sensor / "model.json", told)
        told = {"kind": "fusion", "digest": name, "fusion": {}}
        told |= {"encoders": {sensor: f"{name} {sensor}" for sensor in config.sensors}}
        write_json(folder / name / "fusion" / "model.json", told)
        for model in (*config.sensors, "fusion"):
            for file in ("model.safetensors", "curves.csv", "README.md"):
                (folder / name / model / file).touch()


def main() -> None:
    """Write the table into its page."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
