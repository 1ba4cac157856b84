"""The report of a run: one HTML file that needs nothing besides itself."""

from __future__ import annotations

import base64
import platform
import struct
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline_lib import __version__
from pipeline_lib.config import Config
from pipeline_lib.dataset import read_split
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, digest_of, read_json
from pipeline_lib.gpp.methods import LEAVE_ONE_SITE_OUT, TEMPORAL_HOLDOUT
from pipeline_lib.report.gpp import gpp_tables, look_ahead, papers_scores, verdict
from pipeline_lib.report.maps import map_tables
from pipeline_lib.report.probes import probe_tables
from pipeline_lib.report.remarks import remarks
from pipeline_lib.report.tables import (
    SPLITS,
    Table,
    comparison_table,
    embeddings_tables,
    encoder_tables,
    facts_of_cubes,
    fusion_tables,
    number,
    split_table,
)

SECTIONS = {
    "run": "This run",
    "results": "Results beside the paper's",
    "sites": "Sites",
    "data": "Data",
    "training": "Encoders and fusion",
    "context": "What the context is worth",
    "embeddings": "Embeddings",
    "maps": "Are the maps smooth in time and sharp in space?",
    "towers": "Towers and their measured GPP",
    "gpp": "Do embeddings predict the GPP of unseen years?",
    "places": "Do embeddings predict the GPP of unseen sites?",
    "windows": "How long must a window be?",
    "weather": "What does weather add?",
    "methods": "How the numbers are defined",
}
"""Sections in their order, which a run has where there is something to show; their text is in the
templates."""
TEMPLATES = ("report.html.j2", "sections.html.j2", "definitions.html.j2", "report.css")

_PACKAGES = ("numpy", "xarray", "zarr", "torch", "lightning", "scikit-learn", "snakemake")


@dataclass(frozen=True)
class Picture:
    """A PNG as text, its size in pixels, its caption, and the first sentence of that."""

    title: str
    caption: str
    data: str
    width: int
    height: int


def write_report(
    *,
    config: Config,
    captions: str,
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

    A run with a ``demo`` block is marked as simulated throughout. ``captions`` is the template of
    the caption of a figure, as Snakemake's own report renders it; ``figures`` are PNG files by
    name: a kind, or kind-sensor, such as ``optical-sentinel-2``. Evaluations of encoders and probes
    are by sensor; ``embeddings`` are manifests, each in the folder of its cube. Raises UserError if
    a file is absent or damaged.
    """
    pictures: dict[str, list[Picture]] = defaultdict(list)
    for name, path in figures.items():
        caption = _caption(captions, name, simulated=config.demo is not None)
        pictures[name.partition("-")[0]].append(_picture(path, caption))
    encoders = {name: read_json(path) for name, path in encoder_evaluations.items()}
    fusion, assessed = read_json(fusion_evaluation), read_json(maps)
    gpp = None if gpp_metrics is None else read_json(gpp_metrics)
    manifests = {path.parent.name: read_json(path) for path in embeddings}
    papers = {} if gpp is None else {part: papers_scores(gpp, part) for part in SPLITS}
    training = [
        encoder_tables(name, evaluation, config.sensors[name].quantity)
        for name, evaluation in encoders.items()
    ]
    probed = {name: read_json(path) for name, path in probes.items()}
    context = [probe_tables(name, evaluation) for name, evaluation in probed.items()]
    tables: dict[str, Sequence[Table]] = {
        "results": [comparison_table(encoders, fusion, papers)],
        "data": [split_table(read_split(split)), *facts_of_cubes(cubes, config.sensors)],
        "training": list(chain(*training, fusion_tables(fusion))),
        "context": list(chain(*context)),
        "embeddings": embeddings_tables(manifests),
        "maps": map_tables(assessed),
    }
    compared: dict[str, Any] = {}
    if gpp is not None:
        tables |= gpp_tables(gpp)
        compared = {
            "look_ahead": look_ahead(gpp),
            "holdout_verdict": verdict(gpp, TEMPORAL_HOLDOUT),
            "site_verdict": verdict(gpp, LEAVE_ONE_SITE_OUT),
        }
    present = {"run", *tables, "methods"} | ({"sites"} if config.sites is not None else set())
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=PackageLoader("pipeline_lib.report")
    )
    environment.filters["cell"] = lambda value: value if isinstance(value, str) else number(value)
    html = environment.get_template(TEMPLATES[0]).render(
        config=config,
        remarks=remarks(encoders, fusion, probed),
        config_digest=digest_of(config.model_dump(mode="json")),
        model_digests=sorted({m["model_digest"] for m in manifests.values()}),
        software={"pipeline_lib": __version__, "Python": platform.python_version()},
        packages={name: version(name) for name in _PACKAGES},
        sections={anchor: title for anchor, title in SECTIONS.items() if anchor in present},
        figures=pictures,
        tables=tables,
        mapped=any(part["mapped_cubes"] for part in assessed["splits"].values()),
        gpp=compared,
    )
    with atomic_path(output) as partial:
        partial.write_text(html, encoding="utf-8")


def _caption(captions: str, name: str, *, simulated: bool) -> str:
    environment = Environment(undefined=StrictUndefined)
    wildcards = {"wildcards": {"figure": name}}
    caption = environment.from_string(captions).render(snakemake=wildcards).strip()
    if caption.endswith(":") or not caption:
        raise ValueError(f"{name}: a figure without a caption")
    return f"{caption} Simulated archive." if simulated else caption


def _picture(path: Path, caption: str) -> Picture:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read this figure ({error.strerror})") from error
    width, height = struct.unpack(">II", content[16:24])
    title = caption.partition(". ")[0].removesuffix(".")
    return Picture(title, caption, base64.b64encode(content).decode(), width, height)
