"""Broken inputs in real runs: the quick ones; the script has the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from broken_inputs import CASES, Case, half_hourly_fluxes, no_raster, outcome, text_as_netcdf

QUICK = [case for case in CASES if case.prepare in (text_as_netcdf, half_hourly_fluxes, no_raster)]


@pytest.mark.workflow
@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.prepare.__name__)
def test_a_broken_input_ends_in_one_line(case: Case, tmp_path: Path) -> None:
    came = outcome(case, tmp_path)
    assert came.ended.status == 1 and not came.ended.traceback, came.ended.text
    assert len(came.lines) == 1 and came.logged, came.ended.text
    assert re.fullmatch(r"\w+: .*(mine\.nc|fluxnet|map\.tif).*; .* \(traceback: .*\)", *came.lines)
    assert not (tmp_path / case.target).exists() and not came.half_written
