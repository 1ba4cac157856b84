"""The whole years that a site is observed in."""

from __future__ import annotations

from datetime import date

import numpy as np

from pipeline_lib.config import Periods


def draw_periods(periods: Periods, generator: np.random.Generator) -> list[tuple[date, date]]:
    """Draw whole years, in order, every admissible choice being equally likely.

    Choosing ``count`` of ``years - (count - 1) * gap`` and then spreading the chosen ones by
    the gap maps one to one onto the choices that keep the gap.

    Parameters
    ----------
    periods
        Number of years, the years allowed, and the whole years between two of them.
    generator
        Source of randomness.

    Returns
    -------
    list of (first day, last day)
    """
    years = periods.last_year - periods.first_year + 1
    free = years - (periods.count - 1) * periods.gap_years
    chosen = np.sort(generator.choice(free, size=periods.count, replace=False))
    spread = chosen + np.arange(periods.count) * periods.gap_years
    return [
        (date(year, 1, 1), date(year, 12, 31))
        for year in (periods.first_year + int(step) for step in spread)
    ]
