"""How the tests run the real workflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TINY = Path(__file__).with_name("tiny.yaml")


def command(root: Path, folder: Path, *arguments: str) -> list[str]:
    """The command that runs Snakemake in a folder of its own."""
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile")]
    return [*start, "--directory", str(folder), "--cores", "2", *arguments]


def snakemake(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder of its own."""
    return subprocess.run(
        command(root, folder, *arguments), capture_output=True, text=True, check=False, timeout=900
    )
