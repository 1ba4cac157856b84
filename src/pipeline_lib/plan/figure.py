"""Plans as pictures: hours and bytes by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from pipeline_lib.plan.summary import Plan, Sum, told_bytes, told_hours, unit_of
from pipeline_lib.report.style import COLOURS, drawing

LEAST = 1e-3
"""Share of all hours or bytes under which a stage is left out."""
CAPTION = (
    "Core hours: every job on CPUs.",
    "GPU hours: the jobs that ask for a GPU, on one; its speed is an assumption.",
    "Bytes: from the catalog, to disk, and on disk at the end.",
    "Stages under a thousandth of both are left out; scales differ.",
)
HOURS: Mapping[str, Callable[[Sum], float]] = {
    "core hours": lambda part: part.core_hours,
    "GPU hours": lambda part: part.gpu_hours or 0.0,
}
SIZES: Mapping[str, Callable[[Sum], float]] = {
    "from the catalog": lambda part: part.read,
    "written": lambda part: part.written,
    "on disk at the end": lambda part: part.kept,
}


def draw_plans(plans: Sequence[Plan], output: Path) -> None:
    """Draw plans side by side, a column each: hours above, bytes below.

    Parameters
    ----------
    plans
        One or more.
    output
        PNG file to write.
    """
    shown = [_shown(plan) for plan in plans]
    rows = max(map(len, shown))
    with drawing(output, width=max(6.0, 3.9 * len(plans)), height=2.0 + 1.1 * rows) as figure:
        line = 1 if len(plans) == 1 else 2
        told = [" ".join(CAPTION[first : first + line]) for first in range(0, len(CAPTION), line)]
        figure.supxlabel("\n".join(told), fontsize=8)
        axes = figure.subplots(2, len(plans), squeeze=False)
        for (above, below), plan, stages in zip(axes.T, plans, shown, strict=True):
            above.set_title(plan.run)
            _bars(above, stages, HOURS, COLOURS[:2], told_hours)
            above.set_xlabel("hours")
            size = max(getter(part) for part in (*stages, plan.total) for getter in SIZES.values())
            unit, factor = unit_of(size)
            _bars(below, stages, SIZES, COLOURS[2:5], told_bytes)
            below.xaxis.set_major_formatter(lambda value, _, factor=factor: f"{value / factor:g}")
            below.set_xlabel(unit)
        shades = [axis.get_legend_handles_labels() for axis in axes[:, 0]]
        handles, labels = ([*one, *two] for one, two in zip(*shades, strict=True))
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def _shown(plan: Plan) -> list[Sum]:
    """The stages that take some of the hours or of the bytes."""
    total = plan.total
    return [
        part
        for part in plan.stages
        if part.core_hours >= LEAST * total.core_hours or part.written >= LEAST * total.written > 0
    ]


def _bars(
    axis: Axes,
    stages: Sequence[Sum],
    values: Mapping[str, Callable[[Sum], float]],
    colours: Sequence[str],
    told: Callable[[float], str],
) -> None:
    """A group of bars per stage, the first one on top, each with its number."""
    height = 0.8 / len(values)
    for number, (name, getter) in enumerate(values.items()):
        places = [place + (number - (len(values) - 1) / 2) * height for place in range(len(stages))]
        found = [getter(part) for part in stages]
        bars = axis.barh(places, found, height, color=colours[number], label=name)
        axis.bar_label(bars, [told(value) for value in found], padding=2, fontsize=7)
    axis.set_yticks(range(len(stages)), [part.name for part in stages])
    axis.invert_yaxis()
    axis.margins(x=0.22)
