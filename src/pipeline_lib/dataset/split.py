"""Training, validation and test: by site, so that no place is in two of them."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.config import Split
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import write_csv
from pipeline_lib.seeds import generator

SPLITS = ("training", "validation", "test")
UNUSED = "unused"
NEEDED = SPLITS[:2]
"""Splits without which nothing can be trained."""


def split_sites(
    rows: Sequence[Mapping[str, Any]], *, split: Split, seed: int
) -> list[dict[str, str]]:
    """Assign each site, with all its cubes, to one split.

    Sites whose rows name a split keep it. The others are ordered by land cover and, within
    a class, at random; along this order the splits are dealt out so that each is at every
    point as close to its share as whole sites allow, so every class is divided like the whole
    (systematic stratified draw). With three free sites or more each split that has a share
    gets at least one of them; of fewer, one is kept for training and one for validation where no
    site is preset to these.

    ``rows``, one per cube and in any order, have ``cube``, ``site``, ``land_cover``, and, if known,
    a preset ``split`` and ``sensors``, those that the cube has (otherwise all). Returns rows of the
    first four, sorted by cube. Raises UserError if the cubes of one site have different preset
    splits, if a cube is listed twice, or if a sensor has no cube for training or validation.
    """
    twice = sorted(
        name for name, count in Counter(row["cube"] for row in rows).items() if count > 1
    )
    if twice:
        raise UserError(f"the cube {', '.join(twice)} is listed twice; names must differ")
    preset, classes = _sites(rows)
    free = sorted(site for site in classes if site not in preset)
    drawn = _draw({site: classes[site] for site in free}, split, seed, {*preset.values()})
    assigned = preset | drawn
    _check_needed(rows, assigned)
    return [
        {
            "cube": str(row["cube"]),
            "site": str(row["site"]),
            "land_cover": str(row["land_cover"]),
            "split": assigned[str(row["site"])],
        }
        for row in sorted(rows, key=lambda row: str(row["cube"]))
    ]


def _sites(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Preset split of sites that have one, and land cover of every site."""
    preset: dict[str, str] = {}
    classes: dict[str, str] = {}
    for row in rows:
        site, chosen = str(row["site"]), row.get("split")
        classes[site] = min(classes.get(site, str(row["land_cover"])), str(row["land_cover"]))
        if not chosen:
            continue
        if preset.setdefault(site, str(chosen)) != chosen:
            raise UserError(
                f"site {site} is preset to both {preset[site]} and {chosen}; "
                "all cubes of a site must share a split"
            )
    return preset, classes


def _check_needed(rows: Sequence[Mapping[str, Any]], assigned: Mapping[str, str]) -> None:
    """Raise UserError, naming sensor, split and cubes, unless each sensor can be trained."""
    for sensor in sorted({name for row in rows for name in row.get("sensors", ())}) or ["all"]:
        own = [row for row in rows if sensor in row.get("sensors", (sensor,))]
        for name in NEEDED:
            if name not in {assigned[str(row["site"])] for row in own}:
                cubes = ", ".join(f"{row['cube']} ({assigned[str(row['site'])]})" for row in own)
                raise UserError(
                    f"split: no site is left for the {name} of {sensor}: {in_a_line(cubes)}; add a "
                    f"site, or set `split: {name}` for one of own_cubes"
                )


def _draw(
    classes: Mapping[str, str], split: Split, seed: int, preset: Collection[str]
) -> dict[str, str]:
    rng = generator(seed, "split")
    names = sorted(classes)
    keys = dict(zip(names, rng.permutation(len(names)), strict=True))
    ordered = sorted(names, key=lambda site: (classes[site], keys[site]))
    counts = _whole_counts(len(ordered), split, preset)
    given = dict.fromkeys(SPLITS, 0)
    assigned = {}
    for position, site in enumerate(ordered, start=1):
        lag = {
            name: counts[name] * position / len(ordered) - given[name]
            for name in SPLITS
            if given[name] < counts[name]
        }
        chosen = max(lag, key=lambda name: lag[name])
        given[chosen] += 1
        assigned[site] = chosen
    return assigned


def _whole_counts(count: int, split: Split, preset: Collection[str]) -> dict[str, int]:
    """Sites per split by largest remainder; none of a positive share is empty from 3 sites on,
    nor, with fewer, one of `NEEDED` that is not preset."""
    shares = {name: float(getattr(split, name)) for name in SPLITS}
    counts = {name: math.floor(count * share + 1e-9) for name, share in shares.items()}
    remainder = {name: count * shares[name] - counts[name] for name in SPLITS}
    for name in sorted(SPLITS, key=lambda name: -remainder[name])[: count - sum(counts.values())]:
        counts[name] += 1
    wanted = SPLITS if count >= len(SPLITS) else [name for name in NEEDED if name not in preset]
    for name in wanted[:count]:
        if counts[name] == 0 and shares[name] > 0:
            counts[max(SPLITS, key=lambda other: counts[other] - (other in wanted))] -= 1
            counts[name] = 1
    return counts


def write_split(
    *,
    sites: Path | None,
    own: Sequence[Mapping[str, Any]],
    split: Split,
    seed: int,
    output: str | Path,
) -> None:
    """Write the table of `split_sites` as CSV.

    ``sites`` is the table of drawn sites with the columns ``cube``, ``site`` and ``land_cover``,
    or None; ``own`` are the rows of the user's cubes. Raises UserError if there is no cube, or as
    `split_sites`.
    """
    drawn = read_split_table(sites) if sites is not None else []
    rows = [*drawn, *own]
    if not rows:
        raise UserError("there is no cube to split; the config names neither sites nor own cubes")
    write_csv(output, split_sites(rows, split=split, seed=seed))


def read_split_table(path: str | Path) -> list[dict[str, str]]:
    """Rows of the file of `write_split`: ``cube``, ``site``, ``land_cover``, ``split``."""
    with Path(path).open(newline="") as handle:
        return list(csv.DictReader(handle))


def read_split(path: str | Path) -> dict[str, str]:
    """Split of each cube, from the file of `write_split`."""
    return {row["cube"]: row["split"] for row in read_split_table(path)}
