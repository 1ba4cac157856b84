"""A third sensor, added to a finished run by its config alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import ROOT, TINY, dry_run, products, snakemake

pytestmark = pytest.mark.workflow

CONFIGS = [TINY, ROOT / "config" / "landsat.yaml", TINY.with_name("tiny-landsat.yaml")]
EACH_ONCE = (
    "fit_normalisation",
    "measure_noise",
    "train_encoder",
    "evaluate_encoder",
    "probe_encoder",
)
OWN = {"pin_items": 5, "build_cube": 5} | dict.fromkeys(EACH_ONCE, 1)
OTHERS = {"demo_site", "demo_tower", "sample_sites", "split_sites", "gpp_targets"}


def test_a_third_sensor_reruns_its_own_rules_and_what_fuses(finished: Path) -> None:
    rerun, text = dry_run(finished, configs=CONFIGS)
    assert {"train_fusion", "embed_cube", "report"} <= set(rerun) and not set(rerun) & OTHERS
    assert {name: count for name, count in rerun.items() if name in OWN} == OWN
    # Messages of what is done for one sensor name this one, and no other.
    assert len(re.findall(r"^Job \d+: .*\blandsat\b", text, re.MULTILINE)) >= sum(OWN.values())
    assert not re.findall(r"^Job \d+: .*\bsentinel-\d", text, re.MULTILINE)


@pytest.mark.slow
def test_the_other_encoders_stay_byte_for_byte(finished: Path, shared_run: Path) -> None:
    models = Path("results") / "tiny" / "models"
    target = models / "landsat" / "model.safetensors"
    snakemake(finished, str(target), configs=CONFIGS)
    for sensor in ("sentinel-1", "sentinel-2"):
        before = products(shared_run / models / sensor)
        assert before and before.items() <= products(finished / models / sensor).items()
    assert (finished / target).stat().st_size > 0
