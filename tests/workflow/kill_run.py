"""Kill a run and all its jobs at random moments, run it again, and compare what it leaves.

python tests/workflow/kill_run.py --configfile config/demo.yaml --undisturbed results/demo
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml
from products import differences, products

ROOT = Path(__file__).parents[2]
STARTED = re.compile(r"^Job \d+: (.+)$", re.MULTILINE)
"""What Snakemake prints as a job starts: its number differs from run to run, its message not."""

LEFT = (".partial-", ".scratch-")
"""How names of half-written files begin."""


def run_and_kill(command: list[str], after_s: float | None, log: Path) -> int | None:
    """Start a run; kill it and all its jobs after a while. Its status; None if it was killed."""
    with log.open("w") as output:
        run = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return run.wait(after_s)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return None


def main() -> None:
    """Tell the kills, the jobs repeated and the products that differ; status 1 if any do."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--configfile", type=Path, required=True)
    arguments.add_argument("--undisturbed", type=Path, required=True)
    arguments.add_argument("--folder", type=Path, required=True, help="where to run")
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--after", type=float, nargs=2, default=(15.0, 105.0), help="s, range")
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"),
        "--directory", str(given.folder), "--cores", "2",
        "--configfile", str(given.configfile.resolve()),
    ]  # fmt: skip
    moments = random.Random(given.seed)
    started: Counter[str] = Counter()
    log = given.folder / "run.log"
    killed, begin = 0, time.monotonic()
    for number in range(given.kills):
        after = moments.uniform(*given.after)
        status = run_and_kill(command, after, log)
        started.update(STARTED.findall(log.read_text()))
        if status is not None:
            break
        killed += 1
        print(f"kill {number + 1} after {after:.0f} s, {started.total()} jobs started", flush=True)
    else:
        status = run_and_kill(command, None, log)
        started.update(STARTED.findall(log.read_text()))
    if status != 0:
        sys.exit(log.read_text()[-6000:])
    run = given.folder / "results" / yaml.safe_load(given.configfile.read_text())["run"]
    left = [path for path in run.rglob(".*") if path.name.startswith(LEFT)]
    wrong = differences(run, given.undisturbed) + [f"{path}: left over" for path in left]
    print(
        f"{killed} kills, {time.monotonic() - begin:.0f} s, {len(started)} jobs, "
        f"{started.total() - len(started)} started again, {len(products(run))} products"
    )
    print("\n".join(wrong) or "all equal to the undisturbed run's")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
