"""The workflow as a module of another one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT, TINY, jobs

pytestmark = pytest.mark.workflow

SNAKEFILE = """
configfile: "{config}"

module embeddings:
    snakefile: "{snakefile}"
    config: config

use rule * from embeddings

rule mine:
    input: "results/tiny/embeddings/site-000-a/manifest.json"
    output: "mine.txt"
    shell: "wc -c {{input}} > {{output}}"
"""


def test_another_workflow_takes_the_rules_over_with_a_partial_config(tmp_path: Path) -> None:
    text = SNAKEFILE.format(config=TINY, snakefile=ROOT / "Snakefile")
    (tmp_path / "Snakefile").write_text(text)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "2", "mine.txt"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr[-4000:]
    planned = jobs(shown.stdout + shown.stderr)
    assert planned["mine"] == 1 and planned["embed_cube"] == 1 and planned["train_encoder"] == 2
