"""Names of the methods that GPP is predicted by; light, since the workflow's rules read it."""

from __future__ import annotations

from collections.abc import Iterable

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
"""What GPP is predicted from: name -> words. Names joined by ``+`` are inputs side by side."""

INDEX_BANDS = ("B04", "B08")
"""Red and near infrared, by their names at Sentinel-2, which NIRv and kNDVI are made from."""

TRANSFORMER, RIDGE, BOOSTING = "transformer", "ridge", "boosting"
READERS = {
    TRANSFORMER: "transformer",
    RIDGE: "ridge regression",
    BOOSTING: "gradient boosting",
}
"""What reads GPP from the inputs: name -> words."""

CLIMATOLOGY = "climatology"
PAPERS = f"{EMBEDDING}-{TRANSFORMER}"
"""The paper's method."""
RIVAL = f"{BANDS}-{TRANSFORMER}"
"""The method it has to beat: what the embeddings were made from, by the same regressor."""


def regressed_inputs(*, weather: bool) -> list[str]:
    """Inputs of the paper's regressor, with or without those that hold weather."""
    inputs = [EMBEDDING, BANDS]
    return inputs + ([f"{name}+{WEATHER}" for name in inputs] + [WEATHER] if weather else [])


def has_indices(bands: Iterable[str]) -> bool:
    """Whether a sensor with these bands tells the indices of vegetation."""
    return set(INDEX_BANDS) <= set(bands)


def compared_inputs(*, indices: bool) -> list[str]:
    """Inputs of the simple readers, with or without the indices of vegetation."""
    told = [NIRV, KNDVI] if indices else []
    # A yearly mean knows no date, so a reader of it needs the calendar; then so shall the others.
    with_calendar = [f"{name}+{SEASON}" for name in (EMBEDDING, BANDS, YEARLY)]
    return [EMBEDDING, BANDS, *told, *with_calendar]


def baselines(*, indices: bool) -> list[str]:
    """Methods besides the paper's regressor."""
    inputs = compared_inputs(indices=indices)
    return [CLIMATOLOGY, *(f"{name}-{reader}" for name in inputs for reader in (RIDGE, BOOSTING))]


def told_method(method: str) -> tuple[str, str]:
    """Inputs and reader of a method, in words."""
    inputs, _, reader = method.rpartition("-")
    if not inputs:
        return "day of year and vegetation type", method
    return " + ".join(INPUTS[name] for name in inputs.split("+")), READERS[reader]
