"""Measured daily GPP of flux towers, and which towers are used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline_lib.config import Fluxes, FluxTowers, Tower
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, write_csv
from pipeline_lib.gpp.fluxnet import read_tower
from pipeline_lib.gpp.tables import read_gpp

MEASURED = ("gpp", "quality", "kept")
"""Columns of a table of targets; what else it holds is weather."""


def write_all_targets(*, gpp: FluxTowers, folder: Path) -> str:
    """Write ``targets/<tower>.csv`` of every tower, and their table ``sites.csv``.

    The table holds ``site``, ``lon``, ``lat``, ``vegetation``, what `describe_site` returns, and
    ``files``: what was read, or what is wrong with it. A tower that cannot be read has no measured
    day. The table is also returned as text.

    Raises UserError if no tower can be read.
    """
    if not gpp.measured:
        raise ValueError("neither a folder of daily FLUXNET files nor a table of GPP")
    files, faults = {}, {}
    for tower in gpp.towers:
        output = folder / "targets" / f"{tower.name}.csv"
        try:
            files[tower.name] = write_targets(
                tower=tower, gpp=gpp, fluxnet=gpp.fluxnet, output=output
            )
        except UserError as error:
            faults[tower.name] = str(error)
            columns = ["gpp", "quality", *gpp.fluxes.weather]
            empty = pd.DataFrame(columns=columns, index=pd.DatetimeIndex([]), dtype=float)
            _write(judge_days(empty, gpp), output)
    if faults and not files:
        raise UserError(next(iter(faults.values())))
    return write_sites(gpp=gpp, folder=folder, files=files | faults, unread=faults)


def write_sites(
    *,
    gpp: FluxTowers,
    folder: Path,
    files: Mapping[str, str] | None = None,
    unread: Collection[str] = (),
) -> str:
    """Write ``sites.csv`` of the towers whose targets a folder holds."""
    rows = []
    for tower in gpp.towers:
        targets = read_targets(folder / "targets" / f"{tower.name}.csv")
        place = {"lon": tower.lon, "lat": tower.lat, "vegetation": tower.vegetation}
        row = {"site": tower.name} | place | describe_site(targets, gpp.fluxes)
        if tower.name in unread:
            row["reason"] = "no file that can be read"
        rows.append(row | {"files": (files or {}).get(tower.name)})
    write_csv(folder / "sites.csv", rows)
    return pd.DataFrame(rows).to_string(index=False, float_format="%.4g")


def write_targets(*, tower: Tower, gpp: FluxTowers, fluxnet: Path | None, output: Path) -> str:
    """Write a tower's measured GPP for every day of the period; which files it is from, in words.

    As CSV: ``date``, ``gpp`` (g C m-2 d-1), ``quality`` (0..1), weather (W m-2, degrees C),
    ``kept``. From the table of the config if that has rows of the tower, else from ``fluxnet``, a
    folder of FLUXNET files. Raises UserError if there is nothing of the tower that can be read.
    """
    table = gpp.fluxes.table
    days = None if table is None else read_gpp(table, tower.name, gpp.fluxes.weather)
    if table is not None and (days is not None or fluxnet is None):
        if days is None:
            raise UserError(f"{table.file}: no rows of {tower.name}")
        _write(judge_days(days, gpp), output)
        return table.file.name
    assert fluxnet is not None
    records, files = read_tower(fluxnet, tower.name, gpp.fluxes)
    _write(judge_days(join_records(records), gpp), output)
    return files


def _write(table: pd.DataFrame, output: Path) -> None:
    with atomic_path(output) as partial:
        table.to_csv(partial, lineterminator="\n", date_format="%Y-%m-%d")


def join_records(records: list[pd.DataFrame]) -> pd.DataFrame:
    """Join the records of one site, as `read_daily` returns them, to one row per day.

    Of several rows of a day a measured one is preferred to an empty one, then the record that
    ends later (a later release processes the earlier years anew), then the better quality.
    """
    ordered = sorted(records, key=lambda record: record.index.max())
    joined = pd.concat([record.assign(rank=rank) for rank, record in enumerate(ordered)])
    joined["measured"] = joined["gpp"].notna()
    joined = joined.rename_axis("date").reset_index()
    joined = joined.sort_values(
        ["date", "measured", "rank", "quality"], kind="stable", na_position="first"
    )
    best = joined.drop_duplicates("date", keep="last").set_index("date")
    return best.drop(columns=["measured", "rank"])


def judge_days(days: pd.DataFrame, gpp: FluxTowers) -> pd.DataFrame:
    """Every day of the period, ``kept`` if its quality suffices and its GPP is not negative."""
    table = days.reindex(pd.date_range(gpp.period.start, gpp.period.end, name="date"))
    table["kept"] = (table["quality"] >= gpp.fluxes.min_quality) & (table["gpp"] >= 0)
    return table


def read_targets(path: Path) -> pd.DataFrame:
    """Read what `write_targets` wrote, by ``date``."""
    table = pd.read_csv(path, parse_dates=["date"], index_col="date")
    return table.astype(dict.fromkeys(table.columns.drop("kept"), np.float64))


def describe_site(targets: pd.DataFrame, fluxes: Fluxes) -> dict[str, Any]:
    """A site's days and whether it is used.

    Returns the ``days`` of the period, those ``measured``, ``good`` and ``kept``, the
    ``good_fraction`` of the measured days (the paper selects sites by "more than 60 % of the
    remaining GPP observations"; 0 where nothing was measured), mean and maximum GPP of the kept
    days (None without any), ``used``, and the ``reason`` where it is not.
    """
    kept = targets.loc[targets["kept"], "gpp"]
    measured = targets["gpp"].notna()
    good = measured & (targets["quality"] >= fluxes.min_quality)
    share = float(good.sum() / measured.sum()) if measured.any() else 0.0
    reason = None
    if not measured.any():
        reason = "no measured day in the period"
    elif share <= fluxes.min_good_days:
        reason = f"{share:.0%} good days, not more than {fluxes.min_good_days:.0%}"
    elif not kept.size:
        reason = "no good day whose GPP is not negative"
    return {
        "days": len(targets),
        "measured": int(measured.sum()),
        "good": int(good.sum()),
        "kept": len(kept),
        "good_fraction": share,
        "mean_gpp": float(kept.mean()) if len(kept) else None,
        "max_gpp": float(kept.max()) if len(kept) else None,
        "used": reason is None,
        "reason": reason,
    }


def read_sites(path: Path) -> pd.DataFrame:
    """Read the table of towers that `write_all_targets` wrote, by ``site``."""
    table = pd.read_csv(
        path,
        index_col="site",
        dtype={"site": str, "vegetation": str},
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
    )
    return table.astype({"used": bool})
