"""Sentences and tables of the GPP comparison, from ``gpp/metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline_lib.gpp.methods import LEAVE_ONE_SITE_OUT, SCHEMES, TEMPORAL_HOLDOUT
from pipeline_lib.report.tables import NONE, Table, number

UNITS = "g C m⁻² d⁻¹"
_AGREEMENT = {
    "n": "days",
    "rmse": f"RMSE, {UNITS}",
    "nrmse": "NRMSE",
    "r2": "R²",
    "bias": f"bias, {UNITS}",
}
_METHOD = ("inputs", "regressor")
_GROUPS = {"vegetation": "vegetation type", "site": "site"}
_DAYS = {
    TEMPORAL_HOLDOUT: "the validation years (temporal holdout)",
    LEAVE_ONE_SITE_OUT: "left-out sites (leave-one-site-out)",
}

Metrics = Mapping[str, Any]


def gpp_tables(metrics: Metrics) -> dict[str, list[Table]]:
    """Tables of each section on GPP, by the section's anchor."""
    tables = {
        "towers": [_site_table(metrics)],
        "gpp": [
            _paper_table(metrics),
            *_method_tables(metrics, TEMPORAL_HOLDOUT),
            _training_table(metrics),
        ],
        "places": _method_tables(metrics, LEAVE_ONE_SITE_OUT),
    }
    if metrics["lengths"]:
        tables["windows"] = [_length_table(pd.DataFrame(metrics["lengths"]))]
    if any("weather" in method for method in metrics["methods"]):
        tables["weather"] = [
            table for scheme in SCHEMES for table in _method_tables(metrics, scheme, weather=True)
        ]
    return tables


def scores_of(metrics: Metrics, scheme: str, part: str = "validation") -> pd.DataFrame:
    """Scores under a scheme, with the labels ``inputs`` and ``regressor`` of their methods.

    Without rows where there are no days.
    """
    scores = pd.DataFrame(metrics["scores"])
    scores = scores[(scores["scheme"] == scheme) & (scores["part"] == part) & (scores["n"] > 0)]
    labels = scores["method"].map({name: one["label"] for name, one in metrics["methods"].items()})
    return scores.assign(inputs=labels.str[0], regressor=labels.str[1])


def papers_scores(metrics: Metrics, part: str) -> dict[str, Any]:
    """Scores of the paper's method in the temporal holdout, all sites together."""
    scores = scores_of(metrics, TEMPORAL_HOLDOUT, part).query("by == 'all'").set_index("method")
    papers = metrics["difference"]["method"]
    return dict(scores.loc[papers]) if papers in scores.index else {}


def verdict(metrics: Metrics, scheme: str) -> tuple[str, ...]:
    """Whether embeddings beat the bands they were made from, and which method is the best.

    ``scheme`` is ``temporal_holdout`` or ``leave_one_site_out``.
    """
    difference = metrics["difference"].get(scheme)
    if difference is None:
        return ("No day can be scored: more sites or longer series are needed.",)
    scored = scores_of(metrics, scheme).query("by == 'all'").set_index("method")
    scored = scored[~scored.index.str.contains("weather")]
    own, baseline = (scored.loc[metrics["difference"][key]] for key in ("method", "baseline"))
    low, high = difference["low"], difference["high"]
    if not max(own["r2"], baseline["r2"]) > 0:
        judged = "neither is better than the mean of the observed GPP"
    elif high < 0:
        judged = "the embeddings beat the bands that they were made from"
    elif low > 0:
        judged = "the embeddings do not reach the bands that they were made from"
    else:
        judged = "this may be chance"
    first = (
        f"With the paper's regressor, embeddings have {_error(own)}, the bands of all sensors "
        f"{_error(baseline)}. The difference in RMSE is {_signed(difference['rmse'])} {UNITS}, "
        f"with a 90 % interval of {_signed(low)} to {_signed(high)} (bootstrap over fits and over "
        f"the months of each site): {judged}."
    )
    best = scored.sort_values("rmse", kind="stable").iloc[0]
    if best.name == own.name:
        return first, "No other method without weather has a smaller error."
    return first, (
        f"Of all methods without weather, {best['inputs']} by {best['regressor']} has the smallest "
        f"error, {_error(best)}."
    )


def _error(scores: pd.Series[Any]) -> str:
    return f"an RMSE of {number(scores['rmse'])} {UNITS} (R² {_signed(scores['r2'])})"


def _signed(value: float) -> str:
    return NONE if pd.isna(value) else f"{value:.2f}".replace("-", "−")


def look_ahead(metrics: Metrics) -> str:
    """How far the inputs look ahead of the day whose GPP is predicted."""
    days = metrics["look_ahead_days"]
    own = days["embedding"]
    others = [ahead for source, ahead in days.items() if source != "embedding" and ahead]
    if own is None or not others:
        return ""
    return (
        "These are no forecasts: the context of an embedding reaches to images "
        f"{number(own)} days later (median), while interpolated bands use only the next image, "
        f"up to {number(max(others))} days later. The comparison includes this difference."
    )


def _site_table(metrics: Metrics) -> Table:
    """The towers, their days, and whether they are used."""
    return Table.of(
        "Towers, their days in the period, and whether they are used. Good: measured with "
        "sufficient quality; kept: good, and GPP not negative; good fraction: of the measured "
        "days.",
        (
            {
                "site": site["site"],
                "vegetation": site["vegetation"],
                "used": "yes" if site["used"] else site["reason"],
                "files": site["files"],
                "longitude, °": f"{site['lon']:.4f}",
                "latitude, °": f"{site['lat']:.4f}",
                "days measured": site["measured"],
                "good": site["good"],
                "kept": site["kept"],
                "good fraction": f"{100 * site['good_fraction']:.0f} %",
                f"mean GPP, {UNITS}": site["mean_gpp"],
                f"maximum, {UNITS}": site["max_gpp"],
            }
            for site in metrics["sites"]
        ),
        words=4,
    )


def _method_tables(metrics: Metrics, scheme: str, *, weather: bool = False) -> list[Table]:
    """Agreement of the methods with or without weather under a scheme: overall, and by group."""
    scores = scores_of(metrics, scheme)
    scores = scores[scores["method"].str.contains("weather") == weather]
    if scores.empty:
        return []
    overall = Table.of(
        f"Daily GPP of {_DAYS[scheme]}, all sites{_dates(scores)}. Agreement of the mean over the "
        "fits; mean and standard deviation of the RMSE of single fits.",
        _with_fits(scores, *_METHOD),
        words=2,
    )
    grouped = scores.sort_values("group", kind="stable")
    groups = (
        Table.of(
            f"Daily GPP of {_DAYS[scheme]}, by {label}.",
            _records(grouped.rename(columns={"group": label}), by, label, *_METHOD),
            words=3,
            folded=True,
        )
        for by, label in _GROUPS.items()
    )
    tails = Table.of(
        f"Daily GPP of {_DAYS[scheme]}, the days at or below the 5th (low) and at or above the "
        "95th percentile (high) of the observed GPP of all sites. Selected by what was observed, "
        "they are predicted too high and too low by any method that has an error.",
        _tails(scores),
        words=3,
        folded=True,
    )
    return [overall, tails, *groups]


def _tails(scores: pd.DataFrame) -> list[dict[Any, Any]]:
    """Days, sites, RMSE and bias of each method in the tails, whose own variance is small."""
    own = scores[scores["by"] == "tail"].sort_values("group", kind="stable", ascending=False)
    columns = {"group": "tail", **{name: name for name in _METHOD}, "n": "days", "sites": "sites"}
    columns |= {name: _AGREEMENT[name] for name in ("rmse", "bias")}
    return own[list(columns)].rename(columns=columns).to_dict("records")


def _dates(scores: pd.DataFrame) -> str:
    return f", {scores['first'].min()} to {scores['last'].max()}"


def _records(scores: pd.DataFrame, by: str, *columns: str) -> list[dict[Any, Any]]:
    """A record per score of a kind of group: some of its columns, then the agreement."""
    own = scores.loc[scores["by"] == by, [*columns, *_AGREEMENT]]
    return own.rename(columns=_AGREEMENT).to_dict("records")


def _with_fits(scores: pd.DataFrame, *columns: str) -> list[dict[Any, Any]]:
    """A record for all sites of each value of some columns, and the spread over its fits."""
    records = _records(scores, "all", *columns)
    fits = scores[scores["by"] == "fit"].groupby(list(columns))["rmse"]
    for record in records:
        errors = fits.get_group(tuple(record[name] for name in columns))
        several = f"{number(errors.mean())} ± {number(errors.std(), 2)}"
        record |= {"RMSE of fits": several if len(errors) > 1 else NONE, "fits": len(errors)}
    return records


def _length_table(scores: pd.DataFrame) -> Table:
    """Agreement by length of the window, on the days that all lengths predict."""
    scores = scores.rename(columns={"window_days": "window, days"})
    return Table.of(
        "Daily GPP of the validation years by length of the window, on the days that all "
        f"lengths predict{_dates(scores)}.",
        _with_fits(
            scores.rename(columns={"window_days": "window, days"}), "inputs", "window, days"
        ),
        words=1,
    )


def _paper_table(metrics: Metrics) -> Table:
    """The paper's regressor in this run beside the paper's own figures, temporal holdout."""
    own = {part: papers_scores(metrics, part) for part in ("training", "validation")}
    validation = own["validation"]
    dates = f", {validation['first']} to {validation['last']}" if validation else ""
    return Table.of(
        "The paper's regressor on embeddings, temporal holdout: this run beside the paper (nine "
        f"towers, 2017 to 2019 and 2020). Validation days of this run{dates}. RMSE in {UNITS}; "
        "NRMSE here: RMSE / (maximum - minimum of the observed). The paper does not define its "
        "own; its figures imply ranges of 34 and 46, while nine towers of FLUXNET2015 reach at "
        "most 11 to 27.",
        (
            {
                "years": part,
                "RMSE": scores.get("rmse"),
                "RMSE of the paper": metrics["paper"][part]["rmse"],
                "NRMSE": scores.get("nrmse"),
                "NRMSE of the paper": metrics["paper"][part]["nrmse"],
            }
            for part, scores in own.items()
        ),
    )


def _training_table(metrics: Metrics) -> Table:
    """Agreement of the methods on the training years."""
    return Table.of(
        "The same for the training years; the methods were fitted to the days on the stride of "
        "the windows, about every tenth.",
        _records(scores_of(metrics, TEMPORAL_HOLDOUT, "training"), "all", *_METHOD),
        words=2,
        folded=True,
    )
