"""A third sensor, added to a finished run by its config alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from running import PREDICTED, TINY, jobs, snakemake

from pipeline_lib.files import digest_file

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("workflow")]

OWN = {
    "pin_items": 5,
    "build_cube": 5,
    "fit_normalisation": 1,
    "train_encoder": 1,
    "evaluate_encoder": 1,
    "probe_encoder": 1,
    "figure_optical": 1,
    "gpp_bands": 2,
}
FUSION_AND_AFTER = {
    "train_fusion", "evaluate_fusion", "probe_fusion", "figure_probes", "figure_curves",
    "embed_cube", "figure_pca", "figure_dates", "assess_maps", "figure_maps", "gpp_series",
    "figure_towers", "report", "all",
} | PREDICTED  # fmt: skip
OTHERS = {
    "demo_land_cover", "demo_canopy", "demo_site", "demo_tower", "sample_sites", "split_sites",
    "gpp_targets", "figure_sites", "figure_radar",
}  # fmt: skip


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
    assert set(rerun) >= FUSION_AND_AFTER and not set(rerun) & OTHERS
    assert {name: count for name, count in rerun.items() if name in OWN} == OWN
    # What is done for a sensor is done for this one: messages name it, and no other. Its probes
    # are drawn, and those of the fusion.
    assert rerun["figure_probes"] == 2
    named = re.findall(r"^Job \d+: .*\blandsat\b", text, re.MULTILINE)
    assert len(named) == sum(OWN.values()) + 1
    assert not re.findall(r"^Job \d+: .*\bsentinel-\d", text, re.MULTILINE)


def test_the_other_encoders_stay_byte_for_byte(
    project_root: Path, finished: Path, overlays: list[str], tmp_path: Path
) -> None:
    folder = shutil.copytree(finished, tmp_path / "run")
    models = Path("results") / "tiny" / "models"
    target = str(models / "landsat" / "model.safetensors")
    shown = snakemake(project_root, folder, target, *overlays)
    assert shown.returncode == 0, shown.stdout[-4000:] + shown.stderr[-4000:]
    for sensor in ("sentinel-1", "sentinel-2"):
        for file in (finished / models / sensor).iterdir():
            assert digest_file(folder / models / sensor / file.name) == digest_file(file)
    assert (folder / target).stat().st_size > 0
