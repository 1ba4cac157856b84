"""The whole config, and reading it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from pipeline_lib.config.acquisition import Area, Catalog, CubeGrid, OwnCube, Sites
from pipeline_lib.config.base import Block, Count, Name
from pipeline_lib.config.demo import Demo
from pipeline_lib.config.gpp import Gpp
from pipeline_lib.config.learning import Context, Embed, Fusion, Split, Training
from pipeline_lib.config.mistakes import suggestion, told
from pipeline_lib.config.outlines import parts_of
from pipeline_lib.config.sensors import SENTINEL_1, SENTINEL_2, Sensor
from pipeline_lib.config.trained import are_trained, trained_blocks
from pipeline_lib.errors import UserError

RESERVED = {"embedding", "bands", "yearly", "season", "weather"}
"""Inputs that GPP is predicted from besides the sensors' own."""

UNUSED: dict[str, Any] = {"sites": None, "gpp": None}
"""Blocks of a run with trained models: nothing is drawn, learned or compared in it."""


def _left_in(sensors: Any) -> Any:
    """The sensors that are not set to null, which is how one of the defaults is left out."""
    if not isinstance(sensors, Mapping):
        return sensors
    return {name: block for name, block in sensors.items() if block is not None}


class Config(Block):
    """Everything that a run depends on. The defaults are the paper's configuration."""

    run: Name = Field("paper", description="Name of the run; its products are in results/<run>/")
    seed: int = Field(42, ge=0, description="Seed of all random draws")
    models: Path | None = Field(
        None,
        description="Folder of trained models, with their sensors, context and fusion; only "
        "`areas` and `own_cubes` are embedded. null: models are trained",
    )
    areas: dict[Name, Area] = Field({}, description="Areas to embed with trained models, by name")
    catalog: Catalog = Field(Catalog(), description="Catalog")
    sites: Sites | None = Field(Sites(), description="Training sites; null: none")
    cube: CubeGrid = Field(CubeGrid(), description="Grid of the cubes")
    own_cubes: dict[Name, OwnCube] = Field({}, description="User-supplied cubes, by name")
    sensors: Annotated[dict[Name, Sensor], BeforeValidator(_left_in)] = Field(
        {"sentinel-1": SENTINEL_1, "sentinel-2": SENTINEL_2},
        description="Sensors, by name; null drops one of the defaults",
    )
    split: Split = Field(Split(), description="Training, validation and test split")
    context: Context = Field(Context(), description="Spatial and temporal context of an embedding")
    training: Training = Field(Training(), description="Training of the encoders")
    fusion: Fusion = Field(Fusion(), description="Fusion")
    embed: Embed = Field(Embed(), description="Export")
    evaluation_samples: Count = Field(
        4096, description="Samples per split for the evaluation of the reconstruction"
    )
    gpp: Gpp | None = Field(Gpp(), description="GPP at flux towers; null: not evaluated")
    demo: Demo | None = Field(None, description="Simulated archive; null: the real catalog")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = self._purpose()
        if not self.sensors:
            problems.append("sensors: at least one sensor is needed")
        if self.fusion.reference not in self.sensors:
            problems.append(
                f"fusion.reference: there is no sensor {self.fusion.reference!r}; "
                f"{suggestion(self.fusion.reference, self.sensors)}"
            )
        elif self.models is None and self.sensors[self.fusion.reference].rgb is None:
            problems.append(
                f"sensors.{self.fusion.reference}.rgb: names no bands; the maps of the reference "
                "sensor are drawn in true colour"
            )
        for cube, block in self.own_cubes.items():
            for key in sorted(set(block.files) - set(self.sensors)):
                problems.append(
                    f"own_cubes.{cube}.files: there is no sensor {key!r}; "
                    f"{suggestion(key, self.sensors)}"
                )
            for key, file in block.files.items():
                bands = self.sensors[key].bands if key in self.sensors else ()
                missing = set(bands) - set(file.bands if file.bands is not None else bands)
                if missing:
                    problems.append(
                        f"own_cubes.{cube}.files.{key}.bands: not named: "
                        f"{', '.join(sorted(missing))}"
                    )
        for key, sensor in self.sensors.items():
            if sensor.sequence.frames < self.context.frames:
                problems.append(
                    f"sensors.{key}.sequence.frames: {sensor.sequence.frames} frames are fewer "
                    f"than the {self.context.frames} of context.frames"
                )
        if self.demo is not None and (self.sites is not None or self.gpp is not None):
            problems += self.demo.too_small(self.cube.size_px, self.cube.cloud_context_px)
        if self.gpp is not None:
            problems += self.gpp.contradictions()
            taken = sorted(RESERVED & set(self.sensors))
            problems += [f"sensors.{key}: a name that GPP has for its own inputs" for key in taken]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _purpose(self) -> list[str]:
        """What is wrong with the cubes for training, or for the use of trained models."""
        if self.models is None:
            problems = []
            if self.sites is None and not self.own_cubes:
                problems += [
                    "sites is null and own_cubes is empty: there is nothing to train on; give one"
                ]
            if self.sites is None and self.own_cubes:
                brought = {key for block in self.own_cubes.values() for key in block.files}
                problems += [
                    f"sensors.{key}: no cube of own_cubes has it, and no sites are drawn; name its "
                    f"files, or leave it out: `{key}: null`"
                    for key in sorted(self.sensors.keys() - brought)
                ]
            if self.areas:
                problems += ["areas: are embedded with trained models; name their folder: `models`"]
            return problems
        embedded = {cube: block for cube, block in self.own_cubes.items() if block.embed}
        problems = [
            f"areas.{name}: also a name of own_cubes" for name in self.areas if name in embedded
        ]
        taken = {*self.areas, *embedded}
        problems += [
            f"areas.{name}: its part {part} has the name of another cube"
            for name, area in self.areas.items()
            for part in sorted(area.parts(name).keys() & taken - {name})
        ]
        if not self.areas and not embedded:
            problems += ["models: there is nothing to embed with them; name `areas` or `own_cubes`"]
        return problems + [
            f"own_cubes.{cube}.files: lacks {self.fusion.reference}, whose dates embeddings have"
            for cube, block in embedded.items()
            if self.fusion.reference not in block.files
        ]


def parse(content: Mapping[str, Any], base: Path = Path()) -> Config:
    """Check a whole config and the files it names.

    Parameters
    ----------
    content
        The merged YAML files.
    base
        Folder that relative paths of the config start from.

    Raises
    ------
    UserError
        With one line per mistake, all of them at once.
    """
    return _checked(*_with_models(content, base), base)


def parse_before_models(content: Mapping[str, Any], base: Path = Path()) -> Config:
    """Check a config as `parse` does; the models that it names need not be trained yet.

    The sensors, the context and the fusion of models that are not there are those of the config.
    """
    folder = content.get("models")
    if isinstance(folder, str) and not are_trained(base / folder):
        return _checked({**content, **UNUSED}, [], base)
    return parse(content, base)


def _checked(content: Mapping[str, Any], mistakes: list[str], base: Path) -> Config:
    """The config, if these mistakes and those found here are none."""
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        mistakes += told(error, Config, content)
    else:
        mistakes += _outlines(config.areas, base)
    mistakes += [
        f"{key}: there is no file {path}; mend the path"
        for key, path in _paths(content)
        if not (base / path).exists()
    ]
    if mistakes:
        lines = "\n".join(f"  {mistake}" for mistake in mistakes)
        raise UserError(f"the config has {len(mistakes)} mistake(s):\n{lines}")
    return config


def _with_models(content: Mapping[str, Any], base: Path) -> tuple[Mapping[str, Any], list[str]]:
    """The config with the blocks of the models that it names, and what is wrong with them."""
    folder = content.get("models")
    if not isinstance(folder, str):
        return content, []
    try:
        trained = trained_blocks(base / folder)
    except UserError as error:
        return {**content, **UNUSED}, [f"models: {error}"]
    mistakes = []
    sensors = {name: sensor.model_dump(mode="json") for name, sensor in trained.sensors.items()}
    given = {
        "sensors": sensors,
        "context": trained.context.model_dump(mode="json"),
        "fusion": trained.fusion.model_dump(mode="json"),
    }
    defaults = Config().model_dump(mode="json")
    mistakes += [
        f"{key}: comes with the models; leave it out"
        for key, block in given.items()
        if content.get(key, block) not in (block, defaults[key])
    ]
    products = base / "results" / str(content.get("run"))
    if (base / folder).resolve().is_relative_to(products.resolve()):
        mistakes.append(f"run: {content['run']!r} is the run of the models; choose another name")
    return {
        **content,
        "sensors": trained.sensors,
        "context": trained.context,
        "fusion": trained.fusion,
        **UNUSED,
    }, mistakes


def _outlines(areas: Mapping[str, Area], base: Path) -> Iterator[str]:
    """What is wrong with the outlines whose files are there."""
    for name, area in areas.items():
        if area.outline is not None and (base / area.outline).exists():
            try:
                parts_of({name: area}, base)
            except UserError as error:
                yield f"areas.{name}.outline: {error}"


def _paths(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Paths that the config names, wherever they stand, valid neighbours or not."""

    def dig(node: Any, *keys: str) -> Any:
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    single = [("sites", "land_cover", "file"), ("gpp", "fluxnet")]
    for keys in single:
        value = dig(content, *keys)
        if isinstance(value, str):
            yield ".".join(keys), value
    areas = dig(content, "areas")
    for name in areas if isinstance(areas, Mapping) else ():
        value = dig(areas, name, "outline")
        if isinstance(value, str):
            yield f"areas.{name}.outline", value
    towers = dig(content, "gpp", "towers")
    for index, tower in enumerate(towers if isinstance(towers, Sequence) else ()):
        value = dig(tower, "footprint")
        if isinstance(value, str):
            yield f"gpp.towers.{index}.footprint", value
    own = dig(content, "own_cubes")
    for cube in own if isinstance(own, Mapping) else ():
        files = dig(own, cube, "files")
        for sensor in files if isinstance(files, Mapping) else ():
            value = dig(files, sensor, "file")
            if isinstance(value, str):
                yield f"own_cubes.{cube}.files.{sensor}.file", value
