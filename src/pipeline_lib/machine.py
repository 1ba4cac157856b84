"""What jobs may take of this machine: its memory, and its GPUs."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import pairwise, takewhile
from pathlib import Path

MB = 10**6


def available_mb(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> int:
    """Memory that is available now, MB: to the machine, its control groups and Slurm's allocation.

    ``root`` is the folder of ``proc`` and ``sys``.
    """
    found = [*_of_slurm(environment), *_of_groups(root)]
    with suppress(OSError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    if not found:  # Not Linux
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    return max(1, min(found) // MB)


def _of_slurm(environment: Mapping[str, str]) -> Iterator[int]:
    if environment.get("SLURM_MEM_PER_NODE", "0") != "0":  # 0: all of the node
        yield int(environment["SLURM_MEM_PER_NODE"]) * 2**20
    elif environment.get("SLURM_MEM_PER_CPU", "0") != "0":
        cpus = int(environment.get("SLURM_CPUS_ON_NODE", "1"))
        yield int(environment["SLURM_MEM_PER_CPU"]) * cpus * 2**20


def _of_groups(root: Path) -> Iterator[int]:
    """Bytes that are left to the control group (version 2) of this process and to those above."""
    top = root / "sys/fs/cgroup"
    with suppress(OSError):
        top /= (root / "proc/self/cgroup").read_text().partition("0::/")[2].strip()
    for folder in (top, *top.parents):
        # A container does not see all folders; "max" is no limit.
        with suppress(OSError, ValueError):
            limit, usage = (int((folder / f"memory.{n}").read_text()) for n in ("max", "current"))
            counts = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
            yield limit - usage + int(counts["inactive_file"])


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that a process may use, as `CUDA_VISIBLE_DEVICES` names them.

    Those of the variable, which Slurm sets too, if there is one; else the UUIDs of all, or of their
    MIG instances. Empty without GPUs.
    """
    if (given := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        # CUDA ignores what follows an invalid entry.
        return list(takewhile(lambda name: name not in ("", "-1"), re.split(r"\s*,\s*", given)))
    try:
        shown = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    uuids = re.findall(r"UUID: ((?:GPU|MIG)-[^)]+)", shown)
    # The instances of a GPU follow it; CUDA does not use it as a whole then.
    return [
        uuid
        for uuid, following in pairwise([*uuids, ""])
        if uuid.startswith("MIG") or not following.startswith("MIG")
    ]


def take_gpus(count: int, keep: ExitStack) -> list[str]:
    """GPUs for a job, which no other job of this user takes until ``keep`` is closed.

    If fewer are free, some are shared.
    """
    visible = visible_gpus()
    # The same name is another GPU in another allocation.
    allocation = os.environ.get("SLURM_JOB_ID", "")
    folder = Path(tempfile.gettempdir(), f"embeddings-gpus-{os.getuid()}-{allocation}")
    taken: list[str] = []
    for gpu in visible:
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            file = keep.enter_context((folder / gpu.replace("/", "-")).open("w"))
            if len(taken) < count:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken.append(gpu)
    first = os.getpid() % max(1, len(visible))
    others = [gpu for gpu in visible[first:] + visible[:first] if gpu not in taken]
    return (taken + others)[:count]
