"""What a reader of the report should know first, from the evaluations: a sentence for each fault.

Where nothing is wrong there is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline_lib.report.probes import METRICS, scored_probes, shown_split
from pipeline_lib.report.tables import method_label, number

_SPLITS = ("test", "validation")
"""In the order of preference: the first one with samples is reported."""
_ERRORS = {"centre_mae": "at the target pixel", "context_mae": "over all pixels and dates"}

LEAST_DIFFERENCE = 0.02
"""Of two scores: smaller ones may be due to the draw of samples."""

Evaluation = Mapping[str, Any]


def remarks(
    encoders: Mapping[str, Evaluation], fusion: Evaluation, probes: Mapping[str, Evaluation]
) -> list[str]:
    """Sentences on trainings that went wrong, on models that reconstruct worse than what needs no
    model, and on embeddings that tell less than the bands.

    ``encoders`` and ``probes`` are the evaluations by model, as of `page.write_report`.
    """
    models = {**encoders, "fusion": fusion}
    found = [
        f"Training of {name}: {sentence}."
        for name, own in models.items()
        for sentence in own.get("remarks", ())
    ]
    for name, own in encoders.items():
        split, part = _measured(own)
        found += _worse("the encoder", name, split, part["model"], part["baselines"])
    split, part = _measured(fusion)
    for name, errors in part["model"].items():
        others = {label: of[name] for label, of in part["baselines"].items() if name in of}
        found += _worse("the fused embedding", name, split, errors, others)
    return found + [sentence for name, own in probes.items() for sentence in _poorer(name, own)]


def _measured(evaluation: Evaluation) -> tuple[str, Evaluation]:
    """A split that was held out, and its errors of the model and of the baselines."""
    splits = evaluation.get("splits", {})
    split = next((name for name in _SPLITS if name in splits), "")
    return split, {"model": {}, "baselines": {}} | splits.get(split, {})


def _worse(
    model: str, sensor: str, split: str, own: Evaluation, baselines: Mapping[str, Evaluation]
) -> Iterator[str]:
    """A sentence if baselines have smaller errors than a model, as they are printed."""
    clauses = []
    for metric, what in _ERRORS.items():
        error = own.get(metric)
        smaller = [
            f"{method_label(label)} ({number(other)})"
            for label, errors in baselines.items()
            if error is not None and (other := errors.get(metric)) is not None
            if other < error and number(other) != number(error)
        ]
        if smaller:
            clauses.append(f"{what} (MAE {number(error)}) than {' and '.join(smaller)}")
    if clauses:
        worse = ", and ".join(clauses)
        yield f"On {split} samples, {model} reconstructs {sensor} worse {worse}."


def _poorer(name: str, evaluation: Evaluation) -> Iterator[str]:
    """A sentence if probes find less in an embedding than in the bands that it was made from.

    Of each target the better probe of each set counts, linear or by nearest samples; targets that
    the bands do not tell either do not.
    """
    split = shown_split(evaluation)
    probed = defaultdict(list)
    for one in scored_probes(evaluation, split) if split else ():
        probed[one.label.partition(", ")[0]].append(one)
    lower = []
    for target, own in probed.items():
        found, bands = (max(one.scores[k] for one in own) for k in ("embedding", "spectrum"))
        if bands > own[0].chance and bands - found >= LEAST_DIFFERENCE:
            metric = METRICS[own[0].metric]
            lower.append(f"{target} ({metric} {found:.2f}, bands {bands:.2f})")
    if lower:
        what = "fused embedding" if name == "fusion" else f"embedding of {name}"
        yield f"On {split} samples, the {what} tells less than the bands about {'; '.join(lower)}."
