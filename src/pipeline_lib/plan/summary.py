"""A plan: the work of a config by stage and in all, as numbers and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_lib.plan.work import Work

HOUR = 3600.0
UNITS = {"PB": 1e15, "TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


@dataclass(frozen=True)
class Stage:
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


@dataclass(frozen=True)
class Plan:
    """What a whole run takes: its stages, their total, jobs by rule, and what that rests on."""

    run: str
    stages: tuple[Stage, ...]
    total: Stage
    jobs: Mapping[str, int]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """The plan of `to_json`."""
        stages = tuple(Stage(**stage) for stage in content["stages"])
        notes = tuple(content["notes"])
        return cls(content["run"], stages, Stage(**content["total"]), dict(content["jobs"]), notes)


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


HEADINGS = (
    *("stage", "jobs", "core hours", "GPU hours", "from the catalog", "on disk"),
    "memory of a job",
)


def format_hours(hours: float) -> str:
    """Hours to two or three digits; nothing for none."""
    if not hours:
        return ""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


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
    rows = [
        (
            *(stage.name, f"{stage.jobs:,}"),
            *(format_hours(hours) for hours in (stage.core_hours, stage.gpu_hours)),
            *(format_bytes(size) for size in (stage.read, stage.kept, 1e6 * stage.memory_mb)),
        )
        for stage in (*plan.stages, plan.total)
    ]
    widths = [max(3, *map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [f"# Plan of the run {plan.run}, from its start", ""]
    for row in (HEADINGS, ruler, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    jobs = ", ".join(f"{rule} {count:,}" for rule, count in plan.jobs.items())
    return "\n".join([*lines, "", f"Jobs: {jobs}", "", *(f"* {n}" for n in plan.notes)]) + "\n"
