"""What a job sees of the machine: memory that is left, and GPUs that no other job has."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline_lib import machine
from pipeline_lib.scripting import job

GB = 10**9
UUIDS = [f"GPU-{letter * 8}-0000" for letter in "abcd"]
LISTED = "".join(f"GPU {n}: NVIDIA A100 (UUID: {uuid})\n" for n, uuid in enumerate(UUIDS))
PARTED = f"""GPU 0: NVIDIA H200 (UUID: {UUIDS[0]})
  MIG 1g.18gb     Device  0: (UUID: MIG-11111111-0000)
  MIG 1g.18gb     Device  1: (UUID: MIG-22222222-0000)
GPU 1: NVIDIA H200 (UUID: {UUIDS[1]})
"""


@pytest.mark.parametrize(
    ("group", "limits", "environment", "mb"),
    [
        # Of control groups, by folder: limit, usage and cache, in GB; 69 GB are available in all.
        ("/", {}, {}, 68719),
        ("/a/b", {"a/b": ("max", 3, 0), "a": (8, 4, 2)}, {}, 6000),
        ("/a/b", {"a/b": (16, 1, 0), "a": (8, 4, 2)}, {}, 6000),
        ("/of/the/host", {"": (8, 1, 0)}, {}, 7000),
        ("/", {}, {"SLURM_MEM_PER_NODE": "4000"}, 4194),
        ("/", {}, {"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_ON_NODE": "8"}, 8388),
        ("/", {}, {"SLURM_MEM_PER_NODE": "0"}, 68719),
    ],
)
def test_memory_is_what_machine_group_and_allocation_leave(
    group: str,
    limits: dict[str, tuple[int | str, int, int]],
    environment: dict[str, str],
    mb: int,
    tmp_path: Path,
) -> None:
    files = {
        "proc/meminfo": "MemTotal: 99999999 kB\nMemAvailable: 67108864 kB\n",
        "proc/self/cgroup": f"0::{group}\n",
    }
    for folder, (limit, usage, cache) in limits.items():
        inner = f"sys/fs/cgroup/{folder}"
        files[f"{inner}/memory.max"] = f"{limit}\n" if limit == "max" else f"{limit}000000000\n"
        files[f"{inner}/memory.current"] = f"{usage * GB}\n"
        files[f"{inner}/memory.stat"] = f"anon 1\ninactive_file {cache * GB}\n"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.available_mb(tmp_path, environment) == mb


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node whose nvidia-smi lists what its file says: four GPUs."""
    (tmp_path / "listed").write_text(LISTED)
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat {tmp_path / 'listed'}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(machine.tempfile, "tempdir", str(tmp_path))  # type: ignore[attr-defined]
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "gpus"),
    [
        (None, UUIDS),
        ("", []),
        ("-1", []),
        ("2,3", ["2", "3"]),
        ("0, 1,-1,2", ["0", "1"]),
        ("MIG-11111111-0000", ["MIG-11111111-0000"]),
    ],
)
def test_visible_gpus_are_those_of_the_variable_or_all(
    given: str | None, gpus: list[str], node: Path
) -> None:
    environment = {} if given is None else {"CUDA_VISIBLE_DEVICES": given}
    assert machine.visible_gpus(environment) == gpus


def test_instances_stand_for_the_gpu_that_is_parted(node: Path) -> None:
    (node / "listed").write_text(PARTED)
    assert machine.visible_gpus({}) == ["MIG-11111111-0000", "MIG-22222222-0000", UUIDS[1]]
    (node / "listed").write_text("NVIDIA-SMI has failed because it couldn't communicate\n")
    assert machine.visible_gpus({}) == []


def rule_of(folder: Path, gpu: int, number: int = 0, devices: object = "gpu") -> SimpleNamespace:
    log = [str(folder / f"{number}.log")]
    config = {"devices": devices}
    return SimpleNamespace(log=log, rule="embed_cube", resources={"gpu": gpu}, config=config)


def seen(
    folder: Path, gpu: int, stage: str | None = "embed", devices: object = "gpu"
) -> str | None:
    """CUDA_VISIBLE_DEVICES in a job."""
    with job(rule_of(folder, gpu, devices=devices), stage):
        return os.environ.get("CUDA_VISIBLE_DEVICES")


JOB = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_machine import rule_of
from pipeline_lib.scripting import job
with job(rule_of(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])), "embed"):
    print(os.environ["CUDA_VISIBLE_DEVICES"], file=sys.__stdout__, flush=True)
    input()
"""


def side_by_side(folder: Path, *counts: int) -> list[str]:
    """What jobs that run at the same time see."""
    here = str(Path(__file__).parent)
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", JOB, here, str(folder), str(count), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, count in enumerate(counts)
    ]
    try:
        return [one.stdout.readline().strip() for one in jobs if one.stdout]
    finally:
        for one in jobs:
            one.communicate("\n")


def test_jobs_side_by_side_have_different_gpus(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):  # What a job had is free after it.
        found = [gpu for shown in side_by_side(node, 1, 1, 2) for gpu in shown.split(",")]
        assert sorted(found) == UUIDS
    # More jobs than GPUs, as the user may ask for, share them.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert set(side_by_side(node, 1, 1, 1)) == {"3", "1"}
    # The same names are other GPUs in another allocation.
    with ExitStack() as keep:
        assert [machine.take_gpus(1, keep) for _ in range(2)] == [["3"], ["1"]]
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        assert machine.take_gpus(1, keep) == ["3"]


@pytest.mark.parametrize(
    ("gpu", "stage", "devices", "shown"),
    [
        (1, "embed", "gpu", UUIDS[0]),
        (0, "embed", "gpu", ""),
        (1, "embed", "cpu", ""),
        (1, None, "gpu", ""),
        (1, "clouds", {}, ""),
        (1, "clouds", {"clouds": "gpu"}, UUIDS[0]),
        (3, "training", {"embed": "cpu"}, ",".join(UUIDS[:3])),
    ],
)
def test_a_job_sees_a_gpu_only_where_its_rule_and_the_config_want_one(
    gpu: int, stage: str | None, devices: object, shown: str, node: Path
) -> None:
    assert seen(node, gpu, stage, devices=devices) == shown


def test_a_gpu_that_cannot_be_listed_is_left_to_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert seen(tmp_path, 1) == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert seen(tmp_path, 1) is None
