"""What the comparison with GPP found, as sentences and tables, from ``gpp/metrics.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline_lib.report.tables import Table, number

BY_YEAR, LEFT_OUT = "by_year", "left_out"
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

Metrics = Mapping[str, Any]


def with_weather(metrics: Metrics) -> bool:
    """Whether weather was tried as a further input."""
    return any(_has_weather(about) for about in metrics["methods"].values())


def _has_weather(about: Mapping[str, Any]) -> bool:
    return "weather" in about["inputs"]


def _scored(metrics: Metrics, design: str, *, weather: bool) -> dict[str, Mapping[str, Any]]:
    """Method -> what is known of it and its scores in a design, of those that have any."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, about in metrics["methods"].items():
        scores = about[design]["validation"] if design == BY_YEAR else about[design]
        if _has_weather(about) == weather and scores["overall"]["rmse"] is not None:
            found[name] = {**about, "scores": scores}
    return found


def verdict(metrics: Metrics, design: str) -> tuple[str, ...]:
    """Whether the embeddings beat what they were made from, and what does better than they.

    Parameters
    ----------
    metrics
        ``gpp/metrics.json``.
    design
        ``by_year`` or ``left_out``.
    """
    found = _scored(metrics, design, weather=False)
    difference = metrics["difference"].get(design)
    if difference is None:
        return ("There is nothing to score: another site, or longer series, are needed.",)
    own, rival = (found[metrics["difference"][key]] for key in ("of", "from"))
    low, high = difference["low"], difference["high"]
    if max(one["scores"]["overall"]["r2"] or 0 for one in (own, rival)) <= 0:
        judged = "neither tells more than the mean of the observed GPP"
    elif high < 0:
        judged = "the embeddings beat the bands that they were made from"
    elif low > 0:
        judged = "the embeddings do not reach the bands that they were made from"
    else:
        judged = "that may be chance"
    first = (
        f"By the paper's regressor, embeddings give {_told(own)}, the bands of all sensors "
        f"{_told(rival)}. The difference of the RMSE is {_signed(difference['rmse'])} {UNITS}, "
        f"between {_signed(low)} and {_signed(high)} in 90 % of resamplings of the fits and of the "
        f"months of each site: {judged}."
    )
    error = {name: one["scores"]["overall"]["rmse"] for name, one in found.items()}
    best = min(error, key=lambda name: error[name])
    second = (
        f"Of all methods without weather, {' by '.join(found[best]['words'])} has the smallest "
        f"error, {_told(found[best])}."
        if best != metrics["difference"]["of"]
        else "No other method without weather has a smaller error."
    )
    return first, second


def _told(one: Mapping[str, Any]) -> str:
    scores = one["scores"]["overall"]
    return f"an RMSE of {number(scores['rmse'])} {UNITS} (R² {_signed(scores['r2'], 2)})"


def _signed(value: float | None, digits: int = 2) -> str:
    return _NONE if value is None else f"{value:.{digits}f}".replace("-", "−")


def look_ahead(metrics: Metrics) -> str:
    """How far the inputs look ahead of the day whose GPP they tell."""
    told = metrics["look_ahead_days"]
    own = told["embedding"]
    others = [days for source, days in told.items() if source != "embedding" and days is not None]
    if own is None or not others:
        return ""
    return (
        "None of this is a forecast: the context of an embedding reaches to images "
        f"{number(own)} days later (median), where interpolated bands know the next image alone, "
        f"up to {number(max(others))} days later. That is part of what the comparison compares."
    )


def site_table(metrics: Metrics) -> Table:
    """The towers, their days, and whether they are used."""
    return Table(
        caption="Towers, their days in the period, and whether they are used. Good: measured, of "
        "enough quality; kept: good, and GPP not negative; the share is that of the good days "
        "among those measured.",
        columns=(
            "site",
            "vegetation",
            "used",
            "longitude, °",
            "latitude, °",
            "days measured",
            "good",
            "kept",
            "good share",
            f"mean GPP, {UNITS}",
            f"maximum, {UNITS}",
        ),
        rows=tuple(
            (
                site,
                about["vegetation"],
                "yes" if about["used"] else about["reason"],
                f"{about['lon']:.4f}",
                f"{about['lat']:.4f}",
                number(about["measured"]),
                number(about["good"]),
                number(about["kept"]),
                f"{100 * about['good_share']:.0f} %",
                number(about["mean_gpp"]),
                number(about["max_gpp"]),
            )
            for site, about in metrics["sites"].items()
        ),
        words=3,
    )


def method_tables(metrics: Metrics, design: str, *, weather: bool = False) -> tuple[Table, ...]:
    """Agreement of the methods in a design: of all sites, and by group.

    Parameters
    ----------
    metrics
        ``gpp/metrics.json``.
    design
        ``by_year`` (the validation years) or ``left_out``.
    weather
        The methods that are given weather, or those that are not.
    """
    found = _scored(metrics, design, weather=weather)
    days = "the validation years" if design == BY_YEAR else "sites that were left out"
    dates = _dated(metrics["dates"]["validation" if design == BY_YEAR else LEFT_OUT])
    overall = Table(
        caption=f"Daily GPP on {days}, all sites{dates}. Agreement of the mean over the fits, and "
        "the standard deviation of the RMSE over single fits.",
        columns=("inputs", "reader", *_AGREEMENT.values(), "RMSE over fits", "fits"),
        rows=tuple(
            (*one["words"], *_agreement(one["scores"]["overall"]), *_over_fits(one["scores"]))
            for one in found.values()
        ),
        words=2,
    )
    if not found:
        return ()
    groups = tuple(
        Table(
            caption=f"Daily GPP on {days}, by {label}.",
            columns=(label, "inputs", "reader", *_AGREEMENT.values()),
            rows=tuple(_by_group(found, kind)),
            words=3,
            folded=True,
        )
        for kind, label in _GROUPS.items()
    )
    return overall, *groups


def _dated(dates: Sequence[str] | None) -> str:
    return "" if dates is None else f", {dates[0]} to {dates[1]}"


def _over_fits(scores: Mapping[str, Any]) -> tuple[str, str]:
    errors = [fit["rmse"] for fit in scores["by_fit"]]
    if len(errors) < 2:
        return _NONE, number(len(errors))
    mean = sum(errors) / len(errors)
    variance = sum((error - mean) ** 2 for error in errors) / (len(errors) - 1)
    return f"{number(mean)} ± {number(variance**0.5, 2)}", number(len(errors))


def _by_group(found: Mapping[str, Mapping[str, Any]], kind: str) -> Iterator[tuple[str, ...]]:
    groups = sorted({name for one in found.values() for name in one["scores"][kind]})
    for group in groups:
        for one in found.values():
            if group in one["scores"][kind]:
                yield group, *one["words"], *_agreement(one["scores"][kind][group])


def length_table(metrics: Metrics) -> Table:
    """Agreement by length of the window, on the days that all lengths predict."""
    dates = {
        _dated(one["dates"]) for found in metrics["lengths"].values() for one in found.values()
    }
    return Table(
        caption="Daily GPP on the validation years by length of the window, on the days that all "
        f"lengths predict{''.join(dates)}.",
        columns=("inputs", "window, days", *_AGREEMENT.values(), "RMSE over fits", "fits"),
        rows=tuple(
            (inputs, days, *_agreement(scores["overall"]), *_over_fits(scores))
            for inputs, found in metrics["lengths"].items()
            for days, scores in found.items()
        ),
        words=1,
    )


def paper_table(metrics: Metrics) -> Table:
    """The paper's regressor here, by year, beside what the paper reports of it."""
    own = metrics["methods"][metrics["difference"]["of"]][BY_YEAR]
    dates = metrics["dates"]["validation"]
    return Table(
        caption="The paper's regressor on embeddings, by year: this run beside the paper (nine "
        f"towers, 2017 to 2019 and 2020). Validation days of this run{_dated(dates)}. RMSE in "
        f"{UNITS}; NRMSE here: RMSE / (maximum - minimum "
        "of the observed). The paper does not define its own; its numbers imply ranges of 34 and "
        "46, where nine towers of FLUXNET2015 reach at most 11 to 27.",
        columns=("years", "RMSE", "RMSE of the paper", "NRMSE", "NRMSE of the paper"),
        rows=tuple(
            (
                split,
                number(own[split]["overall"]["rmse"]),
                number(metrics["paper"][split]["rmse"]),
                number(own[split]["overall"]["nrmse"]),
                number(metrics["paper"][split]["nrmse"]),
            )
            for split in ("training", "validation")
        ),
    )


def training_table(metrics: Metrics) -> Table:
    """What the methods reach on the years they learned from."""
    return Table(
        caption="The same on the training years; every tenth or so of these days was learned from, "
        "as the stride of the windows has it.",
        columns=("inputs", "reader", *_AGREEMENT.values()),
        rows=tuple(
            (*one["words"], *_agreement(one[BY_YEAR]["training"]["overall"]))
            for one in metrics["methods"].values()
        ),
        words=2,
        folded=True,
    )


def _agreement(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(number(values.get(key)) for key in _AGREEMENT)
