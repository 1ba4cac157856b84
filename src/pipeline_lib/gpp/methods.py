"""What GPP is predicted from, by which models, and how that is validated; read by the rules."""

from __future__ import annotations

from collections.abc import Iterable
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
"""What GPP is predicted from: name -> label. Names joined by ``+`` are inputs side by side."""

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


def experiments(windows: Windowing, *, weather: bool, indices: bool) -> list[Experiment]:
    """All experiments, with or without weather and vegetation indices among the inputs."""
    days = windows.length_days
    papers = [EMBEDDING, BANDS]
    with_weather = [f"{name}+{WEATHER}" for name in papers] + [WEATHER] if weather else []
    # A yearly mean has no date, so its regressor needs the season; then so do the others.
    with_season = [f"{name}+{SEASON}" for name in (EMBEDDING, BANDS, YEARLY)]
    simple = [*papers, *([NIRV, KNDVI] if indices else []), *with_season]
    return [
        *(Experiment(inputs, TRANSFORMER, days) for inputs in papers + with_weather),
        *(
            Experiment(inputs, TRANSFORMER, other, (TEMPORAL_HOLDOUT,))
            for inputs in papers
            for other in windows.other_lengths_days
        ),
        Experiment("", CLIMATOLOGY, days),
        *(Experiment(inputs, model, days) for inputs in simple for model in (RIDGE, BOOSTING)),
    ]


def has_indices(bands: Iterable[str]) -> bool:
    """Whether a sensor with these bands gives the vegetation indices."""
    return set(INDEX_BANDS) <= set(bands)


def label_of(method: str) -> tuple[str, str]:
    """Inputs and regressor of a method, in words."""
    inputs, _, regressor = method.rpartition("-")
    if not inputs:
        return "day of year and vegetation type", method
    return " + ".join(INPUTS[name] for name in inputs.split("+")), REGRESSORS[regressor]
