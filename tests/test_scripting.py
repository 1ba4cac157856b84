"""What a script of the workflow leaves in its log and on the terminal."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.scripting import job

SIGNED = "https://account.blob.core.windows.net/container/B02.tif?st=2026&sig=se%2Fcret"


@pytest.fixture
def rule(tmp_path: Path) -> SimpleNamespace:
    return SimpleNamespace(log=[str(tmp_path / "logs" / "rule.log")], rule="build_cube")


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "cube.zip")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("the cube is missing; find it"), "the cube is missing; find it (traceback: "),
        (KeyError("two\nlines"), "unexpected KeyError: 'two\\nlines'; report it with the log"),
        (ValueError("two\nlines" * 500), "unexpected ValueError: two lines"),
        (FULL, "[Errno 28] No space left on device: 'cube.zip'; fix that, then run again"),
        (RuntimeError("GDAL: No space left on device"), "GDAL: No space left on device; fix"),
        (caused(UserError("mine.nc: unreadable"), FULL), "[Errno 28] No space left"),
        (caused(UserError("mine.nc: unreadable"), MemoryError()), "out of memory; use fewer"),
        (caused(UserError("mine.nc: unreadable"), OSError(errno.ENOENT, "gone")), "mine.nc: unr"),
        (KeyboardInterrupt(), "interrupted; run again to continue"),
    ],
    ids=repr,
)
def test_a_failed_job_ends_in_one_line_and_its_log_holds_the_traceback(
    error: BaseException, line: str, rule: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), job(rule):
        print("output")
        raise error
    shown = capfd.readouterr().err.splitlines()
    assert len(shown) == 1 and shown[0].startswith(f"build_cube: {line}") and len(shown[0]) < 600
    log = Path(rule.log[0]).read_text()
    assert log.startswith("output\n")
    assert isinstance(error, KeyboardInterrupt) or "Traceback" in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_on_a_full_disk_fails_no_job(rule: SimpleNamespace) -> None:
    Path(rule.log[0]).parent.mkdir()
    Path(rule.log[0]).symlink_to("/dev/full")
    with job(rule):
        print("a line that is lost")


def test_no_signature_is_in_a_log_or_on_the_terminal(
    rule: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), job(rule):
        print(f"reading {SIGNED}")
        logging.getLogger("rasterio._env").warning("HTTP response code on %s: 403", SIGNED)
        print(f"'{SIGNED}'", file=sys.stderr)
        print("Max retries exceeded with url: /c/B02.tif?sp=r&sig=se%2Fcret")  # without its host
        raise UserError(f"refused: {SIGNED}") from RuntimeError(f"Error opening {SIGNED!r}")
    log = Path(rule.log[0]).read_text()
    assert "cret" not in log + capfd.readouterr().err
    assert log.count("https://account.blob.core.windows.net/container/B02.tif?...") == 5


def test_a_finished_job_leaves_no_handler_on_its_closed_log(
    rule: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    with job(rule):
        logging.getLogger("pipeline_lib").info("inside")
    logging.getLogger("pipeline_lib").warning("outside")
    assert (root.level, root.handlers) == before
    assert Path(rule.log[0]).read_text() == "INFO:pipeline_lib:inside\n"
    assert capsys.readouterr().err == ""


def test_a_job_is_refused_while_the_same_of_a_killed_run_goes_on(
    rule: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    with job(rule):
        # Snakemake does it before it starts a job.
        Path(rule.log[0]).unlink()
        with pytest.raises(SystemExit), job(rule):
            raise AssertionError
    assert "build_cube: the same job of an earlier run is alive (" in capfd.readouterr().err
    with job(rule):
        print("third")
    assert Path(rule.log[0]).read_text() == "third\n"
