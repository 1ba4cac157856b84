"""A plan tells the jobs that the workflow has, before anything of it exists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import TINY, dry_run, snakemake
from untrained import save_all_untrained, scaled_by

from pipeline_lib.config import Config, parse, parse_before_models, parts_of
from pipeline_lib.config.check import check
from pipeline_lib.plan import RATES, Rates, work_of

pytestmark = pytest.mark.workflow

SUMMER = {"start": "2021-05-01", "end": "2021-08-31"}
USE: dict[str, Any] = {
    "run": "use",
    "models": "results/paper/models",
    "areas": {
        "plain": SUMMER | {"bounds": [11.0, 48.0, 12.1, 48.6], "outline": "outline.geojson"},
        "meadow": SUMMER | {"bounds": [11.0, 48.0, 11.004, 48.002]},
    },
}
FEW = {"run": "few", "sites": {"count": 3}}
CORNER = [[11.0, 48.0], [11.6, 48.0], [11.0, 48.5], [11.0, 48.0]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for an area of four parts, of which an outline leaves out one."""
    outline = {"type": "Polygon", "coordinates": [CORNER]}
    (tmp_path / "outline.geojson").write_text(json.dumps(outline))
    return tmp_path


def planned(config: Config, base: Path) -> dict[str, int]:
    work = work_of(config, parts_of(config.areas, base), Rates.read(RATES))
    return {one.rule: one.jobs for one in work}


def test_the_jobs_of_a_plan_are_those_of_a_dry_run(tmp_path: Path) -> None:
    assert planned(parse(FEW), tmp_path) == dry_run(tmp_path, configs=[FEW])[0]
    assert planned(check([TINY]), tmp_path) == dry_run(tmp_path)[0]


def test_a_large_area_makes_the_cubes_and_embeddings_of_its_parts(place: Path) -> None:
    config = Config()
    folder = place / "results" / "paper" / "models"
    save_all_untrained(folder, config.sensors, config.context, config.fusion, scaled_by(0, 1))
    found, text = dry_run(place, configs=[USE])
    assert found == {"pin_items": 8, "build_cube": 8, "embed_cube": 4, "all": 1}, text
    assert planned(parse_before_models(USE, place), place) == found


def test_a_run_is_planned_before_its_models_are_trained(place: Path) -> None:
    for path in ("results/use/plan/plan.md", "./results/use/plan/plan.md"):
        assert dry_run(place, path, configs=[USE])[0]["write_plan"] == 1
    shown = snakemake(place, "plan", configs=[USE])
    assert "# Plan of the run use" in shown.stdout and "build_cube 8" in shown.stdout
    assert "No models at results/paper/models yet" in shown.stdout
    plan = json.loads((place / "results" / "use" / "plan" / "plan.json").read_text())
    # As much as the rule asks for, for a part of 40 x 35 km.
    assert 35_000 < plan["total"]["memory_mb"] < 60_000
    again = snakemake(place, "plan", configs=[USE])
    assert "# Plan of the run use" in again.stdout and "Planning the run" not in again.stderr
    refused = snakemake(place, "embed", "--dry-run", configs=[USE], succeeds=False)
    assert "models: folder not found: results/paper/models" in refused.stdout + refused.stderr
