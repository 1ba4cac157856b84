"""A plan: the work of a config by stage and in all, as numbers and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from pipeline_lib.plan.work import Work

HOUR = 3600.0
UNITS = {"PB": 1e15, "TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


class Stage(BaseModel, frozen=True):
    """Some rules together.

    ``core_hours`` are those without a GPU; ``gpu_hours`` those of the jobs that ask for one, on
    one; ``read`` and ``kept`` are bytes from the catalog and on disk; ``memory_mb`` is what the
    largest job asks for.
    """

    name: str
    jobs: int
    core_hours: float
    gpu_hours: float
    read: float
    kept: float
    memory_mb: int


class Plan(BaseModel, frozen=True):
    """What a whole run takes: its stages, their total, jobs by rule, and what that rests on."""

    run: str
    stages: tuple[Stage, ...]
    total: Stage
    jobs: dict[str, int]
    notes: tuple[str, ...]


def summarise(
    run: str, work: Iterable[Work], memory_mb: Mapping[str, int], notes: Sequence[str]
) -> Plan:
    """Work by stage, in the order in which the stages appear in it.

    ``memory_mb`` is what the largest job of a rule asks for, of the rules with large ones.
    """
    rows = list(work)
    stages = {row.stage: [other for other in rows if other.stage == row.stage] for row in rows}
    return Plan(
        run=run,
        stages=tuple(_stage(name, part, memory_mb) for name, part in stages.items()),
        total=_stage("total", rows, memory_mb),
        jobs={row.rule: row.jobs for row in rows},
        notes=tuple(notes),
    )


def _stage(name: str, rows: Sequence[Work], memory_mb: Mapping[str, int]) -> Stage:
    return Stage(
        name=name,
        jobs=sum(row.jobs for row in rows),
        core_hours=sum(row.core_seconds for row in rows) / HOUR,
        gpu_hours=sum(row.gpu_seconds for row in rows) / HOUR,
        read=sum(row.read for row in rows),
        kept=sum(row.kept for row in rows),
        memory_mb=max(memory_mb.get(row.rule, 0) for row in rows),
    )


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
    }
    columns: list[list[str]] = []
    for heading, cells in table.items():
        width = max(map(len, (heading, *cells)))
        align, ruler = (str.rjust, "-" * (width - 1) + ":") if columns else (str.ljust, "-" * width)
        columns.append([align(cell, width) for cell in (heading, ruler, *cells)])
    lines = [f"# Plan of the run {plan.run}, from its start", ""]
    lines += [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
    jobs = ", ".join(f"{rule} {count:,}" for rule, count in plan.jobs.items())
    return "\n".join([*lines, "", f"Jobs: {jobs}", "", *(f"* {n}" for n in plan.notes)]) + "\n"
