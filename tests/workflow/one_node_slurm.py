"""A real Slurm on this machine alone: munge, a controller and one node with an invented GPU."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from running import ROOT, TINY, snakemake

PROFILE = ROOT / "workflow" / "profiles" / "slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
ACCOUNTING = ("slurmdbd", "sacctmgr", "sacct", "mariadbd", "mariadb-install-db")
CONFIGURED = Path("/etc/slurm")
"""Where Slurm's programs look by themselves; jobs do not hear of another place."""

CPUS = 2
MEMORY_MB = 64_000
"""Told to Slurm, whatever the machine has: the rules ask for more than they need in a test."""

ACCOUNT = "ecology"
"""That jobs are counted to, where there is accounting."""

SLURM = """
ClusterName=onenode
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=100000
ReturnToService=2
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=2-00:00:00 State=UP
PartitionName=gpu Nodes={host} MaxTime=2-00:00:00 State=UP
"""

WITHOUT_ACCOUNTING = """
AccountingStorageType=accounting_storage/none
MinJobAge=300
"""
WITH_ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations
MinJobAge=2
"""
"""Jobs belong to accounts, and squeue forgets them as soon as they have ended."""

DATABASE = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage_port}
StorageUser=slurm
StoragePass=slurm
"""

FILES = {
    "slurm.conf": SLURM,
    "slurmdbd.conf": DATABASE,
    "gres.conf": "NodeName={host} Name=gpu File={folder}/gpu0\n",
    "tables.sql": """
CREATE DATABASE slurm_acct_db;
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
""",
    "partitions.yaml": """
partitions:
  cpu: {{max_runtime: 2d, max_mem_mb: {memory}, max_threads: 8}}
  gpu: {{max_runtime: 2d, max_mem_mb: {memory}, max_threads: 8, max_gpu: 1}}
""",
}

MUNGE = (
    "munged --foreground --force --key-file={folder}/munge.key --socket={folder}/munge.socket"
    " --pid-file={folder}/munge.pid --log-file={folder}/munge.log --seed-file={folder}/munge.seed"
)
INSTALL = "mariadb-install-db --no-defaults --user=root --datadir={folder}/database"
MARIADB = (
    "mariadbd --no-defaults --user=root --datadir={folder}/database"
    " --init-file={folder}/tables.sql --socket={folder}/mariadb.socket"
    " --pid-file={folder}/mariadb.pid --bind-address=127.0.0.1 --port={storage_port}"
)

FOR_ACCOUNTING = {
    "slurm-status-command: squeue": "slurm-status-command: sacct",
    "slurm-no-account: true\n": "",
    "# slurm_account: my-account": f"slurm_account: {ACCOUNT}",
}
"""What docs/slurm.md says to edit in the profile."""


def absent(accounting: bool = False) -> str | None:
    """Why there can be no Slurm (with a database of its jobs) here; None where there can."""
    if os.geteuid() != 0:
        return "Slurm's daemons are started by root alone"
    if (CONFIGURED / "slurm.conf").exists():
        return "this machine belongs to a Slurm cluster already"
    programs = (*PROGRAMS, *(ACCOUNTING if accounting else ()))
    missing = [name for name in programs if shutil.which(name) is None]
    packages = "slurm-wlm, munge" + (", slurmdbd, mariadb-server" if accounting else "")
    return f"not installed: {', '.join(missing)} ({packages})" if missing else None


@contextmanager
def one_node_slurm(folder: Path, accounting: bool) -> Iterator[None]:
    """Run Slurm for as long as the block lasts, with its state and logs in an empty folder.

    ``partitions.yaml`` in it has the partitions. With accounting, jobs are kept in a database, in
    which each belongs to ``ACCOUNT``.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    os.mknod(folder / "gpu0", 0o600 | 0o020000, os.makedev(1, 3))
    values: dict[str, Any] = {"folder": folder, "host": socket.gethostname().split(".")[0]}
    values |= {"cpus": CPUS, "memory": MEMORY_MB}
    values |= {n: _free_port() for n in ("port", "storage_port", "controller_port", "node_port")}
    for name, text in FILES.items():
        if name == "slurm.conf":
            text = (WITH_ACCOUNTING if accounting else WITHOUT_ACCOUNTING) + text
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text.format(**values))

    with ExitStack() as daemons:

        def start(command: str, ready: Callable[[], bool]) -> None:
            name, *arguments = command.format(**values).split()
            output = daemons.enter_context((folder / f"{name}.output").open("w"))
            daemon = subprocess.Popen([name, *arguments], stdout=output, stderr=output)
            daemons.callback(_end, daemon)
            _wait(ready, name, folder)

        for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
            place = CONFIGURED / name
            place.unlink(missing_ok=True)
            place.symlink_to(folder / name)
            daemons.callback(place.unlink)
        start(MUNGE, (folder / "munge.socket").exists)
        if accounting:
            subprocess.run(INSTALL.format(**values).split(), capture_output=True, check=True)
            start(MARIADB, lambda: _answers(values["storage_port"]))
            start("slurmdbd -D", lambda: _added("cluster", "onenode"))
            _wait(lambda: _added("account", ACCOUNT), "the account", folder)
            _wait(lambda: _added("user", "root", f"account={ACCOUNT}"), "the user", folder)
        start("slurmctld -D", lambda: True)
        start("slurmd -D -N {host}", lambda: _state() == "idle")
        yield


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _added(*words: str) -> bool:
    """Whether Slurm's accounting has taken something in."""
    command = ["sacctmgr", "--immediate", "add", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _state() -> str:
    command = ["sinfo", "--noheader", "--partition=cpu", "--format=%T"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return shown.stdout.strip()


def _wait(ready: Callable[[], bool], name: str, folder: Path) -> None:
    for _ in range(300):
        if ready():
            return
        time.sleep(0.1)
    said = "\n".join(p.read_text()[-2000:] for p in folder.glob("*.output"))
    raise RuntimeError(f"{name} did not start: {said}")


def run_under_slurm(folder: Path, *targets: str, accounting: bool = False) -> tuple[str, list[str]]:
    """Run the tiny demo by the profile, in a folder of its own: its log, and its jobs.

    The jobs are the account and state of each, with accounting alone; the profile is then edited
    for it.
    """
    profile = (PROFILE / "config.yaml").read_text()
    for old, new in FOR_ACCOUNTING.items() if accounting else ():
        assert profile.count(old) == 1, old
        profile = profile.replace(old, new)
    (folder / "profile").mkdir()
    (folder / "profile" / "config.yaml").write_text(profile)
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as daemons,
        one_node_slurm(Path(daemons), accounting),
    ):
        options = {
            "profile": folder / "profile",
            "slurm-partition-config": f"{daemons}/partitions.yaml",
            # One node on the same disk: nothing is late.
            "slurm-init-seconds-before-status-checks": 1,
            "latency-wait": 5,
        }
        given = [f"--{name}={value}" for name, value in options.items()]
        shown = snakemake(folder, *targets, *given, configs=[TINY], timeout_s=1500)
        states = ""
        if accounting:
            asked = ["sacct", "--allusers", "--allocations", "--noheader", "--parsable2"]
            command = [*asked, "--format=account,state"]
            states = subprocess.run(command, capture_output=True, text=True).stdout
        return shown.stdout + shown.stderr, states.splitlines()
