"""A plan: the work of a config by stage and in all, as numbers and as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

if TYPE_CHECKING:
    from pipeline_lib.plan.work import Work

HOUR = 3600.0
UNITS = {"PB": 1e15, "TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


class Job(NamedTuple):
    """What the largest job of a rule asks for."""

    memory_mb: int
    threads: int = 1


class Machine(BaseModel, frozen=True):
    """What the jobs of a run share."""

    cores: int
    memory_mb: int
    gpus: int = 0


class Stage(BaseModel, frozen=True):
    """Some rules together.

    ``core_hours`` are those without a GPU; ``gpu_hours`` those of the jobs that ask for one, on
    one; ``read`` and ``kept`` are bytes from the catalog and on disk; ``memory_mb`` is what the
    largest job asks for. On the plan's machine, ``side_by_side`` of the jobs that take the longest
    run at the same time, and the stage takes ``wall_hours``.
    """

    name: str
    jobs: int
    core_hours: float
    gpu_hours: float
    read: float
    kept: float
    memory_mb: int
    side_by_side: int
    wall_hours: float


class Plan(BaseModel, frozen=True):
    """What a whole run takes: its stages, their total, jobs by rule, and what that rests on."""

    run: str
    machine: Machine
    stages: tuple[Stage, ...]
    total: Stage
    jobs: dict[str, int]
    notes: tuple[str, ...]


def summarise(
    run: str,
    work: Iterable[Work],
    largest: Mapping[str, Job],
    machine: Machine,
    notes: Sequence[str],
) -> Plan:
    """Work by stage, in the order in which the stages appear in it.

    ``largest`` are the largest jobs of the rules with large ones. Stages follow one another, and
    so do the rules of a stage.
    """
    rows = list(work)
    total = _stage("total", rows, largest, machine).model_copy(update={"side_by_side": 0})
    stages = {row.stage: [other for other in rows if other.stage == row.stage] for row in rows}
    return Plan(
        run=run,
        machine=machine,
        stages=tuple(_stage(name, part, largest, machine) for name, part in stages.items()),
        total=total,
        jobs={row.rule: row.jobs for row in rows},
        notes=tuple(notes),
    )


def _stage(name: str, rows: Sequence[Work], largest: Mapping[str, Job], machine: Machine) -> Stage:
    jobs = [largest.get(row.rule, Job(0)) for row in rows]
    here = [_here(row, job, machine) for row, job in zip(rows, jobs, strict=True)]
    return Stage(
        name=name,
        jobs=sum(row.jobs for row in rows),
        core_hours=sum(row.core_seconds for row in rows) / HOUR,
        gpu_hours=sum(row.gpu_seconds for row in rows) / HOUR,
        read=sum(row.read for row in rows),
        kept=sum(row.kept for row in rows),
        memory_mb=max(job.memory_mb for job in jobs),
        side_by_side=max(here)[1],
        wall_hours=sum(seconds for seconds, _ in here) / HOUR,
    )


def _here(row: Work, job: Job, machine: Machine) -> tuple[float, int]:
    """Seconds that the jobs of a rule take on a machine, and how many run side by side."""
    threads, fit = min(job.threads, machine.cores), [row.jobs]
    if row.gpu_seconds and machine.gpus:
        seconds = row.gpu_seconds
        fit.append(machine.gpus)
    else:
        seconds = row.core_seconds / threads
    fit += [machine.cores // threads, machine.memory_mb // max(1, job.memory_mb)]
    side_by_side = max(1, min(fit))
    return seconds / row.jobs * math.ceil(row.jobs / side_by_side), side_by_side


def format_hours(hours: float) -> str:
    """Hours to two or three digits; nothing for none."""
    if hours >= 10:
        return f"{hours:,.0f}"
    return f"{hours:.2g}" if hours else ""


def format_bytes(size: float) -> str:
    """Bytes in the unit that suits them, to two or three digits; nothing for none."""
    if size <= 0:
        return ""
    unit, factor = unit_of(size)
    size /= factor
    return f"{size:.0f} {unit}" if size >= 10 else f"{size:.2g} {unit}"


def unit_of(size: float) -> tuple[str, float]:
    """Unit for some bytes, and how many bytes it has."""
    return next(((unit, factor) for unit, factor in UNITS.items() if size >= factor), ("B", 1.0))


def as_markdown(plan: Plan) -> str:
    """The plan as Markdown that reads well on a terminal."""
    shown = (*plan.stages, plan.total)
    table = {
        "stage": [stage.name for stage in shown],
        "jobs": [f"{stage.jobs:,}" for stage in shown],
        "core hours": [format_hours(stage.core_hours) for stage in shown],
        "GPU hours": [format_hours(stage.gpu_hours) for stage in shown],
        "from the catalog": [format_bytes(stage.read) for stage in shown],
        "on disk": [format_bytes(stage.kept) for stage in shown],
        "memory of a job": [format_bytes(1e6 * stage.memory_mb) for stage in shown],
        "side by side": [f"{stage.side_by_side or ''}" for stage in shown],
        "hours here": [format_hours(stage.wall_hours) for stage in shown],
    }
    columns: list[list[str]] = []
    for heading, cells in table.items():
        width = max(map(len, (heading, *cells)))
        align, ruler = (str.rjust, "-" * (width - 1) + ":") if columns else (str.ljust, "-" * width)
        columns.append([align(cell, width) for cell in (heading, ruler, *cells)])
    lines = [f"# Plan of the run {plan.run}, from its start", ""]
    lines += [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
    jobs = ", ".join(f"{rule} {count:,}" for rule, count in plan.jobs.items())
    machine = plan.machine
    here = (
        f"Here: {machine.cores} cores, {format_bytes(1e6 * machine.memory_mb)} of memory, "
        f"{machine.gpus or 'no'} GPU; others with --cores and --resources mem_mb=... gpu=..."
    )
    lines += ["", here, "", f"Jobs: {jobs}", "", *(f"* {note}" for note in plan.notes), ""]
    return "\n".join(lines)
