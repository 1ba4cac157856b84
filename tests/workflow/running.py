"""How the tests run the real workflow, and what they compare of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from pipeline_lib.files import digest_file

TINY = Path(__file__).with_name("tiny.yaml")
NOT_PRODUCTS = ("logs", "benchmarks", "state")


def command(root: Path, folder: Path, *arguments: str) -> list[str]:
    """The command that runs Snakemake in a folder of its own."""
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile")]
    return [*start, "--directory", str(folder), "--cores", "2", *arguments]


def snakemake(
    root: Path, folder: Path, *arguments: str, library: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder of its own, with the library in another place if one is given."""
    environment = dict(os.environ) | ({"PYTHONPATH": str(library)} if library else {})
    return subprocess.run(
        command(root, folder, *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
        env=environment,
    )


def jobs(text: str) -> Counter[str]:
    """Rule -> number of jobs, from a dry run's table."""
    table = text.split("Job stats:")[1].split("total")[0] if "Job stats:" in text else ""
    return Counter({m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", table, re.MULTILINE)})


def products(run: Path) -> dict[str, str]:
    """Path within a run's folder -> SHA-256, of every product."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file()]
    names = {path.relative_to(run).as_posix(): path for path in files}
    return {
        name: digest_file(path)
        for name, path in names.items()
        if name.split("/")[0] not in NOT_PRODUCTS
    }


def differences(run: Path, other: Path) -> list[str]:
    """Products that two runs do not share or in which they differ."""
    mine, theirs = products(run), products(other)
    return sorted(n for n in mine.keys() | theirs.keys() if mine.get(n) != theirs.get(n))
