"""The jobs of a config, rule by rule, and what each rule's jobs take together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline_lib.config import Area, Config, OwnCube, Training
from pipeline_lib.gpp.methods import regressed_inputs
from pipeline_lib.plan.cubes import Cubes, cubes_of, has_towers, sequences
from pipeline_lib.plan.flops import Flops
from pipeline_lib.plan.rates import Rates

STAGES = ("archive", "sites", "cubes", "models", "evaluation", "embeddings", "GPP", "report")

VALIDATION = 0.25 / 3
"""What the validation of an epoch adds: at most a quarter of the samples, there and not back."""


@dataclass(frozen=True)
class Work:
    """The jobs of one rule.

    Attributes
    ----------
    rule, stage
        Names; the stage is one of `STAGES`.
    jobs
        How many.
    core_seconds
        Of all of them, if there is no GPU.
    gpu_seconds
        On a GPU instead; None: they ask for none.
    read, written, kept
        Bytes read from the catalog, written to disk, and held on disk at the end.
    """

    rule: str
    stage: str
    jobs: int
    core_seconds: float
    gpu_seconds: float | None = None
    read: float = 0.0
    written: float = 0.0
    kept: float = 0.0


def work_of(config: Config, areas: Mapping[str, Area], rates: Rates, flops: Flops) -> list[Work]:
    """All jobs of a config's whole run, as if nothing of it were there.

    Parameters
    ----------
    config
        The whole config.
    areas
        Its areas, those that are too large in parts.
    rates
        What a unit of work costs.
    flops
        Of the config's networks.

    Returns
    -------
    list
        Rules that have jobs, in the order of the stages. GeoTIFFs are left out: which there are
        is known when the embeddings are.
    """
    whole = _Run(config, areas, rates, flops, cubes_of(config, areas, rates))
    found = [
        *whole.archive(),
        *whole.sites(),
        *whole.cubes(),
        *(() if config.models else (*whole.models(), *whole.evaluation())),
        *whole.embeddings(),
        *(whole.gpp() if has_towers(config) else ()),
        *(() if config.models else whole.report()),
        Work("all", "report", 1, 0.0),
    ]
    return sorted((w for w in found if w.jobs), key=lambda work: STAGES.index(work.stage))


@dataclass(frozen=True)
class _Run:
    """A config and what its jobs are reckoned from; one method per stage."""

    config: Config
    areas: Mapping[str, Area]
    rates: Rates
    flops: Flops
    made: list[Cubes]
    own: Mapping[str, OwnCube] = field(init=False)

    def __post_init__(self) -> None:
        # With trained models, cubes that are not embedded are of no use.
        own = self.config.own_cubes.items()
        used = {name: block for name, block in own if block.embed or not self.config.models}
        object.__setattr__(self, "own", used)

    def _fixed(self, rule: str, stage: str, jobs: int = 1, kept: float = 0.0) -> Work:
        """Jobs whose length does not depend on the config."""
        return Work(rule, stage, jobs, jobs * self.rates.of_job(rule), written=kept, kept=kept)

    def _of(self, sensor: str) -> list[Cubes]:
        return [cubes for cubes in self.made if cubes.sensor == sensor]

    def _learned(self, sensor: str) -> list[Cubes]:
        return [cubes for cubes in self._of(sensor) if cubes.learned]

    def archive(self) -> Iterator[Work]:
        """The simulated archive, where there is one."""
        config, sites, gpp = self.config, self.config.sites, self.config.gpp
        if not config.demo:
            return
        square = (config.demo.tile_px / 1e3) ** 2 * self.rates("archive.bytes")
        yield self._fixed("demo_canopy", "archive")
        if sites:
            yield self._fixed("demo_land_cover", "archive")
            years: float = sites.count * sites.periods.count
            yield self._fixed("demo_site", "archive", sites.count, years * square)
        elif self.areas:
            years = sum(area.years for area in self.areas.values())
            yield self._fixed("demo_site", "archive", len(self.areas), years * square)
        if gpp and has_towers(config):
            years = len(gpp.towers) * ((gpp.period.end - gpp.period.start).days + 1) / 365
            yield self._fixed("demo_tower", "archive", len(gpp.towers), years * square)

    def sites(self) -> Iterator[Work]:
        """Drawing of the sites."""
        if self.config.sites:
            yield self._fixed("sample_sites", "sites")

    def cubes(self) -> Iterator[Work]:
        """Pinning and building, and reading of the user's own files."""
        pinned = sum(cubes.count for cubes in self.made)
        listed = sum(cubes.count * cubes.passes for cubes in self.made) * self.rates("items.bytes")
        seconds = pinned * self.rates.of_job("pin_items")
        yield Work("pin_items", "cubes", pinned, seconds, None, listed, listed, listed)
        built = [self._built(cubes) for cubes in self.made]
        yield Work(
            "build_cube",
            "cubes",
            pinned,
            sum(seconds for seconds, _, _ in built),
            read=sum(read for _, read, _ in built),
            # The store is written, then packed into one file.
            written=2 * sum(kept for _, _, kept in built),
            kept=sum(kept for _, _, kept in built),
        )
        ingested = sum(len(block.files) for block in self.own.values())
        yield self._fixed("ingest_cube", "cubes", ingested)

    def _built(self, cubes: Cubes) -> tuple[float, float, float]:
        """Core seconds, bytes read and bytes kept of building some cubes."""
        sensor, rates = self.config.sensors[cubes.sensor], self.rates
        rate = f"build.{sensor.loader}"
        clouds = sensor.clouds == "cloudsen12"
        network, start = (
            (rates("build.network"), rates("start.torch")) if clouds else (0.0, rates("start"))
        )
        square = rates(f"{rate}.megapixel") + network
        seconds = rates(f"{rate}.frame") + square * cubes.read_megapixels
        files = rates(f"{rate}.read_megapixel") * rates(f"passes.{sensor.loader}.files")
        read = (
            cubes.passes * rates(f"{rate}.read_frame") + cubes.seen * files * cubes.read_megapixels
        )
        values = len(sensor.bands) * (2 if sensor.rolling_mean > 1 else 1)
        return (
            cubes.count * (start + cubes.passes * seconds),
            cubes.count * read,
            1e6 * cubes.pixel_frames * values * rates(f"cube.{sensor.quantity}"),
        )

    def models(self) -> Iterator[Work]:
        """Split, scaling, encoders and fusion."""
        config = self.config
        yield self._fixed("split_sites", "models")
        values = {name: self._values(name) for name in config.sensors}
        reading = {name: self.rates("reading") * count for name, count in values.items()}
        start, count = self.rates("start.torch"), len(config.sensors)
        fitted = count * self.rates("start") + sum(reading.values())
        yield Work("fit_normalisation", "models", count, fitted)
        sizes = {name: 2e6 * found for name, found in values.items()}
        trained = {name: self._trained(name, name, config.training) for name in config.sensors}
        yield Work(
            "train_encoder",
            "models",
            count,
            sum(start + reading[name] + cpu for name, (cpu, _) in trained.items()),
            sum(start + reading[name] + gpu for name, (_, gpu) in trained.items()),
            written=sum(sizes.values()),
        )
        cpu, gpu = self._trained("fusion", config.fusion.reference, config.fusion.training)
        beginning = start + sum(reading.values())
        written = sum(sizes.values())
        yield Work("train_fusion", "models", 1, beginning + cpu, beginning + gpu, written=written)

    def _values(self, sensor: str) -> float:
        """Millions of values of the cubes of a sensor that models are trained or tested on."""
        bands = len(self.config.sensors[sensor].bands)
        return bands * sum(cubes.pixel_frames for cubes in self._learned(sensor))

    def _samples(self, sensor: str) -> float:
        """Samples of a sensor in all its splits."""
        block, context = self.config.sensors[sensor], self.config.context
        return sum(c.count * sequences(c, block, context) for c in self._learned(sensor))

    def _trained(self, name: str, sensor: str, block: Training) -> tuple[float, float]:
        """Seconds of one core, and of a GPU, of a training that uses all its epochs."""
        samples = self.config.split.training * self._samples(sensor)
        if block.max_samples is not None:
            samples = min(samples, block.max_samples)
        gflop = samples * block.max_epochs * (1 + VALIDATION) * self.flops.training[name]
        speed = self.rates("train.fusion_speed" if name == "fusion" else "train.speed")
        return gflop / speed, gflop / (1e3 * self.rates("gpu.speed"))

    def evaluation(self) -> Iterator[Work]:
        """Reconstruction, probes, and the maps in numbers."""
        names = list(self.config.sensors)
        for kind in ("evaluate", "probe"):
            encoders = [self._measured(f"{kind}_encoder", name, name) for name in names]
            yield Work(f"{kind}_encoder", "evaluation", len(names), sum(encoders))
            fused = self._measured(f"{kind}_fusion", "fusion", self.config.fusion.reference)
            yield Work(f"{kind}_fusion", "evaluation", 1, fused)
        yield self._mapped("assess_maps", "evaluation")

    def _measured(self, rule: str, name: str, sensor: str) -> float:
        """Core seconds of a job that runs a model on samples of every split."""
        split, most = self.config.split, self.config.evaluation_samples
        shares = (split.training, split.validation, split.test)
        samples = sum(min(most, share * self._samples(sensor)) for share in shares)
        names = self.config.sensors if name == "fusion" else [name]
        reading = self.rates("reading") * sum(self._values(one) for one in names)
        gflop = samples * self.flops.training[name]
        return self.rates("start.torch") + reading + gflop * self.rates(f"sample.{rule}")

    def _mapped(self, rule: str, stage: str) -> Work:
        """A job that reads the embeddings of all cubes of sites."""
        dates = sum(cubes.pixel_frames for cubes in self._learned(self.config.fusion.reference))
        return Work(rule, stage, 1, self.rates("start") + dates * self.rates(f"map.{rule}"))

    def embeddings(self) -> Iterator[Work]:
        """Dense export."""
        config, rates, flops = self.config, self.rates, self.flops
        reference = self._of(config.fusion.reference)
        own = sum(
            block.embed and config.fusion.reference in block.files for block in self.own.values()
        )
        looks = 1e6 * sum(cubes.count * cubes.megapixels * cubes.looks for cubes in reference)
        frames = 1e6 * sum(flops.frame[cubes.sensor] * cubes.pixel_frames for cubes in self.made)
        windows = looks * flops.window
        jobs = own + sum(cubes.count for cubes in reference)
        start = jobs * rates("start.torch")
        kept = looks * rates(f"embedding.{config.embed.dtype}")
        yield Work(
            "embed_cube",
            "embeddings",
            jobs,
            start + frames / rates("embed.frame_speed") + windows / rates("embed.window_speed"),
            start + (frames + windows) / (1e3 * rates("gpu.speed")),
            written=kept,
            kept=kept,
        )
        if config.embed.geotiff_dates:
            yield self._fixed("closest_dates", "embeddings")

    def gpp(self) -> Iterator[Work]:
        """Towers, series, regressors and baselines."""
        config, gpp = self.config, self.config.gpp
        assert gpp is not None
        towers = len(gpp.towers)
        yield self._fixed("gpp_targets", "GPP", towers)
        yield self._fixed("gpp_sites", "GPP")
        yield self._fixed("gpp_bands", "GPP", towers * len(config.sensors))
        yield self._fixed("gpp_series", "GPP", towers)
        inputs = len(regressed_inputs(weather=bool(gpp.weather)))
        lengths = 2 * len(gpp.other_window_days)
        # Sites are left out in turn for one length of a window only.
        fits = inputs * (1 + towers * (towers > 1)) + lengths
        regressor = gpp.regressor
        size = regressor.width * regressor.blocks * regressor.max_epochs
        seconds = towers * (self.rates("gpp.fit") + size * self.rates("gpp.fit_size"))
        spent = (inputs + lengths) * self.rates("start.torch") + fits * regressor.seeds * seconds
        yield Work("gpp_transformer", "GPP", inputs + lengths, spent)
        simple = self.rates("start") + towers * self.rates("gpp.baselines")
        yield Work("gpp_baselines", "GPP", 1, simple)
        yield self._fixed("gpp_scores", "GPP")

    def report(self) -> Iterator[Work]:
        """Figures and the page that shows them."""
        config = self.config
        sensors = config.sensors.values()
        if config.sites:
            yield self._fixed("figure_sites", "report")
        yield self._fixed("figure_optical", "report", sum(bool(s.rgb) for s in sensors))
        radar = sum(sensor.quantity == "backscatter" for sensor in sensors)
        yield self._fixed("figure_radar", "report", radar)
        yield self._fixed("figure_probes", "report", len(config.sensors) + 1)
        for name in ("curves", "dates"):
            yield self._fixed(f"figure_{name}", "report")
        for name in ("maps", "pca"):
            yield self._mapped(f"figure_{name}", "report")
        if config.gpp and has_towers(config):
            names = ["gpp", "towers", "methods", "points"]
            for name in names + ["lengths"] * bool(config.gpp.other_window_days):
                yield self._fixed(f"figure_{name}", "report")
        yield self._fixed("report", "report", kept=self.rates("products.bytes"))
