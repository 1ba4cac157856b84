"""Typed blocks of the config; defaults file, schema and table are generated from them."""

from pipeline_lib.config.acquisition import (
    Catalog,
    CubeGrid,
    Demo,
    Labels,
    OwnCube,
    OwnCubeFile,
    Period,
    Tower,
)
from pipeline_lib.config.areas import Area, parts_of
from pipeline_lib.config.gpp import (
    DailySeries,
    FeatureTable,
    Fluxes,
    FluxTable,
    FluxTowers,
    Gpp,
    Regressor,
    Smoothing,
    Windowing,
)
from pipeline_lib.config.learning import Context, Devices, Embed, Fusion, Split, Training
from pipeline_lib.config.root import Config, parse, parse_before_models, with_defaults
from pipeline_lib.config.sensors import (
    LOADERS,
    SENTINEL_1,
    SENTINEL_2,
    Encoder,
    Loss,
    Scale,
    Sensor,
    SensorSource,
    Sequence,
)
from pipeline_lib.config.sites import LandCover, Periods, Sites, Stratum
from pipeline_lib.config.trained import are_trained, trained_blocks
from pipeline_lib.config.weights import models_folder
