"""A third sensor, added to a finished run by its config alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import TINY, jobs, snakemake

from pipeline_lib.files import digest_file

pytestmark = pytest.mark.workflow

OWN = {
    "pin_items": 5,
    "build_cube": 5,
    "fit_normalisation": 1,
    "train_encoder": 1,
    "evaluate_encoder": 1,
    "probe_encoder": 1,
}
OTHERS = {"demo_site", "demo_tower", "sample_sites", "split_sites", "gpp_targets"}


@pytest.fixture
def overlays(project_root: Path) -> list[str]:
    files = [TINY, project_root / "config" / "landsat.yaml", TINY.with_name("tiny-landsat.yaml")]
    return ["--configfile", *map(str, files)]


def test_a_third_sensor_reruns_its_own_rules_and_what_fuses(
    project_root: Path, finished: Path, overlays: list[str]
) -> None:
    shown = snakemake(project_root, finished, *overlays, "--dry-run")
    assert shown.returncode == 0, shown.stderr[-4000:]
    text = shown.stdout + shown.stderr
    rerun = jobs(text)
    assert {"train_fusion", "embed_cube", "report"} <= set(rerun) and not set(rerun) & OTHERS
    assert {name: count for name, count in rerun.items() if name in OWN} == OWN
    # Messages of what is done for one sensor name this one, and no other.
    assert len(re.findall(r"^Job \d+: .*\blandsat\b", text, re.MULTILINE)) >= sum(OWN.values())
    assert not re.findall(r"^Job \d+: .*\bsentinel-\d", text, re.MULTILINE)


@pytest.mark.slow
def test_the_other_encoders_stay_byte_for_byte(
    project_root: Path, finished: Path, shared_run: Path, overlays: list[str]
) -> None:
    models = Path("results") / "tiny" / "models"
    target = str(models / "landsat" / "model.safetensors")
    shown = snakemake(project_root, finished, target, *overlays)
    assert shown.returncode == 0, shown.stdout[-4000:] + shown.stderr[-4000:]
    for sensor in ("sentinel-1", "sentinel-2"):
        for file in (shared_run / models / sensor).iterdir():
            assert digest_file(finished / models / sensor / file.name) == digest_file(file)
    assert (finished / target).stat().st_size > 0
