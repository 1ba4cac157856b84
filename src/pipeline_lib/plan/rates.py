"""What a unit of work costs on one machine, and what is assumed of satellites and clouds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json

RATES = Path(__file__).with_name("rates.json")


@dataclass(frozen=True)
class Rates:
    """The rates of one machine by name: each has a ``value``, a ``unit`` and an origin, ``by``."""

    path: Path
    machine: str
    day: str
    rates: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Rates:
        """Rates of a file of ``benchmarks/rates.py``."""
        content = read_json(path)
        return cls(path, content["machine"], content["date"], content["rates"])

    def __call__(self, name: str) -> float:
        """Value of a rate. Raises UserError if the file does not have it."""
        if name not in self.rates:
            raise UserError(f"{self.path}: no rate {name}; run benchmarks/rates.py")
        return float(self.rates[name]["value"])

    def assumed(self) -> list[str]:
        """Names of the rates that were not measured."""
        return sorted(n for n, rate in self.rates.items() if rate["by"].startswith("assumption"))
