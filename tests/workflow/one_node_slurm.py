"""A real Slurm on this machine alone: munge, a controller and one node with an invented GPU."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "workflow" / "profiles" / "slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
ACCOUNTING = ("slurmdbd", "sacctmgr", "sacct", "mariadbd", "mariadb-install-db")
CONFIGURED = Path("/etc/slurm")
"""Where Slurm's programs look by themselves; jobs do not hear of another place."""

GPUS = 1
MEMORY_MB = 64_000
"""Told to Slurm, whatever the machine has: the rules ask for more than they need in a test."""

ACCOUNT = "ecology"
"""That jobs are counted to, where there is accounting."""

CONFIG = """
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
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_min_interval=100000
ReturnToService=2
InactiveLimit=0
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
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

TABLES = """
CREATE DATABASE slurm_acct_db;
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
"""

PARTITIONS = f"""
partitions:
  cpu: {{max_runtime: 2d, max_mem_mb: {MEMORY_MB}, max_threads: 8}}
  gpu: {{max_runtime: 2d, max_mem_mb: {MEMORY_MB}, max_threads: 8, max_gpu: {GPUS}}}
"""


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
def one_node_slurm(folder: Path, cpus: int, accounting: bool = False) -> Iterator[None]:
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
    (folder / "partitions.yaml").write_text(PARTITIONS)
    host = socket.gethostname().split(".")[0]
    port, storage_port = _free_port(), _free_port()
    told = WITH_ACCOUNTING.format(folder=folder, port=port) if accounting else WITHOUT_ACCOUNTING
    (folder / "slurm.conf").write_text(
        told
        + CONFIG.format(
            folder=folder,
            host=host,
            cpus=cpus,
            memory=MEMORY_MB,
            gpus=GPUS,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
    )
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/gpu0\n")
    munge = [
        "munged", "--foreground", "--force", f"--key-file={key}",
        f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed",
    ]  # fmt: skip
    with ExitStack() as daemons:
        database = folder / "slurmdbd.conf"
        database.touch(mode=0o600)
        database.write_text(DATABASE.format(folder=folder, port=port, storage_port=storage_port))
        for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
            place = CONFIGURED / name
            place.unlink(missing_ok=True)
            place.symlink_to(folder / name)
            daemons.callback(place.unlink)
        _start(daemons, munge, folder)
        _wait(lambda: (folder / "munge.socket").exists(), "munged", folder)
        if accounting:
            _start_accounting(daemons, folder, storage_port)
        _start(daemons, ["slurmctld", "-D"], folder)
        _start(daemons, ["slurmd", "-D", "-N", host], folder)
        _wait(lambda: _state() == "idle", "slurm", folder)
        yield


def _start_accounting(daemons: ExitStack, folder: Path, port: int) -> None:
    """A database, Slurm's service before it, and the account."""
    storage = f"--datadir={folder}/database"
    (folder / "tables.sql").write_text(TABLES)
    made = ["mariadb-install-db", "--no-defaults", "--user=root", storage]
    subprocess.run(made, capture_output=True, check=True)
    serve = [
        "mariadbd", "--no-defaults", "--user=root", storage, f"--init-file={folder}/tables.sql",
        f"--socket={folder}/mariadb.socket", f"--pid-file={folder}/mariadb.pid",
        "--bind-address=127.0.0.1", f"--port={port}",
    ]  # fmt: skip
    _start(daemons, serve, folder)
    _wait(lambda: _answers(port), "mariadbd", folder)
    _start(daemons, ["slurmdbd", "-D"], folder)
    _wait(lambda: _told("cluster", "onenode"), "slurmdbd", folder)
    _wait(lambda: _told("account", ACCOUNT), "the account", folder)
    _wait(lambda: _told("user", "root", f"account={ACCOUNT}"), "the user", folder)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _told(*words: str) -> bool:
    """Whether Slurm's accounting has taken something in."""
    command = ["sacctmgr", "--immediate", "add", *words]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(daemons: ExitStack, command: list[str], folder: Path) -> None:
    output = daemons.enter_context((folder / f"{command[0]}.output").open("w"))
    daemon = subprocess.Popen(command, stdout=output, stderr=output)
    daemons.callback(_end, daemon)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _state() -> str:
    shown = subprocess.run(
        ["sinfo", "--noheader", "--partition=cpu", "--format=%T"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return shown.stdout.strip()


def _wait(ready: Callable[[], bool], name: str, folder: Path) -> None:
    for _ in range(300):
        if ready():
            return
        time.sleep(0.1)
    said = "\n".join(p.read_text()[-2000:] for p in folder.glob("*.output"))
    raise RuntimeError(f"{name} did not start: {said}")


def run_under_slurm(
    configfile: Path, folder: Path, *targets: str, cpus: int = 2, accounting: bool = False
) -> float:
    """Run a config by the profile, in a folder of its own; seconds that it took.

    With accounting, by the profile that is edited for it; ``folder/accounting.txt`` then has the
    account and state of each job. Raises RuntimeError if Snakemake fails, with the end of its log.
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
