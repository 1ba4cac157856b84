"""The whole config, and reading it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from pipeline_lib.config.acquisition import SCENES_M, Catalog, CubeGrid, Demo, OwnCube
from pipeline_lib.config.areas import Area
from pipeline_lib.config.base import Block, Count, Name, folder_of
from pipeline_lib.config.gpp import Gpp
from pipeline_lib.config.learning import Context, Devices, Embed, Fusion, Split, Training
from pipeline_lib.config.messages import mistakes_in, refuse, suggestion
from pipeline_lib.config.sensors import SENTINEL_1, SENTINEL_2, Sensor
from pipeline_lib.config.sites import Sites
from pipeline_lib.config.trained import are_trained, trained_blocks
from pipeline_lib.config.weights import is_folder, models_folder
from pipeline_lib.errors import UserError

RESERVED = {"embedding", "bands", "yearly", "season", "weather"}
"""Names of GPP predictors besides the sensors."""
NOT_SENSORS = {"fusion", "maps", "embed", "gpp"}
"""Files and folders that lie beside those of the sensors."""
UNUSED: dict[str, Any] = {"sites": None, "gpp": None}
"""Blocks without use in a run with trained models."""


def _without_null(sensors: Any) -> Any:
    if not isinstance(sensors, Mapping):
        return sensors
    return {name: block for name, block in sensors.items() if block is not None}


class Config(Block):
    """Everything that a run depends on. The defaults are the paper's configuration."""

    run: Name = Field("paper", description="Name of the run; its products are in results/<run>/")
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of all random draws")
    models: Path | None = Field(
        None,
        description="Trained models, with their sensors, context and fusion: a folder, `starter`, "
        "or an address with its digest (`https://...#sha256=...`); only `areas` and `own_cubes` "
        "are embedded. null: models are trained",
    )
    areas: dict[Name, Area] = Field({}, description="Areas to embed with trained models, by name")
    catalog: Catalog = Field(Catalog(), description="Catalog")
    sites: Sites | None = Field(Sites(), description="Training sites; null: none")
    cube: CubeGrid = Field(CubeGrid(), description="Grid of the cubes")
    own_cubes: dict[Name, OwnCube] = Field({}, description="User-supplied cubes, by name")
    sensors: Annotated[dict[Name, Sensor], BeforeValidator(_without_null)] = Field(
        {"sentinel-1": SENTINEL_1, "sentinel-2": SENTINEL_2},
        description="Sensors, by name; null drops one of the defaults",
    )
    split: Split = Field(Split(), description="Training, validation and test split")
    context: Context = Field(Context(), description="Spatial and temporal context of an embedding")
    training: Training = Field(Training(), description="Training of the encoders")
    fusion: Fusion = Field(Fusion(), description="Fusion")
    embed: Embed = Field(Embed(), description="Export")
    evaluation_samples: Count = Field(4096, description="Samples per split in the evaluation")
    gpp: Gpp | None = Field(Gpp(), description="GPP at flux towers; null: not evaluated")
    devices: Annotated[
        Devices, WithJsonSchema({"anyOf": [{"enum": ["cpu", "gpu"]}, Devices.model_json_schema()]})
    ] = Field(Devices(), description="gpu: on a GPU if there is one; one word for all, or by stage")
    demo: Demo | None = Field(None, description="Simulated archive; null: the real catalog")

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        problems = [
            *(self._use_of_models() if self.models else self._training_data()),
            *self._cube_names(folder_of(info)),
            *self._resolution(),
            *self._own_cubes(),
            *self._sensors(),
            *(self.gpp.contradictions() if self.gpp else ()),
            *self._features(),
        ]
        if self.demo and (self.sites or self.gpp):
            problems += self.demo.too_small(self.cube.size_px, self.cube.cloud_context_px)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def tables_alone(self) -> bool:
        """Whether the run only compares tables of features with GPP: no cubes, no models."""
        trains = self.models or self.sites or self.own_cubes
        return bool(self.gpp and self.gpp.features and not trains)

    def _training_data(self) -> Iterator[str]:
        if self.tables_alone:
            return
        if self.sites is None and not self.own_cubes:
            yield "sites is null and own_cubes is empty: there is nothing to train on; give one"
        elif self.sites is None:
            given = {key for block in self.own_cubes.values() for key in block.files}
            for key in sorted(self.sensors.keys() - given):
                yield (
                    f"sensors.{key}: no cube of own_cubes has it, and there are no sites; add its "
                    f"files, or drop it: `{key}: null`"
                )
        if self.sites and (size := self.cube.size_px) < (needed := self.context.patch_px):
            yield f"cube.size_px: {size} < {needed}, those of context.patch_px"
        warmup = self.training.warmup_steps
        if (steps := self.training.known_steps) and warmup > steps:
            yield (
                f"training.warmup_steps: {warmup}, and all epochs together have at most {steps} "
                "steps: the warm-up never ends; lower it"
            )
        if self.areas:
            yield "areas: are embedded with trained models; set their folder: `models`"

    def _use_of_models(self) -> Iterator[str]:
        embedded = {cube: block for cube, block in self.own_cubes.items() if block.embed}
        if not self.areas and not embedded:
            yield "models: there is nothing to embed with them; set `areas` or `own_cubes`"
        reference = self.fusion.reference
        for cube, block in embedded.items():
            if reference not in block.files:
                yield f"own_cubes.{cube}.files: no {reference}, whose dates the embeddings have"

    def _cube_names(self, folder: Path | None) -> Iterator[str]:
        """Names of cubes must differ, wherever the cubes come from."""
        names = [("own_cubes", cube) for cube in self.own_cubes]
        for area, block in self.areas.items():
            names += [(f"areas.{area}", part) for part in (area, *block.parts(area))]
        if self.gpp and (self.demo or self.gpp.measured) and not self.tables_alone:
            names += [("gpp.towers", tower.name) for tower in self.gpp.towers]
        if self.sites and (self.sites.file is None or folder is not None):
            names += [("sites", cube) for cube in self.sites.cubes(folder or Path())]
        first: dict[str, str] = {}
        for where, name in names:
            if first.setdefault(name, where) != where:
                yield f"{where}: {name} is also the name of a cube of {first[name]}; rename one"

    def _resolution(self) -> Iterator[str]:
        towers = self.gpp and (self.demo or self.gpp.measured) and not self.tables_alone
        if self.cube.resolution_m != SCENES_M and (self.sites or self.areas or towers):
            yield (
                f"cube.resolution_m: cubes from a catalog have pixels of {SCENES_M} m; remove it, "
                "or use own_cubes alone, with `sites` and `gpp` null"
            )

    def _own_cubes(self) -> Iterator[str]:
        for cube, block in self.own_cubes.items():
            where = f"own_cubes.{cube}.files"
            for key, files in block.files.items():
                if key not in self.sensors:
                    yield f"{where}: no sensor {key!r}; {suggestion(key, self.sensors)}"
                    continue
                given = [band for file in files for band in file.bands or ()]
                missing = {*self.sensors[key].bands} - {*given}
                if missing and all(file.variable is None or file.bands for file in files):
                    yield f"{where}.{key}.bands: missing {', '.join(sorted(missing))}"
                if twice := sorted({band for band in given if given.count(band) > 1}):
                    yield (
                        f"{where}.{key}: {', '.join(twice)} in two files; name each band once "
                        "(join files of different dates before)"
                    )
                if sum(file.mask is not None for file in files) > 1:
                    yield f"{where}.{key}: two masks; name one, which all of its files take"

    def _features(self) -> Iterator[str]:
        """Tables of features, and what a comparison without cubes may leave out."""
        if self.gpp is None:
            return
        taken = {*RESERVED - {"weather"}, *(() if self.tables_alone else self.sensors)}
        for name in sorted(taken & self.gpp.features.keys()):
            yield f"gpp.features.{name}: a reserved name, or that of a sensor; choose another one"
        if self.tables_alone:
            if not self.gpp.measured:
                yield "gpp.fluxnet: needed where tables of features are compared, or fluxes.table"
            if self.gpp.features.keys() == {"weather"}:
                yield "gpp.features: weather alone; add a table of features"
            return
        if self.gpp.windows.length_days < 3:
            yield "gpp.windows.length_days: at least 3 where embeddings are compared"
        for tower in self.gpp.towers:
            if tower.lon is None or tower.lat is None:
                yield f"gpp.towers: {tower.name} has no lon and lat, which its cube needs; add them"

    def _sensors(self) -> Iterator[str]:
        name = self.fusion.reference
        if not self.sensors:
            yield "sensors: at least one sensor is needed"
        elif name not in self.sensors:
            yield f"fusion.reference: no sensor {name!r}; {suggestion(name, self.sensors)}"
        elif self.models is None and self.sensors[name].rgb is None:
            yield f"sensors.{name}.rgb: needed for the maps of the reference sensor"
        known = {*self.sensors, *Fusion().weights}
        for key in self.fusion.weights.keys() - known:
            meant = suggestion(key, self.sensors)
            yield f"fusion.weights: no sensor {key!r}; {meant}"
        for key in self.sensors:
            if key in NOT_SENSORS or (self.gpp and key in RESERVED):
                yield f"sensors.{key}: a reserved name; choose another one"


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One config laid over another, as Snakemake merges files: blocks by key, lists whole."""
    content = dict(below)
    for key, value in above.items():
        inner = content.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        content[key] = merged(inner or {}, value) if both else value
    return content


def with_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the defaults filled in, such as that of a workflow that imports this one."""
    return merged(Config().model_dump(mode="json"), content)


def parse(content: Mapping[str, Any], base: Path = Path()) -> Config:
    """The checked config of a partial one, filled with the defaults.

    Relative paths start from ``base``. Raises UserError with one line per mistake, all of them at
    once.
    """
    content = with_defaults(content)
    mistakes: list[str] = []
    if isinstance(content["models"], str):
        try:
            content["models"] = str(models_folder(content["models"]))
        except UserError as error:
            raise UserError(f"models: {error}") from error
        blocks, mistakes = _blocks_of_models(content, base)
        content |= blocks | UNUSED
    return _checked(content, mistakes, base)


def parse_before_models(content: Mapping[str, Any], base: Path = Path()) -> Config:
    """The same, if the models that the config names need not be trained yet.

    The sensors, context and fusion of missing models are then those of the config.
    """
    folder = content.get("models")
    if isinstance(folder, str) and is_folder(folder) and not are_trained(base / folder):
        return _checked(with_defaults(content) | UNUSED, [], base)
    return parse(content, base)


def _checked(content: Mapping[str, Any], mistakes: list[str], base: Path) -> Config:
    run = base / "results" / str(content["run"])
    for path in (run.parent, run):
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            mistakes.append(
                f"run: {path} is not a folder, or a link to none (is its disk there?); move it away"
            )
    try:
        config = Config.model_validate(content, context={"folder": base, "run": run})
    except ValidationError as error:
        refuse([*mistakes, *mistakes_in(error, Config, content)])
        raise
    refuse(mistakes)
    return config


def _blocks_of_models(content: Mapping[str, Any], base: Path) -> tuple[dict[str, Any], list[str]]:
    """The blocks of the models that a config names, and the mistakes in their use."""
    folder, mistakes = base / content["models"], []
    try:
        trained = trained_blocks(folder)
    except UserError as error:
        return {}, [f"models: {error}"]
    if content["areas"] and trained.resolution_m and SCENES_M not in trained.resolution_m:
        sizes = " or ".join(f"{size:g}" for size in sorted(trained.resolution_m))
        mistakes.append(
            f"areas: the catalog's scenes have pixels of {SCENES_M} m, and the models were trained "
            f"on {sizes} m; use other models, or own_cubes of that size"
        )
    blocks = trained.model_dump(mode="json", exclude={"digest", "resolution_m"})
    defaults = with_defaults({})
    for key, block in blocks.items():
        if content[key] not in (block, defaults[key]):
            mistakes.append(f"{key}: is that of the models; remove it from the config")
    products = base / "results" / str(content["run"])
    if folder.resolve().is_relative_to(products.resolve()):
        mistakes.append(f"run: {content['run']!r} is the run of the models; choose another name")
    return blocks, mistakes
