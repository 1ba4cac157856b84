"""Small evaluations of probes and maps."""

from __future__ import annotations

from typing import Any

SETS = {"bands": 3, "pca_2": 2, "embedding": 2, "bands+embedding": 5}


def probes(split: str, *, unseen: int = 0, reason: str | None = None) -> dict[str, Any]:
    """Probes of one split: a target of numbers, and one of classes that may have no score."""
    values = [0.25, 0.5, -2.0, 0.75]
    counts = {"samples": 60, "fit_samples": 1234}
    area = {"metric": "r2", "reason": None, "scores": dict(zip(SETS, values, strict=True))}
    cover = {"metric": "balanced_accuracy", "reason": reason, "classes": 3}
    cover |= {"unseen_classes": unseen}
    scores = dict.fromkeys(SETS, None if reason else 0.625)
    cover |= {"scores": scores, "nearest": scores}
    targets = {"leaf_area_change": area | counts, "land_cover": cover | counts}
    sites: dict[str, Any] = {"metric": "r2", "reason": None, "samples": 80, "sites": 4}
    sites |= dict.fromkeys(("scores", "boosting"), area["scores"])
    other = {"test": "validation", "validation": "test"}[split]
    return {
        "model": "made",
        "features": SETS,
        "splits": {split: {"samples": 60, "targets": targets}},
        "skipped": {other: "it has no cube"},
        "leave_one_site_out": {"leaf_area": sites},
        "sharpness": {
            "pairs": 60,
            "sets": {"mean_5": {"step_within_field": 0.25, "contrast": 2.0}},
        },
    }


def maps(*, mapped: bool) -> dict[str, Any]:
    numbers = {"noise": 0.5, "step": 0.25}
    numbers |= dict.fromkeys(("step_within_field", "contrast"), 2.0 if mapped else None)
    sets = {name: {"features": size, **numbers} for name, size in SETS.items()}
    counts = {"noise": 4, "step": 5, "step_within_field": 3, "boundary": 2}
    part = {"cubes": 2, "mapped_cubes": int(mapped), "counts": counts, "sets": sets}
    return {"splits": {"test": part}, "skipped": {"validation": "none of its cubes is embedded"}}
