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
from pipeline_lib.config import Config, parse
from pipeline_lib.scripting import job

GB = 10**9
UUIDS = [f"GPU-{letter * 8}-0000" for letter in "abcd"]
LISTED = "".join(f"GPU {n}: NVIDIA A100 (UUID: {uuid})\n" for n, uuid in enumerate(UUIDS))
PARTED = f"""GPU 0: NVIDIA H200 (UUID: {UUIDS[0]})
  MIG 1g.18gb     Device  0: (UUID: MIG-11111111-0000)
  MIG 1g.18gb     Device  1: (UUID: MIG-22222222-0000)
GPU 1: NVIDIA H200 (UUID: {UUIDS[1]})
"""


def machine_of(root: Path, groups: str, limits: dict[str, tuple[int | str, int, int]]) -> Path:
    """Files of a machine with 64 GiB available; by folder: limit, usage and cache, in GB."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text("MemTotal: 99999999 kB\nMemAvailable: 67108864 kB\n")
    (root / "proc" / "self" / "cgroup").write_text(groups)
    for folder, (limit, usage, cache) in limits.items():
        old = folder.startswith("memory")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        top, now, stat = names if old else ("memory.max", "memory.current", "inactive_file")
        inner = root / "sys" / "fs" / "cgroup" / folder
        inner.mkdir(parents=True, exist_ok=True)
        (inner / top).write_text(f"{limit if limit == 'max' else int(limit) * GB}\n")
        (inner / now).write_text(f"{usage * GB}\n")
        (inner / "memory.stat").write_text(f"anon 1\n{stat} {cache * GB}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "limits", "environment", "mb"),
    [
        ("0::/\n", {}, {}, 68719),
        ("0::/a/b\n", {"a/b": ("max", 3, 0), "a": (8, 4, 2)}, {}, 6000),
        ("0::/a/b\n", {"a/b": (16, 1, 0), "a": (8, 4, 2)}, {}, 6000),
        ("0::/of/the/host\n", {"": (8, 1, 0)}, {}, 7000),
        ("4:cpu,memory:/x\n0::/\n", {"memory/x": (4, 1, 0), "memory": (9, 0, 0)}, {}, 3000),
        ("4:memory:/of/the/host\n", {"memory": (4, 1, 0)}, {}, 3000),
        ("0::/\n", {}, {"SLURM_MEM_PER_NODE": "4000"}, 4194),
        ("0::/\n", {}, {"SLURM_MEM_PER_CPU": "1000", "SLURM_CPUS_ON_NODE": "8"}, 8388),
        ("0::/\n", {}, {"SLURM_MEM_PER_NODE": "0"}, 68719),
    ],
)
def test_memory_is_what_machine_group_and_allocation_leave(
    groups: str,
    limits: dict[str, tuple[int | str, int, int]],
    environment: dict[str, str],
    mb: int,
    tmp_path: Path,
) -> None:
    assert machine.available_mb(machine_of(tmp_path, groups, limits), environment) == mb


def test_memory_is_known_where_there_is_no_proc(tmp_path: Path) -> None:
    assert machine.available_mb(tmp_path, {}) > 100


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


def seen(folder: Path, gpu: int, stage: str | None = "embed", **changes: object) -> str | None:
    """CUDA_VISIBLE_DEVICES in a job."""
    with job(rule_of(folder, gpu, **changes), stage):  # type: ignore[arg-type]
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


def test_another_allocation_has_gpus_of_its_own(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with ExitStack() as keep:
        assert machine.take_gpus(1, keep) == ["0"]
        assert machine.take_gpus(1, keep) == ["1"]
        monkeypatch.setenv("SLURM_JOB_ID", "17")
        assert machine.take_gpus(1, keep) == ["0"]


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


def test_one_word_sets_all_devices() -> None:
    assert set(parse({"devices": "cpu"}).devices.model_dump().values()) == {"cpu"}
    assert Config().devices.clouds == "cpu" and Config().devices.training == "gpu"
