"""Plans as pictures: hours and bytes by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from pipeline_lib.plan.summary import Plan, Stage, format_bytes, format_hours, unit_of
from pipeline_lib.report.style import COLOURS, drawing

SMALL = 1e-3
"""Share of all hours and bytes under which a stage is left out."""
CAPTION = (
    "Core hours: every job on CPUs. GPU hours: the jobs that ask for a GPU, on one.\n"
    "Stages under a thousandth of both hours and bytes are left out; scales differ."
)
HOURS = {"core hours": "core_hours", "GPU hours": "gpu_hours"}
SIZES = {"from the catalog": "read", "on disk at the end": "kept"}
"""Fields of a stage by their labels."""


def draw_plans(plans: Sequence[Plan], output: Path) -> None:
    """Draw plans side by side as PNG, a column each: hours above, bytes below."""
    shown = [
        [
            stage
            for stage in plan.stages
            if stage.core_hours >= SMALL * plan.total.core_hours
            or stage.kept >= SMALL * plan.total.kept > 0
        ]
        for plan in plans
    ]
    height = 2.0 + 1.1 * max(map(len, shown))
    with drawing(output, width=max(6.0, 3.9 * len(plans)), height=height) as figure:
        figure.supxlabel(CAPTION, fontsize=8)
        axes = figure.subplots(2, len(plans), squeeze=False)
        for (above, below), plan, stages in zip(axes.T, plans, shown, strict=True):
            above.set_title(plan.run)
            _bars(above, stages, HOURS, COLOURS[:2], format_hours)
            above.set_xlabel("hours")
            unit, factor = unit_of(max(plan.total.read, plan.total.kept))
            _bars(below, stages, SIZES, COLOURS[2:4], format_bytes)
            below.xaxis.set_major_formatter(lambda value, _, factor=factor: f"{value / factor:g}")
            below.set_xlabel(unit)
        shades = [axis.get_legend_handles_labels() for axis in axes[:, 0]]
        handles, labels = ([*one, *two] for one, two in zip(*shades, strict=True))
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def _bars(
    axis: Axes,
    stages: Sequence[Stage],
    fields: Mapping[str, str],
    colours: Sequence[str],
    text: Callable[[float], str],
) -> None:
    """A group of labelled bars per stage, the first one on top."""
    height = 0.8 / len(fields)
    for number, (label, field) in enumerate(fields.items()):
        places = [place + (number - (len(fields) - 1) / 2) * height for place in range(len(stages))]
        sizes = [getattr(stage, field) for stage in stages]
        bars = axis.barh(places, sizes, height, color=colours[number], label=label)
        axis.bar_label(bars, [text(size) for size in sizes], padding=2, fontsize=7)
    axis.set_yticks(range(len(stages)), [stage.name for stage in stages])
    axis.invert_yaxis()
    axis.margins(x=0.22)
