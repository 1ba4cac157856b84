"""A plan: the work of a config by stage and in all, as numbers, as JSON and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline_lib.plan.work import STAGES, Work

HOUR = 3600.0
UNITS = {"PB": 1e15, "TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


@dataclass(frozen=True)
class Sum:
    """Some rules together.

    Attributes
    ----------
    name
        Of the stage, or ``total``.
    jobs
        How many.
    core_hours
        Without a GPU.
    gpu_hours
        Of the jobs that ask for a GPU, on one; None where none does.
    read, written, kept
        Bytes from the catalog, to disk, and on disk at the end.
    memory_mb
        Most that a job asks for, 1e6 bytes.
    """

    name: str
    jobs: int
    core_hours: float
    gpu_hours: float | None
    read: float
    written: float
    kept: float
    memory_mb: int


@dataclass(frozen=True)
class Plan:
    """What a whole run takes.

    Attributes
    ----------
    run
        Name of the run.
    stages
        In their order.
    total
        All of them.
    jobs
        Rule -> number of jobs.
    notes
        What the numbers rest on, and what they leave out; a line each.
    """

    run: str
    stages: tuple[Sum, ...]
    total: Sum
    jobs: Mapping[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` told."""
        stages = tuple(Sum(**stage) for stage in content["stages"])
        total, notes = Sum(**content["total"]), tuple(content["notes"])
        return cls(content["run"], stages, total, dict(content["jobs"]), notes)


def summarise(
    run: str, work: Iterable[Work], memory_mb: Mapping[str, int], notes: Sequence[str]
) -> Plan:
    """Add work up by stage.

    Parameters
    ----------
    run
        Name of the run.
    work
        From `work_of`.
    memory_mb
        Rule -> most that one of its jobs asks for.
    notes
        Lines that belong to the plan.
    """
    rows = list(work)
    by_stage = {stage: [row for row in rows if row.stage == stage] for stage in STAGES}
    return Plan(
        run=run,
        stages=tuple(_sum(name, part, memory_mb) for name, part in by_stage.items() if part),
        total=_sum("total", rows, memory_mb),
        jobs={row.rule: row.jobs for row in rows},
        notes=tuple(notes),
    )


def _sum(name: str, rows: Sequence[Work], memory_mb: Mapping[str, int]) -> Sum:
    gpu = [row.gpu_seconds for row in rows if row.gpu_seconds is not None]
    return Sum(
        name=name,
        jobs=sum(row.jobs for row in rows),
        core_hours=sum(row.core_seconds for row in rows) / HOUR,
        gpu_hours=sum(gpu) / HOUR if gpu else None,
        read=sum(row.read for row in rows),
        written=sum(row.written for row in rows),
        kept=sum(row.kept for row in rows),
        memory_mb=max(memory_mb.get(row.rule, 0) for row in rows),
    )


HEADINGS = (
    *("stage", "jobs", "core hours", "GPU hours", "from the catalog", "written", "on disk"),
    "memory of a job",
)


def table(plan: Plan) -> list[tuple[str, ...]]:
    """The plan as rows of text, headings first, the total last."""
    return [HEADINGS, *(_row(part) for part in (*plan.stages, plan.total))]


def _row(part: Sum) -> tuple[str, ...]:
    return (
        *(part.name, f"{part.jobs:,}", told_hours(part.core_hours), told_hours(part.gpu_hours)),
        *(told_bytes(size) for size in (part.read, part.written, part.kept)),
        told_bytes(1e6 * part.memory_mb),
    )


def told_hours(hours: float | None) -> str:
    """Hours to two or three digits; nothing for none."""
    if not hours:
        return ""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def told_bytes(size: float) -> str:
    """Bytes in the unit that suits them, to two or three digits; nothing for none."""
    if size <= 0:
        return ""
    unit, factor = unit_of(size)
    size /= factor
    return f"{size:.0f} {unit}" if size >= 10 else f"{size:.2g} {unit}"


def unit_of(size: float) -> tuple[str, float]:
    """Unit that some bytes are told in, and how many bytes it has."""
    return next(((unit, factor) for unit, factor in UNITS.items() if size >= factor), ("B", 1.0))


def as_markdown(plan: Plan) -> str:
    """The plan as Markdown that can be read on a terminal as it is."""
    heading, *rows = table(plan)
    widths = [max(3, *map(len, column)) for column in zip(heading, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [f"# Plan of the run {plan.run}, as if nothing of it were there", ""]
    for row in (heading, rule, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    told = ", ".join(f"{name} {count:,}" for name, count in plan.jobs.items())
    return (
        "\n".join([*lines, "", f"Jobs: {told}", "", *(f"* {note}" for note in plan.notes)]) + "\n"
    )
