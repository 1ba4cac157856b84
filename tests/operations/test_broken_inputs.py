"""A broken input or config in a real run: one line, no traceback, nothing half-written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from real_runs import half_written, own_cubes, run

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def test_a_broken_input_ends_in_one_line(tmp_path: Path) -> None:
    config = own_cubes(tmp_path, "mine")
    (tmp_path / "mine.nc").write_text("date;B02;B03\n2020-01-01;0.1;0.2\n")
    ended = run(tmp_path, "cubes", "--configfile", str(config))
    assert ended.status == 1 and not ended.traceback, ended.text
    (line,) = re.findall(r"^ingest_cube: .*mine\.nc.*$", ended.text, re.MULTILINE)
    log = line.rpartition("(traceback: ")[2].removesuffix(")")
    assert "Traceback" in (tmp_path / log).read_text()
    assert not half_written(tmp_path) and not list(tmp_path.rglob("*.zarr.zip"))


def test_a_broken_config_starts_no_job(tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(yaml.safe_dump({"seed": "many", "sites": {"bounsd": [1, 2, 3, 4]}}))
    ended = run(tmp_path, "--configfile", str(config))
    assert ended.status == 1 and not ended.traceback, ended.text
    assert "2 mistake(s)" in ended.text and "did you mean `sites.bounds`?" in ended.text
    assert not (tmp_path / "results").exists()
