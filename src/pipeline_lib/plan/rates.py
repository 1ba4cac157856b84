"""What a unit of work costs, and what is assumed of satellites, clouds and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json

ASSUMPTION = "assumption"
"""What the origin of a rate begins with that nobody measured."""


@dataclass(frozen=True)
class Rates:
    """The rates of one machine, by name.

    Attributes
    ----------
    path
        File that they come from.
    machine, day
        What they were measured on, and when.
    rates
        Name -> ``value``, ``unit`` and ``by``: what it was measured by, or the reason of an
        assumption.
    """

    path: Path
    machine: str
    day: str
    rates: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Rates:
        """Read a file that ``benchmarks/rates.py`` wrote.

        Raises
        ------
        UserError
            If it is absent or holds no rates.
        """
        content = read_json(path)
        try:
            return cls(path, content["machine"], content["date"], content["rates"])
        except (TypeError, KeyError) as error:
            raise UserError(f"{path}: holds no rates ({error}); run benchmarks/rates.py") from None

    def __call__(self, name: str) -> float:
        """A rate that is one number.

        Raises
        ------
        UserError
            If the file lacks it.
        """
        return float(self._value(name))

    def of_job(self, rule: str) -> float:
        """Seconds of a job whose length depends on no config; at least those of its start."""
        name = f"job.{rule}"
        return self(name) if name in self.rates else self("start")

    def cycles(self, loader: str, first: date, last: date) -> float:
        """How often a satellite follows one track between two days, both included.

        The revisit is a list of first days, and of the days between two passes from then on.
        """
        spans = [
            (date.fromisoformat(day), days) for day, days in self._value(f"passes.{loader}.revisit")
        ]
        ends = [day for day, _ in spans[1:]] + [date.max]
        after = last + timedelta(days=1)
        return sum(
            max(0, (min(end, after) - max(begin, first)).days) / days
            for (begin, days), end in zip(spans, ends, strict=True)
        )

    def assumed(self) -> dict[str, str]:
        """Name -> reason of each rate that nobody measured."""
        return {
            name: rate["by"]
            for name, rate in self.rates.items()
            if rate["by"].startswith(ASSUMPTION)
        }

    def _value(self, name: str) -> Any:
        if name not in self.rates:
            raise UserError(f"{self.path}: lacks the rate {name}; run benchmarks/rates.py")
        return self.rates[name]["value"]
