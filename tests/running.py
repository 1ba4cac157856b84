"""How the tests run the real workflow, and what they compare of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.files import digest_file

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "workflow" / "tiny.yaml"
NOT_PRODUCTS = ("logs", "benchmarks", "state")


def command(
    folder: Path, *arguments: str, configs: Sequence[Path | dict[str, Any]] = (TINY,)
) -> list[str]:
    """The command that runs Snakemake in a folder of its own.

    Each config, a file or its content, is laid over those before it.
    """
    files = []
    for number, config in enumerate(configs):
        file = folder / f"config-{number}.yaml" if isinstance(config, dict) else config
        if isinstance(config, dict):
            file.write_text(yaml.safe_dump(config))
        files.append(str(file))
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    return [*start, "--directory", str(folder), "--cores", "2", *arguments, "--configfile", *files]


def snakemake(
    folder: Path,
    *arguments: str,
    configs: Sequence[Path | dict[str, Any]] = (TINY,),
    library: Path | None = None,
    succeeds: bool = True,
    timeout_s: float = 1800,
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake, with the library in another place if one is given; what it printed."""
    shown = subprocess.run(
        command(folder, *arguments, configs=configs),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env=dict(os.environ) | ({"PYTHONPATH": str(library)} if library else {}),
    )
    text = shown.stdout[-4000:] + shown.stderr[-8000:]
    assert shown.returncode == (0 if succeeds else 1), text
    return shown


def dry_run(
    folder: Path,
    *targets: str,
    configs: Sequence[Path | dict[str, Any]] = (TINY,),
    library: Path | None = None,
) -> tuple[Counter[str], str]:
    """Jobs that a run would start, by rule, and what Snakemake printed of them."""
    shown = snakemake(folder, *targets, "--dry-run", configs=configs, library=library)
    text = shown.stdout + shown.stderr
    return jobs(text), text


def jobs(text: str) -> Counter[str]:
    """Rule -> number of jobs, from a dry run's table."""
    table = text.split("Job stats:")[1].split("total")[0] if "Job stats:" in text else ""
    return Counter({m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", table, re.MULTILINE)})


def products(run: Path) -> dict[str, str]:
    """Path within a run's folder -> SHA-256, of every product."""
    names = {path.relative_to(run): path for path in sorted(run.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): digest_file(path)
        for name, path in names.items()
        if name.parts[0] not in NOT_PRODUCTS
    }


def half_written(folder: Path) -> list[Path]:
    """Files that a job should have removed."""
    return [p for p in folder.rglob(".*") if p.name.startswith((".partial-", ".scratch-"))]
