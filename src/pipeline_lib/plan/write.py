"""From a config to the files of its plan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline_lib.config import Area, Config, parts_of
from pipeline_lib.config.acquisition import AREA_KM
from pipeline_lib.config.trained import are_trained
from pipeline_lib.files import atomic_path, write_json
from pipeline_lib.plan.rates import Rates
from pipeline_lib.plan.summary import as_markdown, summarise
from pipeline_lib.plan.work import work_of


def write_plan(
    *,
    config: Config,
    rates: Path,
    memory_mb: Mapping[str, int],
    json: Path,
    page: Path,
    figure: Path,
) -> None:
    """Plan a whole run, and write the plan as JSON, Markdown and PNG.

    Parameters
    ----------
    config
        The whole config; models that it names need not be there.
    rates
        File of the rates.
    memory_mb
        Rule -> most that one of its jobs asks for, 1e6 bytes.
    json, page, figure
        Files to write.

    Raises
    ------
    UserError
        If the rates or an outline cannot be read.
    """
    from pipeline_lib.plan.figure import draw_plans
    from pipeline_lib.plan.flops import count_flops

    known, areas = Rates.read(rates), parts_of(config.areas)
    work = work_of(config, areas, known, count_flops(config))
    plan = summarise(config.run, work, memory_mb, list(_notes(config, areas, known)))
    draw_plans([plan], figure)
    with atomic_path(page) as partial:
        partial.write_text(as_markdown(plan))
    write_json(json, plan.to_json())


def _notes(config: Config, areas: Mapping[str, Area], rates: Rates) -> Iterator[str]:
    """What the numbers rest on, and what they leave out."""
    if config.models and not are_trained(config.models):
        names = " and ".join(config.sensors)
        yield f"There are no models at {config.models} yet: planned with the config's own {names}."
    cut = len(areas) - len(config.areas.keys() & areas.keys())
    if cut:
        yield f"Areas with a side over {AREA_KM} km are cut: {cut:,} parts are embedded."
    yield (
        f"Core hours were measured on {rates.machine}, {rates.day}, reading from local files: no "
        "waiting for a network is in them."
    )
    known = "gpu.speed" not in rates.assumed()
    yield (
        "GPU hours are those of the jobs that ask for a GPU and then need hardly a core; one GPU "
        f"is taken to do {rates('gpu.speed'):g} TFLOP/s"
        + (", as measured." if known else ", which is an assumption: there was none to measure.")
    )
    if not config.models:
        yield "Trainings count with all their epochs; they end earlier where nothing is gained."
    if config.own_cubes:
        yield "Of the cubes that you bring only the jobs are counted: their size is not known yet."
    dates = len(config.embed.geotiff_dates)
    if dates:
        yield f"GeoTIFFs, up to {dates} of each cube, are not counted: which is not known yet."
    assumed = ", ".join(
        sorted({re.sub(r"^passes\..*", "passes.*", name) for name in rates.assumed()})
    )
    yield f"Assumed and not measured, with the reasons in {rates.path.name}: {assumed}."
