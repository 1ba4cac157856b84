"""What GPP is predicted from, by which models, and how that is validated; read by the rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline_lib.config import Windowing

EMBEDDING, BANDS, YEARLY = "embedding", "bands", "yearly"
SEASON, WEATHER = "season", "weather"
NIRV, KNDVI = "NIRv", "kNDVI"
INPUTS = {
    EMBEDDING: "embeddings",
    BANDS: "bands of all sensors",
    NIRV: NIRV,
    KNDVI: KNDVI,
    YEARLY: "yearly mean embedding",
    SEASON: "day of year",
    WEATHER: "weather",
}
"""What GPP is predicted from: name -> label; a table of features has its own name as label. Names
joined by ``+`` are inputs side by side."""

INDEX_BANDS = ("B04", "B08")
"""Red and near infrared, by their names at Sentinel-2, of which NIRv and kNDVI are made."""

TRANSFORMER, RIDGE, BOOSTING = "transformer", "ridge", "boosting"
REGRESSORS = {
    TRANSFORMER: "transformer",
    RIDGE: "ridge regression",
    BOOSTING: "gradient boosting",
}
"""Models that map the inputs to GPP: name -> label."""

CLIMATOLOGY = "climatology"
PAPERS = f"{EMBEDDING}-{TRANSFORMER}"
"""The paper's method."""
BASELINE = f"{BANDS}-{TRANSFORMER}"
"""What it has to beat: the same regressor on the bands that the embeddings were made from."""

TEMPORAL_HOLDOUT, LEAVE_ONE_SITE_OUT = "temporal_holdout", "leave_one_site_out"
SCHEMES = (TEMPORAL_HOLDOUT, LEAVE_ONE_SITE_OUT)
"""Fitted on the training years, or on all years of the other sites."""


@dataclass(frozen=True)
class Experiment:
    """Inputs, a regressor, the length of its windows in days, and the validation schemes."""

    inputs: str
    regressor: str
    days: int
    schemes: tuple[str, ...] = SCHEMES

    @property
    def method(self) -> str:
        """Name of the method, ``<inputs>-<regressor>`` or ``climatology``."""
        return f"{self.inputs}-{self.regressor}" if self.inputs else self.regressor

    @property
    def file(self) -> str:
        """Name of the file of its predictions."""
        if self.regressor == TRANSFORMER:
            return f"transformer/{self.inputs}-{self.days}.csv"
        return f"baselines/{self.method}.csv"


def experiments(
    windows: Windowing,
    *,
    weather: bool,
    indices: bool,
    cubes: bool = True,
    tables: Sequence[str] = (),
) -> list[Experiment]:
    """All experiments, with or without weather and vegetation indices among the inputs.

    ``cubes`` says whether there are embeddings and bands, ``tables`` names tables of features. A
    single day is no sequence, so windows of one day have no transformer.
    """
    days = windows.length_days
    papers = [*([EMBEDDING, BANDS] if cubes else []), *(one for one in tables if one != WEATHER)]
    with_weather = [f"{name}+{WEATHER}" for name in papers] + [WEATHER] if weather else []
    # A yearly mean has no date, so its regressor needs the season; then so do the others.
    with_season = [f"{name}+{SEASON}" for name in papers]
    with_season += [f"{YEARLY}+{SEASON}"] if cubes else [SEASON, *with_weather]
    simple = [*papers, *([NIRV, KNDVI] if indices else []), *with_season]
    sequences = papers + with_weather if days > 1 else []
    return [
        *(Experiment(inputs, TRANSFORMER, days) for inputs in sequences),
        *(
            Experiment(inputs, TRANSFORMER, other, (TEMPORAL_HOLDOUT,))
            for inputs in sequences[: len(papers)]
            for other in windows.other_lengths_days
        ),
        Experiment("", CLIMATOLOGY, days),
        *(Experiment(inputs, model, days) for inputs in simple for model in (RIDGE, BOOSTING)),
    ]


def compared_pair(methods: Sequence[str]) -> tuple[str, str]:
    """The method in question, and the baseline that it is compared with.

    Without embeddings: the first regressor of the first table, and the climatology.
    """
    if PAPERS in methods:
        return PAPERS, BASELINE
    return next(one for one in methods if one != CLIMATOLOGY), CLIMATOLOGY


def has_indices(bands: Iterable[str]) -> bool:
    """Whether a sensor with these bands gives the vegetation indices."""
    return set(INDEX_BANDS) <= set(bands)


def label_of(method: str) -> tuple[str, str]:
    """Inputs and regressor of a method, in words."""
    inputs, _, regressor = method.rpartition("-")
    if not inputs:
        return "day of year and vegetation type", method
    return " + ".join(INPUTS.get(name, name) for name in inputs.split("+")), REGRESSORS[regressor]
