"""What the study of the spread over seeds makes of results."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def spread(project_root: Path) -> ModuleType:
    sys.path.append(str(project_root / "studies"))
    return importlib.import_module("spread")


def results(error: float, score: float, noise: float) -> dict[str, Any]:
    """Files of one seed: an encoder's reconstruction, its probes, and maps."""
    scored = {"bands": 0.5, "pca_2": 0.4, "embedding": score, "bands+embedding": score + 0.1}
    return {
        "radar": {
            "model": "radar",
            "splits": {
                "test": {
                    "model": {"centre_mae": error, "samples": 9},
                    "baselines": {"nearest_date": {"centre_mae": 0.2, "loss": 0.3}},
                }
            },
        },
        "probes-radar": {
            "features": {"embedding": 2},
            "splits": {"test": {"targets": {"leaf_area": {"scores": scored, "boosting": scored}}}},
            "leave_one_site_out": {"leaf_area": {"scores": {"bands": None, "embedding": None}}},
        },
        "maps": {"splits": {"test": {"sets": {
            "spectrum": {"features": 3, "noise": 0.5},
            "embedding": {"features": 2, "noise": noise},
        }}}},
    }  # fmt: skip


def test_scores_beside_baselines(tmp_path: Path, spread: ModuleType) -> None:
    folders = [tmp_path / str(seed) for seed in range(2)]
    for folder, values in zip(folders, [(0.1, 0.62, 0.7), (0.12, 0.66, 0.4)], strict=True):
        (folder / "evaluation").mkdir(parents=True)
        for name, content in results(*values).items():
            (folder / "evaluation" / f"{name}.json").write_text(json.dumps(content))
    found = spread.tables(folders)
    assert list(found) == ["maps, test", "probes-radar, test", "radar, test"]
    (error,), (linear, boosting), (noise,) = (
        found["radar, test"],
        found["probes-radar, test"],
        found["maps, test"],
    )
    assert error["mean"] == pytest.approx(0.11) and error["seeds"] == [0.1, 0.12]
    assert (error["best baseline"], error["result"]) == ("nearest_date", "better")
    assert (linear["score"], boosting["score"]) == ("leaf_area", "leaf_area boosting")
    assert (linear["best baseline"], linear["result"]) == ("bands", "better")
    assert linear["bands+embedding"] == "0.74 (0.72 to 0.76)"
    # Less noise is better, but here one seed has more and one has less than the bands.
    assert (noise["score"], noise["result"]) == ("noise", "none")

    other = json.loads(json.dumps(found))
    other["probes-radar, test"][0] |= {"mean": 0.3, "result": "worse"}
    (row, same) = spread.moved(found, other)["moved: probes-radar, test"]
    assert row["moved"] == pytest.approx(0.34) and row["result here, other"] == "better, worse"
    assert same["moved"] == 0
