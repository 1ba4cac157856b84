"""Correction to nadir of a year of Sentinel-2, beside sen2nbar on the same arrays.

Both start at a granule's XML file and the digital numbers of a date in memory, and end at nadir
reflectance in memory. Inside both clocks: reading and parsing the XML, the c-factor on the nodes of
the angles, filling of nodes without angles, interpolation to the pixels, offset and no data, the
product. Outside both: imports, making the input, network, mosaicking.

sen2nbar is its own ``nbar_stackstac``, called as it stands; only its catalog is replaced by one
that answers from memory, with items whose metadata are local files. It takes all dates at once,
which for a year of 1000 x 1000 pixels needs more memory than most machines have; it gets slices of
dates instead, and its time is their sum. The smaller its arrays, the faster it is, so it is also
measured date by date, as nobody calls it. It has no coefficients for B8A: it corrects nine bands
where ten are corrected here.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from measure import measured, one_thread, show
from numpy.typing import NDArray

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
EPSG, LEFT, TOP = 32632, 600000.0, 5100000.0
NODES, NODE_STEP_M = 23, 5000.0
INSET_M = 20000.0
"""From the granule's corner to the image's."""
COMPARED = 2
"""Dates whose results are compared: one of each kind of baseline."""


@dataclass(frozen=True)
class Case:
    """Granule metadata in a folder, one file per date, and images of ``size`` pixels of 10 m."""

    folder: Path
    dates: int
    size: int

    def metadata(self, date: int) -> Path:
        """The granule's XML file."""
        return self.folder / f"{date:03d}.xml"

    def baseline(self, date: int) -> tuple[int, int]:
        """Processing baseline: half of the dates have the offset of 04.00."""
        return ((3, 1), (5, 9))[date % 2]

    def offset(self, date: int) -> int:
        """What is added to the digital numbers."""
        return (0, -1000)[date % 2]

    def numbers(self, date: int) -> NDArray[np.uint16]:
        """Digital numbers ``(band, y, x)``, one in ten thousand of them no data."""
        shape = (len(BANDS), self.size, self.size)
        return np.random.default_rng(date).integers(0, 10000, shape, dtype=np.uint16)

    def grid(self) -> Any:
        """The pixels."""
        from pipeline_lib.cubes import Grid

        return Grid(EPSG, LEFT + INSET_M, TOP - INSET_M, 10, self.size, self.size)


def write_metadata(case: Case) -> None:
    """Write the metadata of whole granules, with the angles of the demo's sun and a year."""
    from pyproj import Transformer

    from pipeline_lib.cubes import Grid
    from simulated_archive.bands import BANDS as ALL_BANDS
    from simulated_archive.geometry import (
        ACROSS_GRADIENT,
        ACROSS_TRACK_AZIMUTH,
        DETECTORS,
        SceneAngles,
        sun_position,
    )
    from simulated_archive.granule import granule_xml

    steps = np.arange(NODES) * NODE_STEP_M
    east, north = np.meshgrid(LEFT + steps, TOP - steps)
    lon, lat = Transformer.from_crs(EPSG, 4326, always_xy=True).transform(east, north)
    middle = NODES // 2
    # Two detectors that overlap in a slanted strip; nobody sees the north-eastern corner.
    column, row = np.meshgrid(np.arange(NODES), np.arange(NODES))
    edge = middle + (row - middle) // 4
    footprints = np.stack([column <= edge + 1, (column >= edge) & (column - row < NODES - 3)])
    ahead = np.array([0.35 + 0.09 * band.number for band in ALL_BANDS.values()])
    signs = np.array([1.0, -1.0])
    along = ahead[:, None, None, None] * signs[:, None, None]
    for date in range(case.dates):
        moment = datetime(2021, 1, 3, 10, 10, tzinfo=UTC) + timedelta(days=5 * date)
        sun_zenith, sun_azimuth = sun_position(moment, lon, lat)
        across = (4.0, -6.5)[date % 2] - ACROSS_GRADIENT * (east - east[0, middle])
        zenith, azimuth = np.broadcast_arrays(
            np.hypot(across, along),
            (ACROSS_TRACK_AZIMUTH - np.degrees(np.arctan2(along, across))) % 360,
        )
        shape = (len(ALL_BANDS), len(DETECTORS), NODES, NODES)
        zenith, azimuth = (
            np.where(footprints, np.broadcast_to(field, shape), np.nan)
            for field in (zenith, azimuth)
        )
        angles = SceneAngles(
            sun_zenith=float(sun_zenith[middle, middle]),
            sun_azimuth=float(sun_azimuth[middle, middle]),
            view_zenith=np.nanmean(zenith, axis=(1, 2, 3)),
            view_azimuth=np.nanmean(azimuth, axis=(1, 2, 3)),
            sun_zenith_grid=sun_zenith,
            sun_azimuth_grid=sun_azimuth,
            view_zenith_grid=zenith,
            view_azimuth_grid=azimuth,
        )
        properties = {"s2:granule_id": "tile", "s2:datastrip_id": "strip", "eo:cloud_cover": 0.0}
        properties["datetime"] = moment.isoformat()
        xml = granule_xml(Grid(EPSG, LEFT, TOP, 10, 10980, 10980), angles, properties)
        case.metadata(date).write_text(with_cirrus(xml))


def with_cirrus(xml: str) -> str:
    """Add the angles of B10, which real files have and sen2nbar wants; the demo has no B10."""
    first = xml.index('<Viewing_Incidence_Angles_Grids bandId="11"')
    end = xml.index('<Viewing_Incidence_Angles_Grids bandId="12"')
    cirrus = xml[first:end].replace('bandId="11"', 'bandId="10"')
    return xml[:first] + cirrus + xml[first:]


def nodes_of(case: Case, date: int) -> tuple[Any, NDArray[np.float64]]:
    """Angles of a granule, and the c-factor on their nodes."""
    from pipeline_lib.acquire.angles import parse_angles
    from pipeline_lib.acquire.brdf import c_factor_on_nodes, fill_nearest

    angles = parse_angles(case.metadata(date).read_bytes(), BANDS)
    return angles, fill_nearest(c_factor_on_nodes(angles))


def ours(case: Case) -> float:
    """Correct each date by the pipeline's functions; seconds."""
    from pipeline_lib.acquire.brdf import on_grid
    from pipeline_lib.acquire.sentinel2 import reflectance_of

    nodes_of(case, 0)  # imports what is imported on first use
    seconds, grid = 0.0, case.grid()
    for date in range(case.dates):
        numbers = case.numbers(date)
        start = time.perf_counter()
        angles, nodes = nodes_of(case, date)
        _ = reflectance_of(numbers, case.offset(date)) * on_grid(nodes, angles, grid)
        seconds += time.perf_counter() - start
    return seconds


def theirs(case: Case, at_once: int) -> float:
    """Correct all dates by sen2nbar, so many at once; seconds."""
    import sen2nbar.nbar  # noqa: F401

    seconds = 0.0
    for first in range(0, case.dates, at_once):
        dates = range(first, min(first + at_once, case.dates))
        stack = stack_of(case, dates)
        start = time.perf_counter()
        sen2nbar_of(case, stack, dates)
        seconds += time.perf_counter() - start
    return seconds


def stack_of(case: Case, dates: range) -> Any:
    """Digital numbers as stackstac hands them to sen2nbar: ``(time, band, y, x)``."""
    import xarray as xr

    grid = case.grid()
    days = np.datetime64("2021-01-03", "ns") + 5 * np.array(dates) * np.timedelta64(1, "D")
    return xr.DataArray(
        np.stack([case.numbers(date) for date in dates]),
        dims=("time", "band", "y", "x"),
        coords={
            "time": days,
            "id": ("time", [f"item-{date:03d}" for date in dates]),
            "band": list(BANDS),
            "y": grid.y,
            "x": grid.x,
        },
        attrs={"crs": f"epsg:{EPSG}"},
    )


def sen2nbar_of(case: Case, stack: Any, dates: range) -> Any:
    """``sen2nbar.nbar_stackstac`` on a catalog in memory."""
    from sen2nbar.nbar import nbar_stackstac

    items = [
        SimpleNamespace(
            id=f"item-{date:03d}",
            properties={
                "proj:epsg": EPSG,
                "s2:processing_baseline": "{:02d}.{:02d}".format(*case.baseline(date)),
            },
            assets={"granule-metadata": SimpleNamespace(href=str(case.metadata(date)))},
        )
        for date in dates
    ]
    answer = SimpleNamespace(item_collection=lambda: items)
    catalog = SimpleNamespace(search=lambda **_: answer)
    with mock.patch("sen2nbar.nbar.pystac_client.Client.open", return_value=catalog):
        return nbar_stackstac(stack, "memory", "sentinel-2-l2a", quiet=True)


def differences(case: Case) -> dict[str, float]:
    """Largest differences of nadir reflectance over the bands that sen2nbar corrects.

    sen2nbar places the nodes of the angles half a step (2.5 km) south-east of where they
    are; the second figure has our nodes moved there, so that only arithmetic differs.
    """
    from pipeline_lib.acquire.brdf import on_grid
    from pipeline_lib.acquire.sentinel2 import reflectance_of

    dates = range(min(COMPARED, case.dates))
    expected = sen2nbar_of(case, stack_of(case, dates), dates) / 10000
    shared = [BANDS.index(band) for band in expected["band"].values]
    largest = {"largest_difference": 0.0, "largest_difference_same_nodes": 0.0}
    for date in dates:
        angles, nodes = nodes_of(case, date)
        reflectance = reflectance_of(case.numbers(date), case.offset(date))
        half = NODE_STEP_M / 2
        moved = replace(angles, x=angles.x + half, y=angles.y - half)
        for name, placed in zip(largest, (angles, moved), strict=True):
            corrected = (reflectance * on_grid(nodes, placed, case.grid()))[shared]
            difference = np.abs(corrected - expected[date].values)
            if not np.array_equal(np.isnan(corrected), np.isnan(expected[date].values)):
                raise AssertionError("no data differ from sen2nbar's")
            largest[name] = max(largest[name], float(np.nanmax(difference)))
    return largest


def main() -> None:
    """Measure both, in a process of their own each, with one thread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--dates", type=int, default=70)
    parser.add_argument("--size", type=int, default=1000, help="side of the image, pixels")
    parser.add_argument("--at-once", type=int, default=10, help="dates that sen2nbar gets at once")
    options = parser.parse_args()
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(folder), options.dates, options.size)
        write_metadata(case)
        mine = measured(ours, case)
        other = measured(theirs, case, options.at_once)
        single = measured(theirs, case, 1)
        difference = measured(differences, case).result
    seconds = mine.result
    show(
        {
            "dates": case.dates,
            "bands": len(BANDS),
            "size_px": case.size,
            "threads": 1,
            "seconds": round(seconds, 2),
            "sen2nbar_seconds": round(other.result, 2),
            "ratio": round(other.result / seconds, 2),
            "peak_gb": round(mine.peak_gb, 3),
            "sen2nbar_peak_gb": round(other.peak_gb, 3),
            "sen2nbar_dates_at_once": min(options.at_once, case.dates),
            "sen2nbar_bands": len(BANDS) - 1,
            "sen2nbar_seconds_date_by_date": round(single.result, 2),
            "ratio_date_by_date": round(single.result / seconds, 2),
            **difference,
        },
        options.json,
    )


if __name__ == "__main__":
    main()
