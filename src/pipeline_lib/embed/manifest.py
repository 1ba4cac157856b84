"""The marker of a finished product, and the dates that it names."""

from __future__ import annotations

import datetime
import logging
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib import __version__
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json, write_csv

MANIFEST = "manifest.json"
KEYS = ("model_digest", "times", "embeddings", "files")
"""What readers need of a manifest."""

log = logging.getLogger(__name__)


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a product: dates, number of embeddings of each, digests, sizes of files.

    Raises UserError, with the reason, if the folder holds no finished product of this version.
    """
    if re.match(r"\w{2,}:", str(folder)):
        raise UserError(
            f"{folder}: an address, not a folder; open that of the product's embedding.zarr with "
            "xarray.open_zarr, or copy the product to this machine"
        )
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise UserError(f"{folder}: {_why_unfinished(Path(folder))}")
    manifest: dict[str, Any] = read_json(path)
    if missing := [key for key in KEYS if key not in manifest]:
        raise other_version(path, missing)
    return manifest


def other_version(path: Path, missing: Sequence[str]) -> UserError:
    """The error of a product that another version of the library wrote."""
    return UserError(
        f"{path}: has no {', '.join(missing)}, so another version than {__version__} wrote it; "
        "read the product with that version or with xarray.open_zarr, or export it again"
    )


def _why_unfinished(folder: Path) -> str:
    """Why a folder without manifest is no product, and what to do."""
    if zipfile.is_zipfile(folder):
        with zipfile.ZipFile(folder) as archive:
            if any(Path(name).name == MANIFEST for name in archive.namelist()):
                return "a zip archive; unpack it and name the folder of the product in it"
    if folder.is_file():
        return f"a file; name the folder of a product, which holds {MANIFEST}"
    if (folder.parent / MANIFEST).exists():
        return f"a part of a product; name {folder.parent}"
    if products := sorted([*folder.glob(f"*/{MANIFEST}"), *folder.glob(f"*/*/{MANIFEST}")]):
        return f"a folder of products; name one of them, such as {products[0].parent}"
    reason = f"no {MANIFEST}" if folder.exists() else "folder not found"
    return f"no finished embeddings ({reason}); run the export again, or copy the folder again"


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
