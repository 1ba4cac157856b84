"""A plan tells the jobs that the workflow has, before anything of it exists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from running import TINY, jobs, snakemake
from untrained import save_all_untrained, scaled_by

from pipeline_lib.config import Config, parse_before_models, parts_of
from pipeline_lib.config.check import check
from pipeline_lib.plan import RATES, Rates, work_of

pytestmark = pytest.mark.workflow

USE = {
    "run": "use",
    "models": "results/paper/models",
    "areas": {
        "plain": {
            "bounds": [11.0, 48.0, 12.1, 48.6],
            "start": "2021-05-01",
            "end": "2021-08-31",
            "outline": "outline.geojson",
        },
        "meadow": {
            "bounds": [11.0, 48.0, 11.004, 48.002],
            "start": "2021-05-01",
            "end": "2021-08-31",
        },
    },
}
CORNER = [[11.0, 48.0], [11.6, 48.0], [11.0, 48.5], [11.0, 48.0]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the config of an area of four parts, of which an outline leaves out one."""
    outline = {"type": "Polygon", "coordinates": [CORNER]}
    (tmp_path / "outline.geojson").write_text(json.dumps(outline))
    (tmp_path / "use.yaml").write_text(yaml.safe_dump(USE))
    return tmp_path


def planned(root: Path, config: Config, base: Path) -> dict[str, int]:
    rates = Rates.read(RATES)
    work = work_of(config, parts_of(config.areas, base), rates)
    return {one.rule: one.jobs for one in work}


@pytest.mark.parametrize("name", ["few", "tiny"])
def test_the_jobs_of_a_plan_are_those_of_a_dry_run(
    project_root: Path, tmp_path: Path, name: str
) -> None:
    few = tmp_path / "few.yaml"
    few.write_text(yaml.safe_dump({"run": "few", "sites": {"count": 3}}))
    file = TINY if name == "tiny" else few
    shown = snakemake(project_root, tmp_path, "--dry-run", "--configfile", str(file))
    assert shown.returncode == 0, shown.stderr[-4000:]
    assert planned(project_root, check([file]), tmp_path) == jobs(shown.stdout + shown.stderr)


def test_a_large_area_makes_the_cubes_and_embeddings_of_its_parts(
    project_root: Path, place: Path
) -> None:
    config = Config()
    folder = place / "results" / "paper" / "models"
    save_all_untrained(folder, config.sensors, config.context, config.fusion, scaled_by(0, 1))
    shown = snakemake(project_root, place, "--dry-run", "--configfile", str(place / "use.yaml"))
    found = jobs(shown.stdout + shown.stderr)
    assert found == {"pin_items": 8, "build_cube": 8, "embed_cube": 4, "all": 1}, shown.stderr
    assert planned(project_root, parse_before_models(USE, place), place) == found


@pytest.mark.parametrize(
    "target", ["plan", "results/use/plan/plan.md", "./results/use/plan/plan.md"]
)
def test_a_plan_needs_no_trained_models_whatever_its_path(
    project_root: Path, place: Path, target: str
) -> None:
    given = ["--configfile", str(place / "use.yaml"), "--dry-run"]
    shown = snakemake(project_root, place, target, *given)
    assert shown.returncode == 0 and jobs(shown.stdout + shown.stderr)["write_plan"] == 1


def test_a_run_is_planned_before_its_models_are_trained(project_root: Path, place: Path) -> None:
    given = ["--configfile", str(place / "use.yaml")]
    shown = snakemake(project_root, place, "plan", *given)
    assert shown.returncode == 0, shown.stdout[-4000:] + shown.stderr[-4000:]
    assert "# Plan of the run use" in shown.stdout and "build_cube 8" in shown.stdout
    assert "No models at results/paper/models yet" in shown.stdout
    plan = json.loads((place / "results" / "use" / "plan" / "plan.json").read_text())
    # As much as the rule asks for, for a part of 40 x 35 km.
    assert 35_000 < plan["total"]["memory_mb"] < 60_000
    again = snakemake(project_root, place, "plan", *given)
    assert "# Plan of the run use" in again.stdout and "Planning the run" not in again.stderr
    refused = snakemake(project_root, place, "embed", "--dry-run", *given)
    assert refused.returncode != 0
    assert "models: folder not found: results/paper/models" in refused.stdout + refused.stderr
