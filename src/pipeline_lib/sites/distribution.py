"""How the drawn sites are distributed, beside what was wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.config import Sites
from pipeline_lib.sites.sampling import counts_of

HEAD = ("stratum", "share wanted", "sites wanted", "sites drawn", "share drawn", "nearest site")


def distribution(rows: Sequence[Mapping[str, Any]], sites: Sites) -> str:
    """Tell how the sites of a table are distributed over strata, in space and over the years.

    Parameters
    ----------
    rows
        The table as it was drawn, one row per site and period.
    sites
        Strata and the shares that are wanted of them (Table I of the paper).

    Returns
    -------
    str
        Lines of aligned columns: a stratum's share of the sites, wanted and drawn, and the
        least distance from one of its sites to any other site; then the periods of each year.
    """
    places = list({row["site"]: row for row in rows}.values())
    nearest = nearest_km(
        np.array([float(place["lon"]) for place in places]),
        np.array([float(place["lat"]) for place in places]),
    )
    strata = np.array([place["land_cover"] for place in places])
    names = [stratum.name for stratum in sites.strata]
    members = [strata == name for name in names] + [np.ones(len(places), dtype=bool)]
    wanted = counts_of(sites.strata, sites.count)
    lines = [HEAD]
    for name, share, count, member in zip(
        [*names, "all"],
        [*(stratum.fraction for stratum in sites.strata), 1.0],
        [*wanted, sites.count],
        members,
        strict=True,
    ):
        drawn = int(member.sum())
        least = nearest[member].min(initial=np.inf)
        lines.append(
            (
                name,
                f"{share:.1%}",
                str(count),
                str(drawn),
                f"{drawn / max(len(places), 1):.1%}",
                f"{least:.1f} km" if np.isfinite(least) else "-",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    table = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        )
        for line in lines
    ]
    years = sorted(Counter(str(row["start"])[:4] for row in rows).items())
    periods = ", ".join(f"{year}: {count}" for year, count in years)
    return "\n".join(["Sites drawn, beside Table I", *table, f"Periods per year: {periods}"])


def nearest_km(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from each place to the nearest other one on the ellipsoid, km.

    Parameters
    ----------
    lon, lat
        ``(place,)``, degrees.

    Returns
    -------
    array, ``(place,)``
        Infinite where there is no other place.
    """
    from pyproj import Geod

    nearest = np.full(len(lon), np.inf)
    first, second = np.triu_indices(len(lon), k=1)
    _, _, metres = Geod(ellps="WGS84").inv(lon[first], lat[first], lon[second], lat[second])
    np.minimum.at(nearest, first, metres)
    np.minimum.at(nearest, second, metres)
    return nearest / 1000
