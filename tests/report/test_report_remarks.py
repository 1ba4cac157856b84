"""What stands at the head of a report: a sentence for each fault, and nothing without one."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.report.remarks import remarks


def errors(centre: float | None) -> dict[str, Any]:
    return {"centre_mae": centre, "samples": 10}


def encoder(model: dict[str, Any], split: str = "test", **baselines: Any) -> dict[str, Any]:
    return {"splits": {split: {"model": model, "baselines": baselines}}}


def fusion(model: float, alone: float) -> dict[str, Any]:
    part = {
        "model": {"optical": errors(model)},
        "baselines": {"encoder_alone": {"optical": errors(alone)}},
    }
    return {"splits": {"test": part}}


def probes(
    bands: float, embedding: float, metric: str = "r2", sites: dict[str, float] | None = None
) -> dict[str, Any]:
    target = {
        "metric": metric,
        "reason": None,
        "classes": 4,
        "scores": {"bands": bands, "embedding": embedding},
        "samples": 60,
        "fit_samples": 99,
    }
    left_out = {"land_cover": target | {"scores": sites}} if sites else {}
    return {"splits": {"test": {"targets": {"land_cover": target}}}, "leave_one_site_out": left_out}


GOOD = encoder(errors(0.01), nearest_date=errors(0.02), adjacent_pixel=errors(None))


@pytest.mark.parametrize("split", ["test", "validation"])
def test_an_encoder_worse_than_the_nearest_date_says_so_with_both_numbers(split: str) -> None:
    own = encoder(errors(0.0311), split, nearest_date=errors(0.0204), pca_2=errors(0.001))
    (sentence,) = remarks({"radar": GOOD, "optical": own}, {}, {})
    assert sentence == (
        f"On {split} samples, the encoder reconstructs optical worse at the target pixel "
        "(MAE 0.0311) than nearest date (0.0204)."
    )


def test_a_fusion_worse_than_its_encoder_and_an_embedding_poorer_than_the_bands_say_so() -> None:
    first, second = remarks({}, fusion(0.03, 0.02), {"fusion": probes(0.8, 0.7)})
    assert "fused embedding reconstructs optical worse" in first
    assert "(MAE 0.0300) than encoder alone (0.0200)" in first
    assert second == (
        "On test samples, the fused embedding tells less than the bands about land cover "
        "(R² 0.70, bands 0.80)."
    )


@pytest.mark.parametrize("averaged", ["bands_averaged", "mean_9"])
def test_sites_left_out_count_where_there_are_some_and_averages_are_the_bar(averaged: str) -> None:
    sites = {"bands": 0.3, averaged: 0.8, "embedding": 0.7}
    (sentence,) = remarks({}, {}, {"radar": probes(0.9, 0.1, sites=sites)})
    assert sentence == (
        "At sites left out, the embedding of radar tells less than the bands about land cover "
        "(R² 0.70, bands 0.80)."
    )
    assert remarks({}, {}, {"radar": probes(0.9, 0.1, sites=sites | {averaged: 0.2})}) == []


def test_a_training_says_what_went_wrong() -> None:
    own = GOOD | {"remarks": ["the warm-up never ends"]}
    assert remarks({"radar": own}, {}, {}) == ["Training of radar: the warm-up never ends."]


@pytest.mark.parametrize(
    ("own", "joined", "probed"),
    [
        (GOOD, fusion(0.01, 0.02), probes(0.7, 0.8)),
        # What may be due to the draw of samples, and what the bands do not tell either.
        (encoder(errors(0.0102), nearest_date=errors(0.01)), {}, probes(0.78, 0.75)),
        (GOOD, {}, probes(-0.2, -0.5)),
        (GOOD, {}, probes(0.25, 0.2, "balanced_accuracy")),
        ({"splits": {}}, {"splits": {}}, {"splits": {}, "leave_one_site_out": {}}),
    ],
)
def test_where_nothing_is_wrong_nothing_stands_there(own: Any, joined: Any, probed: Any) -> None:
    assert remarks({"optical": own}, joined, {"optical": probed}) == []
