"""The table of sites: one row per cube."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError

from pipeline_lib.config.acquisition import Period, Sites, Stratum
from pipeline_lib.config.base import LATITUDES, Latitude, Longitude, Name
from pipeline_lib.config.messages import mistakes_in
from pipeline_lib.config.vector import read_points
from pipeline_lib.errors import UserError

COLUMNS = ("cube", "site", "land_cover", "lon", "lat", "start", "end")


class SiteRow(Period):
    """A row of the table of sites."""

    cube: Name = Field(description="Name of the cube")
    site: Name = Field(description="Site; all cubes of a site are in the same split")
    land_cover: Name = Field(description="Stratum or class of the site")
    lon: Longitude = Field(description="Longitude, degrees")
    lat: Latitude = Field(description="Latitude, degrees")


def site_cubes(sites: Sites, folder: Path = Path()) -> dict[str, str]:
    """Cube -> site, of the user's table or as they will be drawn."""
    if sites.file is None:
        return sites.drawn_cubes()
    return {row["cube"]: row["site"] for row in read_site_table(folder / sites.file)}


def described(sites: Sites, rows: Sequence[Mapping[str, str]]) -> Sites:
    """The block with the number, the strata and the extent of the user's sites."""
    place = {row["site"]: row for row in rows}
    classes = Counter(row["land_cover"] for row in place.values())
    lon, lat = ([float(row[key]) for row in rows] for key in ("lon", "lat"))
    update = {
        "count": len(place),
        "strata": tuple(
            Stratum(name=name, codes=(), fraction=count / len(place))
            for name, count in sorted(classes.items())
        ),
        "bounds": (
            *(max(-180, min(lon) - 0.1), max(LATITUDES[0], min(lat) - 0.1)),
            *(min(180, max(lon) + 0.1), min(LATITUDES[1], max(lat) + 0.1)),
        ),
    }
    return sites.model_copy(update=update)


def read_site_table(path: Path) -> list[dict[str, str]]:
    """The rows of the user's own table, as the text that a drawn table has.

    Raises UserError with one line per mistake.
    """
    return _read_site_table(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read_site_table(path: Path, modified: int) -> list[dict[str, str]]:
    found = read_points(path)
    missing = [name for name in COLUMNS if found and name not in found[0]]
    if missing or not found:
        raise UserError(f"{path}: {f'missing columns {missing}' if missing else 'has no rows'}")
    rows, mistakes = [], []
    for number, row in enumerate(found, 1):
        row = {name: row[name] for name in COLUMNS}
        try:
            valid = SiteRow.model_validate(row)
            rows.append({name: str(getattr(valid, name)) for name in COLUMNS})
        except ValidationError as error:
            mistakes += [f"{path}, row {number}: {m}" for m in mistakes_in(error, SiteRow, row)]
    counts = Counter(row["cube"] for row in rows)
    mistakes += [f"{path}: duplicate cube {name}" for name, count in counts.items() if count > 1]
    if mistakes:
        raise UserError("\n".join(mistakes))
    return rows


def site_rows(path: Path, cubes: Collection[str]) -> list[dict[str, str]]:
    """The rows of these cubes in a drawn table, as text and in the table's order."""
    rows = [row for row in _drawn_table(path, path.stat().st_mtime_ns) if row["cube"] in cubes]
    missing = sorted(set(cubes) - {row["cube"] for row in rows})
    if missing:
        raise UserError(f"{path}: no row of {', '.join(missing)}; delete the file to redraw it")
    return rows


@lru_cache(maxsize=1)
def _drawn_table(path: Path, modified: int) -> list[dict[str, str]]:
    """Read once for the thousands of jobs that need a row each."""
    with path.open(newline="", encoding="utf-8") as handle:
        return [{name: row[name] for name in COLUMNS} for row in csv.DictReader(handle)]
