"""The processing baseline of a Sentinel-2 item, and the offset of its digital numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipeline_lib.acquire.retries import Missing
from pipeline_lib.errors import in_a_line

Baseline = tuple[int, int]

OFFSET_SINCE: Baseline = (4, 0)
BOA_OFFSET = -1000
"""ESA adds 1000 to the numbers of level 2A from processing baseline 04.00 on."""
QUANTIFICATION = 10_000
TESTS_FROM = 90
"""Baselines like 99.99 are those of tests and of Sen2Cor on a user's computer: any offset."""

SPELLINGS = re.compile(r"N?(?:(\d{1,2})\.(\d{1,2})|(\d{1,2})(\d\d)|0?(\d))", re.ASCII)
"""05.09 (5.1 is what JSON makes of 05.10), N0509 or 509, and 05 or 5."""
IN_A_NAME = re.compile(r"_N(\d\d\.?\d\d)(?!\d)", re.ASCII)
NAMES = ("s2:product_uri", "s2:granule_id", "s2:datastrip_id")


def baseline_of(item: dict[str, Any]) -> Baseline | None:
    """Processing baseline of a Sentinel-2 item, ``(4, 0)`` for 04.00; None if it has none.

    ``s2:processing_baseline`` comes first, then the product's name, and last
    ``processing:version``, which may be that of any program.
    """
    return next(filter(None, _stated(item).values()), None)


def _stated(item: dict[str, Any]) -> dict[str, Baseline | None]:
    """What an item states as its baseline: each text, and what it means."""
    properties = item["properties"]
    names = (IN_A_NAME.search(str(text)) for text in (*map(properties.get, NAMES), item["id"]))
    name = next((match[1] for match in names if match), None)
    texts = [properties.get("s2:processing_baseline"), name]
    stated = {in_a_line(text): _read(str(text)) for text in texts if text is not None}
    version = properties.get("processing:version")
    if any(stated.values()) or version is None:
        return stated
    return stated | {in_a_line(version): _read(str(version))}


def _read(text: str) -> Baseline | None:
    match = SPELLINGS.fullmatch(text.strip())
    if match is None:
        return None
    major = int(match[1] or match[3] or match[5])
    minor = int((match[2] or match[4] or "0").ljust(2, "0"))
    return (major, minor) if major < TESTS_FROM else None


def offset_of(item: dict[str, Any], bands: Sequence[str]) -> int:
    """What is added to the digital numbers of some bands of an item: 0 or -1000.

    The baseline decides, unless the catalog has already applied the offset (Earth Search). Raises
    :class:`Missing` if the baseline cannot be read, or what the item states of the product's name
    or of an asset's scale and offset contradicts it: reflectance would be wrong by 0.1.
    """
    properties = item["properties"]
    applied = (properties.get(f"{at}:boa_offset_applied") for at in ("earthsearch", "sentinel"))
    if "true" in (str(entry).lower() for entry in applied):
        # Its assets may state -0.1 nevertheless: Element84/earth-search, #9.
        return 0
    stated = _stated(item)
    offsets = {BOA_OFFSET if found >= OFFSET_SINCE else 0 for found in stated.values() if found}
    texts = " and ".join(stated) or "missing"
    if len(offsets) != 1:
        raise Missing(
            f"its processing baseline is {texts}: the offset of its reflectance is unknown "
            "(s2:processing_baseline is written like 05.09)"
        )
    offset = offsets.pop()
    for band in bands:
        asset = item["assets"].get(band, {})
        for entry in (asset, *_dicts(asset.get("raster:bands")), *_dicts(asset.get("bands"))):
            for key, expected in (("offset", offset / QUANTIFICATION), ("scale", 1e-4)):
                value = entry.get(f"raster:{key}", entry.get(key))
                if isinstance(value, int | float) and abs(value - expected) > 1e-6:
                    raise Missing(
                        f"{band}: the item states the {key} {value:g}, but its processing "
                        f"baseline {texts} means {expected:g}"
                    )
    return offset


def _dicts(entries: Any) -> list[dict[str, Any]]:
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
