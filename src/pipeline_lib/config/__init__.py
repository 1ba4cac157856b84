"""Typed blocks of the config; defaults file, schema and table are generated from them."""

from pipeline_lib.config.acquisition import (
    Area,
    Catalog,
    CubeGrid,
    LandCover,
    OwnCube,
    OwnCubeFile,
    Period,
    Periods,
    Sites,
    Stratum,
    Tower,
)
from pipeline_lib.config.demo import Demo
from pipeline_lib.config.gpp import (
    DailySeries,
    Fluxes,
    FluxTowers,
    Gpp,
    Regressor,
    Smoothing,
    Windowing,
)
from pipeline_lib.config.learning import Context, Embed, Fusion, Split, Training
from pipeline_lib.config.root import Config, parse, parse_before_models, with_defaults
from pipeline_lib.config.sensors import (
    LOADERS,
    SENTINEL_1,
    SENTINEL_2,
    Encoder,
    Loss,
    Sensor,
    SensorSource,
    Sequence,
)
from pipeline_lib.config.trained import are_trained, trained_blocks
from pipeline_lib.config.vector import parts_of

__all__ = [
    "LOADERS",
    "SENTINEL_1",
    "SENTINEL_2",
    "Area",
    "Catalog",
    "Config",
    "Context",
    "CubeGrid",
    "DailySeries",
    "Demo",
    "Embed",
    "Encoder",
    "FluxTowers",
    "Fluxes",
    "Fusion",
    "Gpp",
    "LandCover",
    "Loss",
    "OwnCube",
    "OwnCubeFile",
    "Period",
    "Periods",
    "Regressor",
    "Sensor",
    "SensorSource",
    "Sequence",
    "Sites",
    "Smoothing",
    "Split",
    "Stratum",
    "Tower",
    "Training",
    "Windowing",
    "are_trained",
    "parse",
    "parse_before_models",
    "parts_of",
    "trained_blocks",
    "with_defaults",
]
