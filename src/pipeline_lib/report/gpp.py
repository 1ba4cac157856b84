"""Sentences and tables of the GPP comparison, from ``gpp/metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from pipeline_lib.gpp.methods import LEAVE_ONE_SITE_OUT, SCHEMES, TEMPORAL_HOLDOUT
from pipeline_lib.report.tables import Record, Table, number

UNITS = "g C m⁻² d⁻¹"
_NONE = "–"
_AGREEMENT = {
    "n": "days",
    "rmse": f"RMSE, {UNITS}",
    "nrmse": "NRMSE",
    "r2": "R²",
    "bias": f"bias, {UNITS}",
}
_GROUPS = {"per_vegetation": "vegetation type", "per_site": "site"}
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
        tables["windows"] = [_length_table(metrics)]
    if any(_has_weather(about) for about in metrics["methods"].values()):
        tables["weather"] = [
            table for scheme in SCHEMES for table in _method_tables(metrics, scheme, weather=True)
        ]
    return tables


def _has_weather(about: Mapping[str, Any]) -> bool:
    return "weather" in about["inputs"]


def _scored(metrics: Metrics, scheme: str, *, weather: bool) -> dict[str, Mapping[str, Any]]:
    """Method -> its entry and its scores under a scheme, of those that have any."""
    scored: dict[str, Mapping[str, Any]] = {}
    for name, about in metrics["methods"].items():
        scores = about[scheme]["validation"] if scheme == TEMPORAL_HOLDOUT else about[scheme]
        if _has_weather(about) == weather and scores["overall"]["rmse"] is not None:
            scored[name] = {**about, "scores": scores}
    return scored


def verdict(metrics: Metrics, scheme: str) -> tuple[str, ...]:
    """Whether embeddings beat the bands they were made from, and which method is the best.

    ``scheme`` is ``temporal_holdout`` or ``leave_one_site_out``.
    """
    scored = _scored(metrics, scheme, weather=False)
    difference = metrics["difference"].get(scheme)
    if difference is None:
        return ("No day can be scored: more sites or longer series are needed.",)
    own, baseline = (scored[metrics["difference"][key]] for key in ("method", "baseline"))
    low, high = difference["low"], difference["high"]
    if max(one["scores"]["overall"]["r2"] or 0 for one in (own, baseline)) <= 0:
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
    error = {name: one["scores"]["overall"]["rmse"] for name, one in scored.items()}
    best = min(error, key=lambda name: error[name])
    second = (
        f"Of all methods without weather, {' by '.join(scored[best]['label'])} has the smallest "
        f"error, {_error(scored[best])}."
        if best != metrics["difference"]["method"]
        else "No other method without weather has a smaller error."
    )
    return first, second


def _error(one: Mapping[str, Any]) -> str:
    scores = one["scores"]["overall"]
    return f"an RMSE of {number(scores['rmse'])} {UNITS} (R² {_signed(scores['r2'])})"


def _signed(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}".replace("-", "−")


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
                "site": site,
                "vegetation": about["vegetation"],
                "used": "yes" if about["used"] else about["reason"],
                "longitude, °": f"{about['lon']:.4f}",
                "latitude, °": f"{about['lat']:.4f}",
                "days measured": about["measured"],
                "good": about["good"],
                "kept": about["kept"],
                "good fraction": f"{100 * about['good_fraction']:.0f} %",
                f"mean GPP, {UNITS}": about["mean_gpp"],
                f"maximum, {UNITS}": about["max_gpp"],
            }
            for site, about in metrics["sites"].items()
        ),
        words=3,
    )


def _method_tables(metrics: Metrics, scheme: str, *, weather: bool = False) -> list[Table]:
    """Agreement of the methods with or without weather under a scheme: overall, and by group."""
    scored = list(_scored(metrics, scheme, weather=weather).values())
    if not scored:
        return []
    dates = _dated(metrics["dates"]["validation" if scheme == TEMPORAL_HOLDOUT else scheme])
    overall = Table.of(
        f"Daily GPP of {_DAYS[scheme]}, all sites{dates}. Agreement of the mean over the fits; "
        "mean and standard deviation of the RMSE of single fits.",
        (
            _method(one) | _agreement(one["scores"]["overall"]) | _over_fits(one["scores"])
            for one in scored
        ),
        words=2,
    )
    groups = (
        Table.of(
            f"Daily GPP of {_DAYS[scheme]}, by {label}.",
            (
                {label: group} | _method(one) | _agreement(one["scores"][kind][group])
                for group in sorted({g for one in scored for g in one["scores"][kind]})
                for one in scored
                if group in one["scores"][kind]
            ),
            words=3,
            folded=True,
        )
        for kind, label in _GROUPS.items()
    )
    return [overall, *groups]


def _dated(dates: Sequence[str] | None) -> str:
    return "" if dates is None else f", {dates[0]} to {dates[1]}"


def _method(one: Mapping[str, Any]) -> Record:
    return dict(zip(("inputs", "regressor"), one["label"], strict=True))


def _agreement(values: Mapping[str, Any]) -> Record:
    return {label: values.get(key) for key, label in _AGREEMENT.items()}


def _over_fits(scores: Mapping[str, Any]) -> Record:
    errors = [fit["rmse"] for fit in scores["by_fit"]]
    several = len(errors) > 1
    text = f"{number(mean(errors))} ± {number(stdev(errors), 2)}" if several else _NONE
    return {"RMSE of fits": text, "fits": len(errors)}


def _length_table(metrics: Metrics) -> Table:
    """Agreement by length of the window, on the days that all lengths predict."""
    rows = [
        ({"inputs": inputs, "window, days": days}, scores)
        for inputs, lengths in metrics["lengths"].items()
        for days, scores in lengths.items()
    ]
    dates = {_dated(scores["dates"]) for _, scores in rows}
    return Table.of(
        "Daily GPP of the validation years by length of the window, on the days that all "
        f"lengths predict{''.join(dates)}.",
        (one | _agreement(scores["overall"]) | _over_fits(scores) for one, scores in rows),
        words=1,
    )


def _paper_table(metrics: Metrics) -> Table:
    """The paper's regressor in this run beside the paper's own figures, temporal holdout."""
    own = metrics["methods"][metrics["difference"]["method"]][TEMPORAL_HOLDOUT]
    return Table.of(
        "The paper's regressor on embeddings, temporal holdout: this run beside the paper (nine "
        "towers, 2017 to 2019 and 2020). Validation days of this run"
        f"{_dated(metrics['dates']['validation'])}. RMSE in {UNITS}; NRMSE here: RMSE / (maximum "
        "- minimum of the observed). The paper does not define its own; its figures imply ranges "
        "of 34 and 46, while nine towers of FLUXNET2015 reach at most 11 to 27.",
        (
            {
                "years": part,
                "RMSE": own[part]["overall"]["rmse"],
                "RMSE of the paper": metrics["paper"][part]["rmse"],
                "NRMSE": own[part]["overall"]["nrmse"],
                "NRMSE of the paper": metrics["paper"][part]["nrmse"],
            }
            for part in ("training", "validation")
        ),
    )


def _training_table(metrics: Metrics) -> Table:
    """Agreement of the methods on the training years."""
    return Table.of(
        "The same for the training years; the methods were fitted to the days on the stride of "
        "the windows, about every tenth.",
        (
            _method(one) | _agreement(one[TEMPORAL_HOLDOUT]["training"]["overall"])
            for one in metrics["methods"].values()
        ),
        words=2,
        folded=True,
    )
