"""Real runs that are meant to fail: Snakemake in a folder of its own, and what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "workflow" / "tiny.yaml"
__all__ = ["DOCS", "NOISE", "ROOT", "TINY", "Run", "products", "run", "table", "write_docs"]
DOCS = ROOT / "docs" / "errors.md"

# What tells products apart stands beside the tests of the workflow.
sys.path.append(str(ROOT / "tests" / "workflow"))
from products import products  # noqa: E402

NOISE = re.compile(r"^(Using workflow specific profile|Config file .* is extended|\s+File )")
"""What Snakemake prints besides: before a mistake is found, and where the Snakefile tells it."""


@dataclass(frozen=True)
class Run:
    """How a run ended, and what it printed."""

    status: int
    text: str

    @property
    def traceback(self) -> bool:
        """Whether a traceback of Python is on the terminal."""
        return "Traceback (most recent call last)" in self.text

    @property
    def lines(self) -> list[str]:
        """What was printed, without what Snakemake always prints before it reads the config."""
        lines = (line for line in self.text.splitlines() if not NOISE.match(line))
        return [line.strip() for line in lines if line.strip()]


def run(folder: Path, *arguments: str) -> Run:
    """Run the real workflow on one core, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    snakefile = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    ended = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *snakefile, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return Run(ended.returncode, ended.stdout)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def write_docs(mark: str, text: str) -> None:
    """Put a table between its marks in the docs."""
    begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->"
    before, rest = DOCS.read_text().split(begin)
    DOCS.write_text(before + begin + text + end + rest.split(end)[1])
