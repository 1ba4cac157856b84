"""The report of a run: one HTML file that needs nothing besides itself."""

from __future__ import annotations

import base64
import platform
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipeline_lib import __version__
from pipeline_lib.config import Config
from pipeline_lib.dataset import read_split
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.gpp_report import (
    length_table,
    look_ahead,
    method_tables,
    paper_table,
    site_table,
    training_table,
    verdict,
    with_weather,
)
from pipeline_lib.files import atomic_path, digest_of, read_json
from pipeline_lib.gpp.methods import LEAVE_ONE_SITE_OUT, SCHEMES, TEMPORAL_HOLDOUT
from pipeline_lib.report.maps import map_tables
from pipeline_lib.report.paper import METRICS
from pipeline_lib.report.probes import probe_tables
from pipeline_lib.report.tables import (
    SPLITS,
    Table,
    comparison_table,
    embeddings_tables,
    encoder_tables,
    facts_of_cubes,
    fusion_tables,
    split_table,
)

FIGURES = {
    "sites": (
        "Map and classes of the sites",
        "Sites by land-cover class. Right: the share of each class that Table I of the paper wants "
        "(hatched) beside the share drawn (number of sites in brackets).",
    ),
    "optical": (
        "Optical frames of one cube",
        "One cube through its record, all panels in the same stretch: before and after the "
        "correction to nadir view where the cube has one, and the mask. Only clear pixels are "
        "used.",
    ),
    "radar": (
        "Radar frames of one cube",
        "Consecutive frames of one cube in decibel, and the whole record of its centre pixel. "
        "The rolling mean is taken over time, in linear power.",
    ),
    "curves": (
        "Metrics by epoch of each training",
        "Training and validation metrics by epoch (the paper's Fig. 5). Dotted: the paper's "
        "validation value, where the unit is the same.",
    ),
    "probes": (
        "Scores of probes by target",
        "How well a linear model of each set of features tells the targets, on cubes that it was "
        "not fitted on, and for some targets how well the nearest neighbours do: the closer to 1 "
        "the better. Dotted: chance. A bar cut off below has its value above it.",
    ),
    "dates": (
        "Four dates of one cube: true colour and principal components of the embeddings",
        "One cube through its record, on the clearest date of each quarter of it: true colour, and "
        "the first three principal components of the embeddings as red, green and blue, all in one "
        "basis and one stretch. The cube is the one that has the most embeddings on such dates.",
    ),
    "pca": (
        "Principal components of the embeddings beside true colour",
        "True colour beside the first three principal components of the embeddings, as red, green "
        "and blue (the paper's Fig. 6).",
    ),
    "maps": (
        "Noise in time, steps in space and edges of bands, components and embeddings",
        "Above: what is measured on the held-out cubes, where lower is smoother, and of edges, if "
        "classes are known, closer to 1 is sharper; dotted: what a sharp edge, an even slope or no "
        "edge would give. Below: a part of one cube on its clearest date, with the boundaries of "
        "the classes, if known; the first three principal components of the bands of all sensors, "
        "and of the embeddings, as red, green and blue.",
    ),
    "towers": (
        "Daily embeddings and GPP of the towers",
        "Inputs of the regressor: the dimensions of the embedding around each tower, mean (line) "
        "and standard deviation (band) over the footprint; dots: observed dates, between which "
        "the lines are interpolated; grey: GPP of kept days, the target. Single dates of snow or "
        "undetected cloud may lie outside the panel.",
    ),
    "gpp": (
        "Observed and predicted GPP of each site",
        "Daily GPP observed at the towers (kept days) and predicted from embeddings, for every day "
        "with a window (the paper's Fig. 7). Temporal holdout: fitted on the years not shaded. "
        "Leave-one-site-out: fitted on the other sites. Bands: standard deviation over fits.",
    ),
    "methods": (
        "Error of every method, temporal holdout and leave-one-site-out",
        "RMSE of daily GPP on the same days, all sites and by vegetation type: mean over the fits "
        "(dots), single fits (ticks). Dotted: the climatology of the day of year. Further left is "
        "better.",
    ),
    "points": (
        "Predicted against observed GPP",
        "Each dot is a day. Above: validation years; below: left-out sites. Line: equality.",
    ),
    "lengths": (
        "Error by length of the window",
        "RMSE on the validation days that all lengths predict: mean over the fits (dots), single "
        "fits (dashes).",
    ),
}
"""Kind of figure -> what it shows, and its caption."""

_SIMULATED_CAPTION = "Simulated archive."
_PACKAGES = ("numpy", "xarray", "zarr", "torch", "lightning", "scikit-learn", "snakemake")


@dataclass(frozen=True)
class Picture:
    """A PNG as text, its size in pixels, what it shows, and its caption."""

    title: str
    caption: str
    data: str
    width: int
    height: int


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    anchor: str
    title: str
    text: tuple[str, ...] = ()
    figures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


def write_report(
    *,
    config: Config,
    figures: Mapping[str, Path],
    split: Path,
    cubes: Sequence[Path],
    encoder_evaluations: Mapping[str, Path],
    fusion_evaluation: Path,
    probes: Mapping[str, Path],
    maps: Path,
    embeddings: Sequence[Path],
    gpp_metrics: Path | None,
    output: Path,
) -> None:
    """Write the report of a run. Equal inputs give equal bytes.

    Parameters
    ----------
    config
        The run's config; a run with a ``demo`` block is marked as simulated throughout.
    figures
        PNG files by name: a kind of :data:`FIGURES`, or kind-sensor, such as
        ``optical-sentinel-2``.
    split
        Table of the split of each cube.
    cubes
        Cube files, whose attributes and coordinates are read.
    encoder_evaluations, fusion_evaluation
        Reconstruction metrics per sensor, and of the fusion.
    probes
        Scores of the probes per sensor, and of the fusion.
    maps
        Smoothness and edges of the maps.
    embeddings
        Manifests of the exported embeddings, each in the folder of its cube.
    gpp_metrics
        Metrics of GPP, or none where the run has no towers.
    output
        HTML file to write.

    Raises
    ------
    UserError
        If a file is absent or unreadable.
    ValueError
        If a figure is of an unknown kind.
    """
    simulated = config.demo is not None
    pictures = {name: _picture(name, path, simulated) for name, path in figures.items()}
    encoders = {name: read_json(path) for name, path in encoder_evaluations.items()}
    fusion = read_json(fusion_evaluation)
    probed = {name: read_json(path) for name, path in probes.items()}
    assessed = read_json(maps)
    gpp = None if gpp_metrics is None else read_json(gpp_metrics)
    manifests = [(path.parent.name, read_json(path)) for path in embeddings]
    sections = [
        _run_section(config, manifests),
        _results_section(encoders, fusion, gpp),
        _sites_section(config, pictures),
        Section(
            "data",
            "Data",
            figures=_of_kind(pictures, "optical", "radar"),
            tables=(split_table(read_split(split)), *facts_of_cubes(cubes, config.sensors)),
        ),
        _training_section(config, pictures, encoders, fusion),
        _context_section(config, pictures, probed),
        Section(
            "embeddings",
            "Embeddings",
            text=(
                f"Every cloud-free pixel and date of {config.fusion.reference} has "
                f"a vector of {config.fusion.embedding_dim} dimensions. A cloudy centre has none.",
            ),
            figures=_of_kind(pictures, "dates", "pca"),
            tables=embeddings_tables(manifests),
        ),
        _maps_section(pictures, assessed, probed.get("fusion")),
        *_gpp_sections(config, pictures, gpp),
        Section("methods", "How the numbers are defined", notes=_DEFINITIONS),
    ]
    html = _render(
        run=config.run,
        lead="Dated, context-aware embeddings at "
        f"{config.cube.resolution_m:g} m: what this run read, learnt and wrote.",
        simulated=simulated,
        sections=[section for section in sections if section is not None],
    )
    with atomic_path(output) as partial:
        partial.write_text(html, encoding="utf-8")


def _render(**content: Any) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    templates = files("pipeline_lib.report") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string((templates / "report.html.j2").read_text("utf-8"))
    style = Markup((templates / "report.css").read_text("utf-8"))
    return template.render(style=style, **content)


def _picture(name: str, path: Path, simulated: bool) -> Picture:
    kind, _, sensor = name.partition("-")
    if kind not in FIGURES:
        raise ValueError(f"{name}: no kind of figure; known are {', '.join(FIGURES)}")
    title, caption = FIGURES[kind]
    if sensor:
        title, caption = f"{title}, {sensor}", f"{sensor}. {caption}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read this figure ({error.strerror})") from error
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise UserError(f"{path}: not a PNG file; delete it and run again")
    width, height = struct.unpack(">II", content[16:24])
    if simulated:
        caption = f"{caption} {_SIMULATED_CAPTION}"
    return Picture(title, caption, base64.b64encode(content).decode(), width, height)


def _of_kind(pictures: Mapping[str, Picture], *kinds: str) -> tuple[Picture, ...]:
    return tuple(
        picture for kind in kinds for name, picture in pictures.items() if _kind(name) == kind
    )


def _kind(name: str) -> str:
    return name.partition("-")[0]


def _run_section(config: Config, manifests: Iterable[tuple[str, Mapping[str, Any]]]) -> Section:
    models = sorted({str(m["model_digest"]) for _, m in manifests if "model_digest" in m})
    facts = [
        ("run", config.run),
        ("source of scenes", _source(config)),
        *(
            (
                name,
                f"{sensor.collection}, {len(sensor.bands)} bands, "
                f"{sensor.latent_dim} latent dimensions",
            )
            for name, sensor in config.sensors.items()
        ),
        (
            "context",
            f"{config.context.patch_px} x {config.context.patch_px} px, "
            f"{config.context.frames} frames",
        ),
        ("seed", str(config.seed)),
        ("digest of the config", digest_of(config.model_dump(mode="json"))[:16]),
        *(("digest of the models", digest[:16]) for digest in models),
        ("software", f"pipeline_lib {__version__}, Python {platform.python_version()}"),
        ("packages", ", ".join(f"{name} {version(name)}" for name in _PACKAGES)),
    ]
    return Section("run", "This run", tables=(Table("", (), tuple(facts), words=2),))


def _source(config: Config) -> str:
    if config.demo is not None:
        return "simulated archive of the demo"
    own = f"{len(config.own_cubes)} cubes of the user" if config.own_cubes else ""
    drawn = config.catalog.source if config.sites is not None or config.gpp is not None else ""
    return ", ".join(filter(None, (drawn, own)))


def _results_section(
    encoders: Mapping[str, Mapping[str, Any]],
    fusion: Mapping[str, Any],
    gpp: Mapping[str, Any] | None,
) -> Section:
    ours: dict[tuple[str, str | None, str], dict[str, Any]] = {}
    for split in SPLITS:
        for sensor, evaluation in encoders.items():
            model = evaluation.get("splits", {}).get(split, {}).get("model", {})
            _collect(ours, "encoder", sensor, split, model)
        for sensor, model in fusion.get("splits", {}).get(split, {}).get("model", {}).items():
            _collect(ours, "fusion", sensor, split, model)
        if gpp is not None:
            papers = gpp["methods"][gpp["difference"]["method"]][TEMPORAL_HOLDOUT]
            _collect(ours, "gpp", None, split, papers.get(split, {}).get("overall", {}))
    return Section(
        "results",
        "Results beside the paper's",
        text=(
            "The paper states its errors on values normalised to 0..1 without saying by which "
            "bounds; this run scales each band by robust quantiles of its training sites. The two "
            "columns are of the same kind, not of the same scale, nor of the same sites.",
        ),
        tables=(comparison_table(ours),),
    )


def _collect(
    ours: dict[tuple[str, str | None, str], dict[str, Any]],
    stage: str,
    sensor: str | None,
    split: str,
    values: Any,
) -> None:
    for metric in METRICS:
        if isinstance(values, Mapping) and values.get(metric) is not None:
            ours.setdefault((stage, sensor, metric), {})[split] = values[metric]


def _sites_section(config: Config, pictures: Mapping[str, Picture]) -> Section | None:
    if config.sites is None:
        return None
    periods = config.sites.periods
    text = (
        f"{config.sites.count} sites of {config.sites.file.name}."
        if config.sites.file
        else f"{config.sites.count} sites wanted, at least {config.sites.min_distance_km:g} km "
        f"apart, each observed in {periods.count} x 12 months between "
        f"{periods.first_year} and {periods.last_year}."
    )
    return Section(
        "sites",
        "Sites",
        text=(text,),
        figures=_of_kind(pictures, "sites"),
    )


def _training_section(
    config: Config,
    pictures: Mapping[str, Picture],
    encoders: Mapping[str, Mapping[str, Any]],
    fusion: Mapping[str, Any],
) -> Section:
    tables = [
        table
        for name, evaluation in encoders.items()
        for table in encoder_tables(name, evaluation, config.sensors[name].quantity)
    ]
    return Section(
        "training",
        "Encoders and fusion",
        figures=_of_kind(pictures, "curves"),
        tables=(*tables, *fusion_tables(fusion)),
    )


def _context_section(
    config: Config, pictures: Mapping[str, Picture], probed: Mapping[str, Mapping[str, Any]]
) -> Section:
    told = (
        "Leaf area, and the land cover of a pixel, are the truth of the simulated archive; nothing "
        "is trained on it."
        if config.demo is not None
        else "This run has no truth of the ground: NDVI stands for the vegetation, and the land "
        "cover is that of a whole cube."
    )
    return Section(
        "context",
        "What the context is worth",
        text=(
            "An embedding earns its place by what it tells beyond the spectrum of its own pixel "
            "and date. Linear models are fitted on training samples to predict what lies around "
            "the pixel and what comes next, and scored on cubes they have not seen. Where spectrum "
            "and embedding together score no higher than the spectrum, a linear model finds "
            "nothing of the context in the embedding. Leaf area and land cover are also told by "
            "the nearest samples: what lies close together without lying on a line.",
            told,
        ),
        figures=_of_kind(pictures, "probes"),
        tables=tuple(
            table for name, found in probed.items() for table in probe_tables(name, found)
        ),
    )


def _maps_section(
    pictures: Mapping[str, Picture], maps: Mapping[str, Any], probes: Mapping[str, Any] | None
) -> Section:
    edges = (
        "An edge is where three pixels of one class meet three of another, by the truth of the "
        "archive. Two numbers tell how much of the difference between the classes lies between the "
        "two pixels that touch; noise draws one towards 1 and the other towards 0."
        if any(part["mapped_cubes"] for part in maps["splits"].values())
        else "Edges are not measured, for want of a map that tells the classes of this run's "
        "pixels. Steps are those between all adjacent pixels, and may be true ones."
    )
    return Section(
        "maps",
        "Are the maps smooth in time and sharp in space?",
        text=(
            "The bands of all sensors, as many of their principal components as an embedding has "
            "numbers, and the embeddings are measured on the same pixels of cubes that nothing was "
            "fitted on. Every feature is standardised by training pixels and weighs the same, as "
            "in the probes, so a weak component counts like a strong one.",
            "Noise in time is how far a pixel lies from the line between the dates before and "
            "after. A map that tells nothing is smooth too: what the features still tell stands "
            "beside, and the noise also as a share of their spread.",
            edges,
        ),
        figures=_of_kind(pictures, "maps"),
        tables=map_tables(maps, probes),
    )


def _gpp_sections(
    config: Config, pictures: Mapping[str, Picture], gpp: Mapping[str, Any] | None
) -> tuple[Section, ...]:
    """A section per question that the comparison with GPP answers."""
    if gpp is None or config.gpp is None:
        return ()
    block = config.gpp
    years = " and ".join(str(year) for year in block.windows.validation_years)
    optional = []
    if gpp["lengths"]:
        optional.append(
            Section(
                "windows",
                "How long must a window be?",
                figures=_of_kind(pictures, "lengths"),
                tables=(length_table(gpp),),
            )
        )
    if with_weather(gpp):
        optional.append(
            Section(
                "weather",
                "What does weather add?",
                text=(
                    f"The tower's own {' and '.join(block.fluxes.weather)} is added to the inputs: "
                    "incoming radiation and air temperature of each day, which no satellite "
                    "measures. Weather alone is listed for comparison.",
                ),
                tables=tuple(
                    table
                    for scheme in SCHEMES
                    for table in method_tables(gpp, scheme, weather=True)
                ),
            )
        )
    return (
        Section(
            "towers",
            "Towers and their measured GPP",
            text=(
                "GPP is g C m⁻² d⁻¹ by the night-time partitioning (GPP_NT_VUT_REF). A tower is "
                f"used if more than {block.fluxes.min_good_days:.0%} of its measured days have a "
                f"quality of {block.fluxes.min_quality:g} or more; negative GPP is left out.",
            ),
            figures=_of_kind(pictures, "towers"),
            tables=(site_table(gpp),),
        ),
        Section(
            "gpp",
            "Do embeddings predict the GPP of unseen years?",
            text=(
                f"Every method predicts the GPP of the last of {block.windows.length_days} days "
                f"around a tower. Nothing from the towers in {years} enters the fits: neither GPP, "
                "nor images, nor embeddings whose context reaches there. (The encoders were "
                "trained on other sites, in all years.) Windows of a validation year start in it, "
                "so its first months have no prediction.",
                look_ahead(gpp),
                *verdict(gpp, TEMPORAL_HOLDOUT),
            ),
            figures=_of_kind(pictures, "gpp", "methods"),
            tables=(paper_table(gpp), *method_tables(gpp, TEMPORAL_HOLDOUT), training_table(gpp)),
        ),
        Section(
            "places",
            "Do embeddings predict the GPP of unseen sites?",
            text=(
                "The same methods, fitted on all years of the other sites.",
                *verdict(gpp, LEAVE_ONE_SITE_OUT),
            ),
            figures=_of_kind(pictures, "points"),
            tables=method_tables(gpp, LEAVE_ONE_SITE_OUT),
        ),
        *optional,
    )


_DEFINITIONS = (
    (
        "centre MAE",
        "Mean absolute difference between the centre pixel of the centre frame and its "
        "reconstruction, over bands: in units of the sensor (reflectance, or backscatter as linear "
        "power), and on bands scaled to 0..1 by robust quantiles of the training sites.",
    ),
    (
        "context MAE",
        "Mean absolute difference over all valid pixels and frames of a patch, all weighing the "
        "same, in units of the sensor.",
    ),
    (
        "spectral angle",
        "Angle between the observed and the reconstructed bands of the centre, in radians, taken "
        "in units of the sensor.",
    ),
    (
        "SSIM loss",
        "One minus the structural similarity of patch and reconstruction (Gaussian window of "
        "7 x 7 pixels, sigma 1.5, data range 1).",
    ),
    (
        "baselines",
        "Each knows one spectrum and nothing around it: its reconstruction of a sample is that "
        "spectrum at every pixel of every frame, measured as the model's is. Nearest date: the "
        "centre pixel in the frame of the sample closest in time where it is valid. Adjacent "
        "pixel: a valid direct neighbour in the centre's frame. Principal components: the "
        "centre's own spectrum from its first components, fitted on training sites. Encoder "
        "alone: the sensor by its own encoder and decoder, on the samples of the fusion.",
    ),
    (
        "sensors left out",
        "A sensor other than the reference is masked out although it is there: of all samples, or "
        "of those on half of each cube's dates, drawn at random. Only samples that have it count.",
    ),
    (
        "probes",
        "Linear: ridge regression on standardised features, its strength chosen on training sites "
        "that are left out in turn; R² on the held-out samples, mean over bands. For land cover, "
        "logistic regression, its strength chosen likewise by log loss, and balanced accuracy, the "
        "mean recall of the classes. k nearest: the mean of the 5, 15 or 45 training samples that "
        "are nearest in standardised features, or their vote, in which classes weigh the same; "
        "their number is chosen likewise, for votes by the Brier score. In brackets: the number of "
        "features. Chance: the mean of the held-out samples, or always one class. Those of the "
        "fusion tell the context of its reference sensor; spectrum and latents are those of all "
        "sensors, and a sensor that is absent from a sample has the mean of the training samples. "
        "Where other sensors are absent from whole training sites, the strength is chosen between "
        "sites that differ in this too; the embedding of which they are left out everywhere is "
        "free of that.",
    ),
    (
        "neighbourhood",
        "Mean and standard deviation of each band over the valid pixels of the patch in the centre "
        "frame, the centre left out, where half of them are valid.",
    ),
    (
        "change to the next date",
        "Value at the pixel's next valid date, at most 30 days on, minus the value now. An "
        "embedding has seen frames before and after its date, so this is no forecast.",
    ),
    (
        "noise in time",
        "Of three consecutive valid dates of a pixel, the first and last at most 40 days apart: "
        "root mean square distance of the middle one from the line between the others (Vermote, "
        "Justice and Breon 2009), in standard deviations of the training pixels. White noise of "
        "one standard deviation gives 1.22 where dates are evenly spaced, and up to 1.41 where "
        "they are not; what truly bends within that time counts too. Spread: the standard "
        "deviation of the pixels measured, in the same unit.",
    ),
    (
        "steps and edges",
        "Step: root mean square difference of adjacent pixels along rows and columns. Contrast: "
        "that of the two pixels at boundaries, divided by the step within a class; 1 where edges "
        "do not stand out. With n the difference of the two pixels at a boundary and f that of the "
        "third pixels on its two sides, sizes of edges are the sum of |n| by that of |f|, and "
        "their share the sum of n · f by that of |f|². Both are 1 where the edge is sharp, 1/3 "
        "where a mean over three pixels has blurred it, and 1/5 where the six pixels lie on an "
        "even slope. Pure noise gives sizes of 1 and a share of 0; sizes above 1 are found where "
        "bands of unequal resolution, or what lies along the boundary, set its pixels apart.",
    ),
    (
        "NRMSE",
        "RMSE / (maximum - minimum) of the observed GPP of the same rows; of groups of days, the "
        "range of the group. The paper does not define its own; its RMSE divided by its NRMSE "
        "implies ranges of 34 and 46 g C m⁻² d⁻¹.",
    ),
    ("R²", "Coefficient of determination; negative where the mean of the observed is better."),
    ("bias", "Mean of predicted minus observed."),
    (
        "inputs",
        "Of every tower and day: the embedding; the bands of all sensors, in the units of their "
        "cubes; NIRv and kNDVI; all as means over the same footprint, interpolated in the same "
        "way. Yearly mean embedding: the mean of a calendar year's embeddings, over the same days "
        "of every year, which are those whose context knows no validation year. Day of year: its "
        "sine and cosine.",
    ),
    (
        "regressors",
        "The transformer gets all days of a window; ridge regression and gradient boosting get "
        "the last day and the means of the window's thirds. All are fitted to the same windows, "
        "scaled on them alone, and scored on the same days. Climatology: the mean GPP of the "
        "day of year, over all kept days of the training years (or of the other sites) at sites of "
        "the same vegetation type, smoothed by 10 days.",
    ),
)
