"""The marker of a finished product, and the dates that it names."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json, write_csv

MANIFEST = "manifest.json"

log = logging.getLogger(__name__)


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a product: dates, number of embeddings of each, digests, sizes of files.

    Raises UserError if the folder holds no finished product.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise UserError(f"{folder}: no finished embeddings (no {MANIFEST}); run the export again")
    manifest: dict[str, Any] = read_json(path)
    return manifest


def find_date(product: str, manifest: Mapping[str, Any], date: datetime.date) -> int:
    """Index of the acquisition of a calendar day; of several the one with most embeddings.

    Raises UserError, naming the dates before and after, if there is none.
    """
    days = np.array(manifest["times"], "datetime64[D]")
    indices = np.flatnonzero(days == np.datetime64(date, "D"))
    if not len(indices):
        raise UserError(f"{product}: no embeddings of {date}; {_neighbours(days, date)}")
    return int(max(indices, key=lambda index: manifest["embeddings"][index]))


def write_closest_dates(
    *,
    products: Mapping[str, Path],
    dates: Sequence[datetime.date],
    tolerance_days: int,
    output: Path,
) -> None:
    """Write a table of the acquisition closest to each date, product by product.

    Its columns are ``cube``, ``asked``, ``closest`` (the earlier one of two) and
    ``close_enough``: whether at most ``tolerance_days`` lie between. Those that are not are
    logged as warnings.
    """
    rows = []
    for cube, folder in products.items():
        days = np.array(read_manifest(folder)["times"], "datetime64[D]")
        for asked in dates:
            gaps = np.abs(days - np.datetime64(asked, "D")).astype(int)
            close = bool(gaps.min() <= tolerance_days)
            if not close:
                gap = f"no embeddings within {tolerance_days} days of {asked}"
                log.warning("%s: %s; %s", cube, gap, _neighbours(days, asked))
            closest = days[gaps.argmin()]
            rows.append({"cube": cube, "asked": asked, "closest": closest, "close_enough": close})
    write_csv(output, rows)


def _neighbours(days: NDArray[np.datetime64], date: datetime.date) -> str:
    """The last date before and the first one after a day that has none, in words."""
    place = int(np.searchsorted(days, np.datetime64(date, "D")))
    near = [str(day) for day in days[max(place - 1, 0) : place + 1]]
    return f"the nearest {'date is' if len(near) == 1 else 'dates are'} {' and '.join(near)}"
