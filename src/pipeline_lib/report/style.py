"""The look of every figure: type sizes, colours that colour-blind readers tell apart, PNG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline_lib.files import atomic_path

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D1F")
"""After Okabe and Ito (2008), Color Universal Design, less its yellow and black."""

INK = "#222222"
MUTED = "#6B6B6B"
MASKED = "#9A9A9A"
ABSENT = "#E4E4E4"

DOTS_PER_INCH = 130

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "date.converter": "concise",
    "text.color": INK,
}


@contextmanager
def drawing(output: str | Path, *, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure (inches) and write it as a PNG, atomically, if the block succeeds.

    The figure belongs to no window and to no global list; equal figures have equal bytes.
    """
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        yield figure
        with atomic_path(output) as partial:
            canvas.print_figure(
                partial,
                format="png",
                dpi=DOTS_PER_INCH,
                facecolor="white",
                metadata={"Software": None},
                pil_kwargs={"optimize": True},
            )


def bare(axes: Axes) -> None:
    """Remove ticks and frame: what is shown is a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
