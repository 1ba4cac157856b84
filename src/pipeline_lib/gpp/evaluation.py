"""Evaluation of GPP predicted from embeddings: reads the towers' tables, writes the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.config import Gpp
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, write_json
from pipeline_lib.gpp.experiments import (
    climatology_by_year,
    climatology_left_out,
    predict_by_year,
    predict_left_out,
)
from pipeline_lib.gpp.fluxnet import GPP_UNITS, good_share, is_selected, read_targets
from pipeline_lib.gpp.metrics import DEFINITIONS, agreement, agreement_by_group
from pipeline_lib.gpp.series import read_series
from pipeline_lib.gpp.windows import (
    SPANNING,
    TRAINING,
    VALIDATION,
    Windows,
    cut_windows,
    part_of,
)

PAPER = {
    TRAINING: {"nrmse": 0.0917, "rmse": 3.09},
    VALIDATION: {"nrmse": 0.0958, "rmse": 4.40},
    "note": "By year, nine sites. The text does not define its NRMSE; RMSE / NRMSE implies ranges "
    "of 33.7 and 45.9 g C m-2 d-1, so it may be defined otherwise than here.",
}


def evaluate_gpp(
    *,
    gpp: Gpp,
    seed: int,
    targets: Mapping[str, Path],
    series: Mapping[str, Path],
    metrics: Path,
    predictions: Path,
) -> None:
    """Evaluate GPP predicted from embeddings, beside a climatology.

    Parameters
    ----------
    gpp
        Towers, windows, split and regressor.
    seed
        Seed of everything that is drawn.
    targets, series
        Tower -> file written by ``write_targets`` and by ``write_series``.
    metrics
        JSON: each site's days and whether it is used; agreement by year and with each site
        left out, of the regressor and of the climatology; the paper's figures.
    predictions
        CSV, a row per window: ``site``, ``vegetation``, ``date`` (its last day), ``split``
        (``spanning`` windows touch both parts; none learns from them and none is scored),
        ``observed``, ``predicted`` (mean over seeds), ``spread`` (standard deviation over
        seeds; empty for a single one), ``climatology``, ``left_out`` (by a regressor that
        saw nothing of the site), ``left_out_climatology``. GPP in g C m-2 d-1.

    Raises
    ------
    UserError
        If no site is selected, or a part of the split has too few windows.
    """
    vegetation = {tower.name: tower.vegetation for tower in gpp.towers if tower.name in targets}
    days = {site: read_targets(targets[site]) for site in sorted(vegetation)}
    used = {site: table for site, table in days.items() if is_selected(table, gpp)}
    if not used:
        raise UserError(
            "gpp: no tower has enough good days in the period; "
            "mend gpp.period, gpp.min_quality or gpp.min_good_days"
        )
    windows = Windows.join(
        [
            cut_windows(
                site=site,
                series=read_series(series[site]),
                targets=table,
                window_days=gpp.window_days,
                stride_days=gpp.stride_days,
            )
            for site, table in used.items()
        ]
    )
    part = part_of(windows, gpp.validation_years)
    if not (part == VALIDATION).any():
        raise UserError(
            "gpp: no window lies wholly in the validation years; "
            "mend gpp.validation_years, gpp.window_days or gpp.max_gap_days"
        )
    by_seed = predict_by_year(windows, part, gpp=gpp, seed=seed)
    table = pd.DataFrame(
        {
            "site": windows.site,
            "vegetation": [vegetation[site] for site in windows.site],
            "date": windows.end,
            "split": part,
            "observed": windows.target.astype(np.float64),
            "predicted": by_seed.mean(axis=0),
            "spread": by_seed.std(axis=0, ddof=1) if len(by_seed) > 1 else np.nan,
            "climatology": climatology_by_year(windows, used, vegetation=vegetation, gpp=gpp),
            "left_out": predict_left_out(windows, gpp=gpp, seed=seed),
            "left_out_climatology": climatology_left_out(windows, used, vegetation=vegetation),
        }
    )
    write_json(
        metrics,
        {
            "units": GPP_UNITS,
            "definitions": DEFINITIONS,
            "paper": PAPER,
            "sites": {
                site: {"vegetation": vegetation[site]}
                | describe_site(days[site], gpp)
                | {"windows": _count(part[windows.site == site])}
                for site in days
            },
            "windows": _count(part),
            "by_year": {
                "regressor": _score_parts(table, "predicted"),
                "climatology": _score_parts(table, "climatology"),
                "regressor_by_seed": [
                    {
                        name: agreement(windows.target[part == name], one[part == name])
                        for name in (TRAINING, VALIDATION)
                    }
                    for one in by_seed
                ],
            },
            "leave_one_site_out": {
                "regressor": _score(table, "left_out"),
                "climatology": _score(table, "left_out_climatology"),
            },
        },
    )
    with atomic_path(predictions) as partial:
        table.to_csv(
            partial,
            index=False,
            lineterminator="\n",
            date_format="%Y-%m-%d",
            float_format="%.6g",
        )


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


def _count(part: NDArray[np.str_]) -> dict[str, int]:
    return {name: int((part == name).sum()) for name in (TRAINING, VALIDATION, SPANNING)}


def _score_parts(table: pd.DataFrame, column: str) -> dict[str, Any]:
    return {name: _score(table[table["split"] == name], column) for name in (TRAINING, VALIDATION)}


def _score(table: pd.DataFrame, column: str) -> dict[str, Any]:
    known = table[table[column].notna()]
    return agreement_by_group(
        known["observed"].to_numpy(np.float64),
        known[column].to_numpy(np.float64),
        site=known["site"].to_numpy(str),
        vegetation=known["vegetation"].to_numpy(str),
    )
