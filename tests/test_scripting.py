"""What a script of the workflow leaves in its log and on the terminal."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.scripting import job

SIGNED = "https://account.blob.core.windows.net/container/B02.tif?st=2026&sig=se%2Fcret"


def test_a_failed_job_ends_in_one_line_and_its_log_holds_the_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rule = SimpleNamespace(
        log=[str(tmp_path / "logs" / "rule.log")],
        output=[str(tmp_path / "cube.zip")],
        rule="build_cube",
    )
    with pytest.raises(SystemExit), job(rule):
        print("begun")
        raise UserError("the cube is lost; find it")
    shown = capfd.readouterr().err.strip().splitlines()
    assert shown == [f"build_cube: the cube is lost; find it (traceback: {rule.log[0]})"]
    log = Path(rule.log[0]).read_text()
    assert log.startswith("begun\n") and "Traceback" in log


def test_no_signature_stands_in_a_log(tmp_path: Path) -> None:
    rule = SimpleNamespace(
        log=[str(tmp_path / "rule.log")], output=[str(tmp_path / "cube.zip")], rule="build_cube"
    )
    with pytest.raises(SystemExit), job(rule):
        print(f"reading {SIGNED}")
        logging.getLogger("rasterio._env").warning("HTTP response code on %s: 403", SIGNED)
        print(f"'{SIGNED}'", file=sys.stderr)
        raise UserError("refused") from RuntimeError(f"Error opening {SIGNED!r}")
    log = Path(rule.log[0]).read_text()
    assert "cret" not in log and "sig=" not in log
    assert log.count("https://account.blob.core.windows.net/container/B02.tif?...") == 4


def test_a_job_that_ended_leaves_no_handler_on_its_closed_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    with job(
        SimpleNamespace(
            log=[str(tmp_path / "rule.log")], output=[str(tmp_path / "cube.zip")], rule="build_cube"
        )
    ):
        logging.getLogger("pipeline_lib").info("inside")
    logging.getLogger("pipeline_lib").warning("outside")
    assert (root.level, root.handlers) == before
    assert (tmp_path / "rule.log").read_text() == "INFO:pipeline_lib:inside\n"
    assert capsys.readouterr().err == ""
