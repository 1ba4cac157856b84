"""Run a config under a real Slurm on this machine, and compare its products with a local run's.

python tests/workflow/slurm_run.py --configfile config/demo.yaml --local results/demo
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from one_node_slurm import ACCOUNT, absent, one_node_slurm
from products import differences, products

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "workflow" / "profiles" / "slurm"

FOR_ACCOUNTING = {
    "slurm-status-command: squeue": "slurm-status-command: sacct",
    "slurm-no-account: true\n": "",
    "# slurm_account: my-account": f"slurm_account: {ACCOUNT}",
}
"""What docs/slurm.md says to edit in the profile."""


def run_under_slurm(
    configfile: Path, folder: Path, *targets: str, cpus: int = 2, accounting: bool = False
) -> float:
    """Run a config by the profile, in a folder of its own; return the seconds that it took.

    With accounting, by the profile that is edited for it; ``folder/accounting.txt`` then tells the
    account and state of each job.

    Raises
    ------
    RuntimeError
        If Snakemake fails, with the end of what it printed; ``folder/run.log`` has the whole.
    """
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as daemons,
        one_node_slurm(Path(daemons), cpus, accounting),
    ):
        profile = (PROFILE / "config.yaml").read_text()
        for old, new in FOR_ACCOUNTING.items() if accounting else ():
            assert profile.count(old) == 1, old
            profile = profile.replace(old, new)
        (folder / "profile").mkdir()
        (folder / "profile" / "config.yaml").write_text(profile)
        command = [
            "timeout", "--kill-after=10", "5400",
            sys.executable, "-m", "snakemake", *targets, "--snakefile", str(ROOT / "Snakefile"),
            "--directory", str(folder), "--configfile", str(configfile),
            "--profile", str(folder / "profile"),
            "--slurm-partition-config", f"{daemons}/partitions.yaml", "--cores", str(cpus),
            # One node on the same disk: nothing is late.
            "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5",
        ]  # fmt: skip
        start = time.monotonic()
        with (folder / "run.log").open("w") as log:
            status = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode
        if status != 0:
            raise RuntimeError((folder / "run.log").read_text()[-6000:])
        seconds = time.monotonic() - start
        if accounting:
            asked = ["sacct", "--allusers", "--allocations", "--noheader", "--parsable2"]
            shown = subprocess.run(
                [*asked, "--format=account,state"], capture_output=True, text=True
            )
            (folder / "accounting.txt").write_text(shown.stdout)
        return seconds


def main() -> None:
    """Tell the seconds and the products that differ; end with status 1 if any do."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--configfile", type=Path, required=True)
    arguments.add_argument("--local", type=Path, required=True, help="results of the local run")
    arguments.add_argument("--folder", type=Path, help="where to run; default: a temporary folder")
    given = arguments.parse_args()
    if reason := absent():
        print(f"skipped: {reason}")
        return
    run = yaml.safe_load(given.configfile.read_text())["run"]
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        seconds = run_under_slurm(given.configfile.resolve(), folder)
        ours = folder / "results" / run
        wrong = differences(ours, given.local)
        submitted = (folder / "run.log").read_text().count("has been submitted with SLURM jobid")
        print(f"{seconds:.0f} s, {submitted} submissions, {len(products(ours))} products")
    print("\n".join(wrong) or "all equal to the local run's")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
