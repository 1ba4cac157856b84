"""What a reader of the report should know first, from the evaluations: a sentence for each fault.

Where nothing is wrong there is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline_lib.report.probes import METRICS, scored_probes, shown_split, site_probes
from pipeline_lib.report.tables import method_label, number

_SPLITS = ("test", "validation")
"""In the order of preference: the first one with samples is reported."""
LEAST_WORSE = 0.05
"""Of an error, relative to another, and of the difference of two scores: smaller ones may be due
to the draw of samples."""

Evaluation = Mapping[str, Any]


def remarks(
    encoders: Mapping[str, Evaluation], fusion: Evaluation, probes: Mapping[str, Evaluation]
) -> list[str]:
    """Sentences on trainings that went wrong, on models that reconstruct target pixels worse than
    simpler ones, and on embeddings that tell less than the bands.

    ``encoders`` and ``probes`` are the evaluations by model, as of `page.write_report`.
    """
    models = {**encoders, "fusion": fusion}
    found = [
        f"Training of {name}: {sentence}."
        for name, own in models.items()
        for sentence in own.get("remarks", ())
    ]
    for name, own in models.items():
        split = next((split for split in _SPLITS if split in own.get("splits", {})), None)
        if split:
            found += _worse(name, split, own["splits"][split])
    return found + [sentence for name, own in probes.items() for sentence in _poorer(name, own)]


def _worse(name: str, split: str, part: Evaluation) -> Iterator[str]:
    """A sentence on each sensor that a model reconstructs worse than a baseline does.

    Principal components are no such baseline: they are made of the target pixel itself.
    """
    fused = name == "fusion"
    model = "the fused embedding" if fused else "the encoder"
    for sensor, own in part["model"].items() if fused else [(name, part["model"])]:
        error = own.get("centre_mae")
        others = {
            method_label(label): (errors.get(sensor, {}) if fused else errors).get("centre_mae")
            for label, errors in part.get("baselines", {}).items()
            if not label.startswith("pca_")
        }
        smaller = [
            f"{label} ({number(other)})"
            for label, other in others.items()
            if error is not None and other is not None and other < (1 - LEAST_WORSE) * error
        ]
        if smaller:
            yield (
                f"On {split} samples, {model} reconstructs {sensor} worse at the target pixel (MAE "
                f"{number(error)}) than {' and '.join(smaller)}."
            )


def _poorer(name: str, evaluation: Evaluation) -> Iterator[str]:
    """A sentence if probes find less in an embedding than in the bands that it was made from, at
    sites left out, and of other targets on held-out samples.

    At sites left out radar bands are averaged, over the square that suits them best; of other
    targets an average may be the target itself. Of each target the better probe of each set counts;
    targets that the bands do not tell either do not.
    """
    split, sites = shown_split(evaluation), site_probes(evaluation)
    known = {one.label for one in sites}
    others = scored_probes(evaluation, split) if split else []
    others = [one for one in others if one.label not in known]
    for where, probes in (("At sites left out", sites), (f"On {split} samples", others)):
        probed = defaultdict(list)
        for one in probes:
            probed[one.label.partition(", ")[0]].append(one)
        lower = []
        for target, own in probed.items():
            averages = (k for k in own[0].scores if k == "bands_averaged" or k.startswith("mean_"))
            averaged = list(averages) if own[0] in sites else []
            found = max(one.scores["embedding"] for one in own)
            bands = max(one.scores[k] for one in own for k in averaged or ["bands"])
            if bands > own[0].chance and bands - found >= LEAST_WORSE:
                metric = METRICS[own[0].metric]
                lower.append(f"{target} ({metric} {found:.2f}, bands {bands:.2f})")
        if lower:
            what = "fused embedding" if name == "fusion" else f"embedding of {name}"
            yield f"{where}, the {what} tells less than the bands about {'; '.join(lower)}."
