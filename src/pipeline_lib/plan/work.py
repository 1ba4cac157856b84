"""The jobs of a config, rule by rule, and what each rule's jobs take together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.config import Area, Config, Training, parts_of
from pipeline_lib.config.areas import AREA_KM
from pipeline_lib.config.trained import are_trained
from pipeline_lib.files import atomic_path, write_json
from pipeline_lib.gpp.methods import SCHEMES, TRANSFORMER, WEATHER, experiments
from pipeline_lib.plan.cubes import Cubes, cubes_of, has_towers, samples_of, years_between
from pipeline_lib.plan.rates import RATES, Rates
from pipeline_lib.plan.summary import Job, Machine, as_markdown, summarise

FITTED, MEASURED = 4096, 2048
"""`SAMPLES` and `CARD_SAMPLES` of the fusion: whoever imports these imports torch."""


@dataclass(frozen=True)
class Work:
    """The jobs of one rule: seconds of a core and of a GPU instead, bytes read and kept on disk."""

    rule: str
    stage: str
    jobs: int
    core_seconds: float = 0.0
    gpu_seconds: float = 0.0
    read: float = 0.0
    kept: float = 0.0


def work_of(config: Config, areas: Mapping[str, Area], rates: Rates) -> list[Work]:
    """All jobs of a whole run, as if nothing of it existed.

    ``areas`` are those of the config in parts. GeoTIFFs are left out: their dates are known when
    the embeddings exist.
    """
    cubes = cubes_of(config, areas, rates)
    rows = [*_archive(config, areas, rates), *_cubes(config, cubes, rates)]
    if not config.models:
        rows += [*_models(config, cubes, rates), *_evaluation(config, cubes, rates)]
    rows += [*_embeddings(config, cubes, rates)]
    if has_towers(config):
        rows += [*_gpp(config, rates)]
    if not config.models:
        rows += [*_report(config, rates)]
    return [row for row in [*rows, Work("all", "report", 1)] if row.jobs]


def _work(
    rates: Rates,
    rule: str,
    stage: str,
    jobs: int = 1,
    seconds: float = 0.0,
    *,
    gpu: bool = False,
    read: float = 0.0,
    kept: float = 0.0,
) -> Work:
    """Jobs that together take so many seconds of a core besides their start."""
    start = jobs * rates("job")
    gpu_seconds = start + seconds / rates("gpu.speedup") if gpu else 0.0
    return Work(rule, stage, jobs, start + seconds, gpu_seconds, read, kept)


def _archive(config: Config, areas: Mapping[str, Area], rates: Rates) -> Iterator[Work]:
    if not config.demo:
        return
    square = (config.demo.tile_px / 1e3) ** 2

    def simulated(rule: str, jobs: int, years: float) -> Work:
        seconds, kept = years * rates("archive.year"), years * square * rates("archive.bytes")
        return _work(rates, rule, "archive", jobs, seconds, kept=kept)

    yield _work(rates, "demo_canopy", "archive")
    if config.sites:
        yield _work(rates, "demo_land_cover", "archive")
        count = config.sites.count
        yield simulated("demo_site", count, count * config.sites.periods.count)
    elif areas:
        yield simulated("demo_site", len(areas), sum(area.years for area in areas.values()))
    if config.gpp and has_towers(config):
        towers, period = len(config.gpp.towers), config.gpp.period
        yield simulated("demo_tower", towers, towers * years_between(period.start, period.end))


def _cubes(config: Config, cubes: list[Cubes], rates: Rates) -> Iterator[Work]:
    if config.sites:
        rule = "site_table" if config.sites.file else "sample_sites"
        yield _work(rates, rule, "cubes")
    count = sum(kind.count for kind in cubes)
    listed = rates("items.bytes") * sum(kind.count * kind.passes for kind in cubes)
    yield _work(rates, "pin_items", "cubes", count, read=listed, kept=listed)
    seconds = read = kept = 0.0
    for kind in cubes:
        sensor = config.sensors[kind.sensor]
        rate = f"build.{sensor.loader}"
        megapixel = rates(f"{rate}.megapixel")
        if sensor.clouds == "cloudsen12":
            megapixel += rates("build.cloudsen12")
        scenes = kind.count * kind.passes
        seconds += scenes * (rates(f"{rate}.frame") + megapixel * kind.read_megapixels)
        read += scenes * rates(f"{rate}.read_frame")
        read += scenes * rates(f"{rate}.read_megapixel") * kind.read_megapixels
        layers = len(sensor.bands) * (2 if sensor.rolling_mean > 1 else 1)
        kept += 1e6 * kind.pixel_frames * layers * rates(f"cube.{sensor.quantity}")
    yield _work(rates, "build_cube", "cubes", count, seconds, read=read, kept=kept)
    # With trained models, cubes that are not embedded are of no use.
    own = [block for block in config.own_cubes.values() if block.embed or not config.models]
    yield _work(rates, "ingest_cube", "cubes", sum(len(block.files) for block in own))


def _samples(config: Config, cubes: list[Cubes], sensor: str) -> float:
    """Samples of a sensor that an epoch draws, of all splits."""
    return sum(
        samples_of(kind, config.sensors[sensor], config.context)
        for kind in cubes
        if kind.learned and kind.sensor == sensor
    )


def _models(config: Config, cubes: list[Cubes], rates: Rates) -> Iterator[Work]:
    def trained(sensor: str, block: Training) -> float:
        """Samples of a training with all its epochs."""
        samples = config.split.training * _samples(config, cubes, sensor)
        return block.max_epochs * min(samples, block.max_samples or samples)

    count, on_gpu = len(config.sensors), config.devices.training == "gpu"
    yield _work(rates, "split_sites", "models")
    yield _work(rates, "fit_normalisation", "models", count)
    yield _work(rates, "measure_noise", "models", count)
    samples = sum(trained(name, config.training) for name in config.sensors)
    seconds = samples * rates("train.encoder")
    yield _work(rates, "train_encoder", "models", count, seconds, gpu=on_gpu)
    fitted = config.split.training * _samples(config, cubes, config.fusion.reference)
    seconds = (min(FITTED, fitted) + MEASURED) * rates("evaluate")
    yield _work(rates, "train_fusion", "models", 1, seconds)


def _evaluation(config: Config, cubes: list[Cubes], rates: Rates) -> Iterator[Work]:
    split = config.split
    fractions = (split.training, split.validation, split.test)

    def measured(rule: str, *sensors: str) -> Work:
        samples = sum(
            min(config.evaluation_samples, fraction * _samples(config, cubes, sensor))
            for sensor in sensors
            for fraction in fractions
        )
        return _work(rates, rule, "evaluation", len(sensors), samples * rates("evaluate"))

    for kind in ("evaluate", "probe"):
        yield measured(f"{kind}_encoder", *config.sensors)
        yield measured(f"{kind}_fusion", config.fusion.reference)
    yield _work(rates, "assess_maps", "evaluation")


def _embeddings(config: Config, cubes: list[Cubes], rates: Rates) -> Iterator[Work]:
    reference = [kind for kind in cubes if kind.sensor == config.fusion.reference]
    looks = 1e6 * sum(kind.count * kind.megapixels * kind.looks for kind in reference)
    frames = 1e6 * sum(kind.pixel_frames for kind in cubes)
    jobs = sum(kind.count for kind in reference)
    jobs += sum(
        block.embed and config.fusion.reference in block.files
        for block in config.own_cubes.values()
    )
    seconds = frames * rates("embed.frame") + looks * rates("embed.embedding")
    kept = looks * rates(f"embedding.{config.embed.dtype}")
    on_gpu = config.devices.embed == "gpu"
    yield _work(rates, "embed_cube", "embeddings", jobs, seconds, gpu=on_gpu, kept=kept)
    if config.embed.geotiff_dates:
        yield _work(rates, "closest_dates", "embeddings")


def _gpp(config: Config, rates: Rates) -> Iterator[Work]:
    assert config.gpp
    gpp, towers = config.gpp, len(config.gpp.towers)
    yield from (_work(rates, rule, "GPP") for rule in ("gpp_targets", "gpp_series"))
    yield _work(rates, "gpp_bands", "GPP", len(config.sensors))
    if gpp.features:
        yield _work(rates, "gpp_features", "GPP", len(gpp.features))
    weather = bool(gpp.fluxes.weather) or WEATHER in gpp.features
    every = experiments(gpp.windows, weather=weather, indices=False, tables=list(gpp.features))
    fits = gpp.regressor.seeds * sum(
        1 + towers * (towers > 1 and experiment.schemes == SCHEMES)
        for experiment in every
        if experiment.regressor == TRANSFORMER
    )
    size = towers * gpp.regressor.width * gpp.regressor.blocks * gpp.regressor.max_epochs
    yield _work(rates, "gpp_transformer", "GPP", 1, fits * size * rates("gpp.fit"))
    yield from (_work(rates, rule, "GPP") for rule in ("gpp_baselines", "gpp_scores"))


def _report(config: Config, rates: Rates) -> Iterator[Work]:
    sensors = config.sensors.values()
    figures = [
        "curves",
        "dates",
        "maps",
        "noise",
        "pca",
        "windows",
        *["sites"] * (config.sites is not None),
    ]
    figures += [f"optical-{s.collection}" for s in sensors if s.rgb]
    figures += [f"radar-{s.collection}" for s in sensors if s.quantity == "backscatter"]
    figures += [f"probes-{model}" for model in (*config.sensors, "fusion")]
    if config.gpp and has_towers(config):
        figures += ["gpp", "towers", "methods", "points"]
        figures += ["lengths"] * bool(config.gpp.windows.other_lengths_days)
    yield _work(rates, "figure", "report", len(figures))
    yield _work(rates, "report", "report", kept=rates("products.bytes"))


def write_plan(
    *,
    config: Config,
    largest: Mapping[str, Job],
    machine: Machine,
    json: Path,
    page: Path,
    figure: Path,
) -> None:
    """Write the plan of a whole run as JSON, Markdown and PNG.

    The models that a config names need not be trained yet. ``largest`` are the largest jobs of the
    rules with large ones.
    """
    from pipeline_lib.plan.figure import draw_plans

    known, areas = Rates.read(RATES), parts_of(config.areas)
    notes = list(_notes(config, areas, known))
    plan = summarise(config.run, work_of(config, areas, known), largest, machine, notes)
    draw_plans([plan], figure)
    with atomic_path(page) as partial:
        partial.write_text(as_markdown(plan))
    write_json(json, plan.model_dump())


def _notes(config: Config, areas: Mapping[str, Area], rates: Rates) -> Iterator[str]:
    """What the numbers rest on, and what they leave out."""
    if config.models and not are_trained(config.models):
        names = " and ".join(config.sensors)
        yield f"No models at {config.models} yet: planned with the config's own {names}."
    parts = len(areas) - len(config.areas.keys() & areas.keys())
    if parts:
        yield f"Areas with a side over {AREA_KM} km are cut: {parts:,} parts are embedded."
    yield (
        f"Core hours were measured on {rates.machine}, {rates.day}, from local files: waiting for "
        "a network is not included. A factor of two is to be expected."
    )
    if not config.models:
        yield "Trainings count with all their epochs; they stop earlier without progress."
    if config.own_cubes:
        yield "Of own cubes only the jobs are counted: their size is not known yet."
    if dates := len(config.embed.geotiff_dates):
        yield f"GeoTIFFs, up to {dates} of each cube, are not counted."
    yield f"Assumed, not measured (reasons in {rates.path.name}): {', '.join(rates.assumed())}."
