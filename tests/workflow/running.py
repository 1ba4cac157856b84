"""How the tests run the real workflow."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

TINY = Path(__file__).with_name("tiny.yaml")

PREDICTED = {
    "gpp_transformer", "gpp_baselines", "gpp_scores", "figure_gpp", "figure_methods",
    "figure_points", "figure_lengths",
}  # fmt: skip
"""Rules of the GPP that follow from the towers' daily series."""


def command(root: Path, folder: Path, *arguments: str) -> list[str]:
    """The command that runs Snakemake in a folder of its own."""
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile")]
    return [*start, "--directory", str(folder), "--cores", "2", *arguments]


def snakemake(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder of its own."""
    return subprocess.run(
        command(root, folder, *arguments), capture_output=True, text=True, check=False, timeout=900
    )


def jobs(shown: str) -> Counter[str]:
    """Rule -> number of jobs, from a dry run's table."""
    table = shown.split("Job stats:")[1].split("total")[0] if "Job stats:" in shown else ""
    return Counter({m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", table, re.MULTILINE)})
