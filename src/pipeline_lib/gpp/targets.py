"""Measured GPP of flux towers, day by day, and which towers are compared with."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline_lib.config import Gpp, Tower
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import atomic_path, write_csv
from pipeline_lib.gpp.fluxnet import MOST_COLUMNS, ODD, find_daily, read_daily


def join_records(records: list[pd.DataFrame]) -> pd.DataFrame:
    """Join the records of one site, one row per day.

    Of several rows of a day a measured one goes before an empty one, then the record that
    ends later (a later release processes the earlier years anew), then the better quality.

    Parameters
    ----------
    records
        Tables as :func:`read_daily` returns them.
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


def judge_days(days: pd.DataFrame, gpp: Gpp) -> pd.DataFrame:
    """Every day of the period, with what was measured and whether it is kept.

    Parameters
    ----------
    days
        One row per day: ``gpp``, ``quality``, weather, by date.
    gpp
        Names the period and the least quality.

    Returns
    -------
    DataFrame
        The same and ``kept`` by ``date``. Kept: quality of at least ``min_quality`` and GPP not
        negative.
    """
    period = pd.date_range(gpp.period.start, gpp.period.end, name="date")
    table = days.reindex(period)
    table["kept"] = (table["quality"] >= gpp.min_quality) & (table["gpp"] >= 0)
    return table


def good_share(targets: pd.DataFrame, min_quality: float) -> float:
    """Share of the days with measured GPP whose quality is at least ``min_quality``.

    The paper selects sites by "more than 60 % of the remaining GPP observations"; days
    without GPP are no observations, so they count neither way. 0 where nothing was measured.
    """
    measured = targets["gpp"].notna()
    good = measured & (targets["quality"] >= min_quality)
    return float(good.sum() / measured.sum()) if measured.any() else 0.0


def is_selected(targets: pd.DataFrame, gpp: Gpp) -> bool:
    """Whether a site has more than ``min_good_days`` of good days and any day that is kept."""
    share = good_share(targets, gpp.min_quality)
    return share > gpp.min_good_days and bool(targets["kept"].any())


def write_targets(*, tower: Tower, gpp: Gpp, fluxnet: Path, output: Path) -> None:
    """Write a tower's measured GPP for every day of the period.

    Parameters
    ----------
    tower
        The tower.
    gpp
        Names the period and the least quality.
    fluxnet
        Folder with daily files, which may lie in folders below it or in zip archives.
    output
        CSV: ``date``, ``gpp`` (g C m-2 d-1), ``quality`` (0..1), weather (W m-2, degrees C),
        ``kept``.

    Raises
    ------
    UserError
        If the tower has no daily file, or one of them is refused by :func:`read_daily`.
    """
    records = [read_daily(source, gpp.weather) for source in find_daily(fluxnet, tower.name)]
    table = judge_days(join_records(records), gpp)
    with atomic_path(output) as partial:
        table.to_csv(partial, lineterminator="\n", date_format="%Y-%m-%d")


def read_targets(path: Path) -> pd.DataFrame:
    """Read what :func:`write_targets` wrote, by ``date``.

    Raises
    ------
    UserError
        If the file was damaged or edited into something else.
    """
    try:
        text = path.read_text()
        if ODD.search(text) or text.partition("\n")[0].count(",") > MOST_COLUMNS:
            raise ValueError("no table of numbers")
        table = pd.read_csv(io.StringIO(text), parse_dates=["date"], index_col="date")
        table = table.astype(dict.fromkeys(table.columns.drop("kept"), np.float64))
        whole = table["kept"].dtype == np.bool_ and {"gpp", "quality"} <= set(table.columns)
        steps = pd.DatetimeIndex(table.index).to_series().diff().dropna()
        if not whole or table.index.hasnans or (steps != pd.Timedelta(days=1)).any():
            raise ValueError("not one row per day")
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{path}: damaged or edited ({in_a_line(error)}); delete it and run again"
        ) from error
    return table


def describe_site(targets: pd.DataFrame, gpp: Gpp) -> dict[str, Any]:
    """A site's days and whether it is used.

    Parameters
    ----------
    targets
        ``gpp``, ``quality``, ``kept`` for every day of the period.
    gpp
        The rules of selection.

    Returns
    -------
    dict
        ``days`` of the period, those ``measured``, ``good`` and ``kept``, the ``good_share``
        of the measured, mean and maximum GPP of the kept (None without any), ``used``, and
        the ``reason`` where it is not.
    """
    kept = targets.loc[targets["kept"], "gpp"]
    share = good_share(targets, gpp.min_quality)
    measured = targets["gpp"].notna()
    used = is_selected(targets, gpp)
    reason = None
    if not measured.any():
        reason = "no measured day in the period"
    elif not kept.size:
        reason = "no good day whose GPP is not negative"
    elif not used:
        reason = f"{share:.0%} good days, more than {gpp.min_good_days:.0%} are asked for"
    return {
        "days": len(targets),
        "measured": int(measured.sum()),
        "good": int((measured & (targets["quality"] >= gpp.min_quality)).sum()),
        "kept": len(kept),
        "good_share": share,
        "mean_gpp": float(kept.mean()) if len(kept) else None,
        "max_gpp": float(kept.max()) if len(kept) else None,
        "used": used,
        "reason": reason,
    }


def describe_sites(gpp: Gpp, targets: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Every tower's place and what `describe_site` tells of it, by name.

    Parameters
    ----------
    gpp
        Towers and the rules of selection.
    targets
        Tower -> file written by `write_targets`.
    """
    return {
        tower.name: tower.model_dump(include={"lon", "lat", "vegetation"})
        | describe_site(read_targets(targets[tower.name]), gpp)
        for tower in gpp.towers
    }


def write_site_table(*, gpp: Gpp, targets: Mapping[str, Path], output: Path) -> str:
    """Write which towers are compared with, and why; the same as text to be shown.

    Parameters
    ----------
    gpp, targets
        As in `describe_sites`.
    output
        CSV: ``site``, ``lon``, ``lat``, ``vegetation``, and what `describe_site` returns.
    """
    rows = [{"site": site} | about for site, about in describe_sites(gpp, targets).items()]
    write_csv(output, rows)
    return pd.DataFrame(rows).to_string(index=False, float_format="%.4g")
