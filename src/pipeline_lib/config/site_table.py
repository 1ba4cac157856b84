"""The table of sites, which users edit by hand."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path

from pipeline_lib.config.base import LATITUDES
from pipeline_lib.errors import UserError, in_a_line

COLUMNS = ("cube", "site", "land_cover", "lon", "lat", "start", "end")
DEGREES = {"lon": (-180, 180), "lat": LATITUDES}
ADVICE = "or delete the table to have it drawn anew"


def site_rows(path: Path, cubes: Collection[str]) -> list[dict[str, str]]:
    """What cubes shall hold, as the table tells.

    Parameters
    ----------
    path
        The table.
    cubes
        Names of the cubes.

    Returns
    -------
    list of dict
        `COLUMNS` as text, in the order of the table.

    Raises
    ------
    UserError
        If the table is none, or a cube has no row or a wrong one.
    """
    table = _table(path, path.stat().st_mtime_ns)
    missing = sorted(set(cubes) - {row["cube"] for row, _ in table})
    if missing:
        raise UserError(f"{path}: has no row of {', '.join(missing)}; add it, {ADVICE}")
    rows = []
    for row, line in table:
        if row["cube"] in cubes:
            if mistakes := list(_mistakes(row)):
                raise UserError(f"{path}, line {line}: {'; '.join(mistakes)}; mend it, {ADVICE}")
            rows.append(row)
    return rows


@lru_cache(maxsize=1)
def _table(path: Path, stamp: int) -> list[tuple[dict[str, str], int]]:
    """Each row with its line; read once for the thousands of jobs that ask for theirs."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            rows = [(row, reader.line_num) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: no table of CSV ({in_a_line(error)}); mend it, {ADVICE}"
        ) from error
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            f"{path}: lacks the columns {', '.join(missing)}; add them, with commas between, "
            f"{ADVICE}"
        )
    return [({name: row[name] or "" for name in COLUMNS}, line) for row, line in rows]


def _mistakes(row: Mapping[str, str]) -> Iterator[str]:
    for name, (least, most) in DEGREES.items():
        try:
            within = least <= float(row[name]) <= most
        except ValueError:
            within = False
        if not within:
            yield f"{name} is {row[name]!r}, not degrees from {least} to {most}"
    days = {}
    for name in ("start", "end"):
        try:
            days[name] = date.fromisoformat(row[name])
        except ValueError:
            yield f"{name} is {row[name]!r}, not a day such as 2021-05-31"
    if len(days) == 2 and days["end"] < days["start"]:
        yield "end lies before start"
