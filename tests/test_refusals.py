"""What the operating system refuses is told in one line, whatever libraries make of it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.refusals import after_failure, check_writable, refusal
from pipeline_lib.scripting import job

FULL = Path("/dev/full")
"""A file of Linux that takes no byte, as on a full disk."""


def wrapped(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def system(code: int, path: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), *([path] if path else []))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (system(errno.ENOSPC), "no space left on the disk of {folder} ("),
        (system(errno.ENOSPC, "other/file"), "no space left on the disk of other/file ("),
        (system(errno.EDQUOT), "{folder}: your quota of its disk is used up; free space"),
        (system(errno.EROFS, "a.csv"), "a.csv: its file system is read-only; mount it"),
        (system(errno.EACCES, "a.csv"), "a.csv: no permission to read or write it; change that"),
        (system(errno.EIO), "{folder}: its disk fails (input/output error); check the disk"),
        (system(errno.EMFILE), "too many open files; raise the limit (ulimit -n"),
        (MemoryError(), "not enough memory; let fewer jobs run side by side (--cores"),
        (RuntimeError("Error code 12 (Cannot allocate memory)"), "not enough memory; "),
        (RuntimeError("strerror: No space left on device"), "no space left on the disk of"),
        (OSError("90000 requested and 8192 written"), "a file could not be written to its end"),
        (RuntimeError("inline_container.cc:672] . unexpected pos 576 vs 534"), "to its end"),
        (RuntimeError("TIFFAppendToStrip:Write error at scanline 0"), "to its end"),
        (wrapped(RuntimeError("hidden"), system(errno.ENOSPC)), "no space left"),
        (wrapped(UserError("delete it"), system(errno.ENOSPC)), "no space left"),
        (wrapped(UserError("delete it"), MemoryError()), "not enough memory"),
    ],
    ids=str,
)
def test_a_refusal_is_told_with_its_place_and_with_what_to_do(
    error: Exception, told: str, tmp_path: Path
) -> None:
    line = refusal(error, tmp_path)
    assert line is not None and told.format(folder=tmp_path) in line
    assert "run again" in line and "\n" not in line


def test_what_is_no_refusal_is_left_to_itself(tmp_path: Path) -> None:
    class Gdal(Exception):
        errno = 1  # the severity, in GDAL's errors

    missing = system(errno.ENOENT, "x")
    for error in (Gdal("odd"), missing, wrapped(UserError("mend it"), missing), ValueError("x")):
        assert refusal(error, tmp_path) is None
    # The user's own file may not be read: what says so says more.
    assert (
        refusal(wrapped(UserError("mine.nc: unreadable"), system(errno.EACCES)), tmp_path) is None
    )


def rule(log: Path, product: Path) -> SimpleNamespace:
    return SimpleNamespace(log=[str(log)], output=[str(product)], rule="build_cube")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_log_without_room_ends_no_job_and_is_named_when_one_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "rule.log"
    log.symlink_to(FULL)
    with job(rule(log, tmp_path / "cube.zip")):
        print("a line that is lost")
    assert capfd.readouterr().err == ""
    with pytest.raises(SystemExit), job(rule(log, tmp_path / "cube.zip")):
        print("a line that is lost")
        FULL.write_text("a cube")
    shown = capfd.readouterr().err.splitlines()
    assert len(shown) == 1 and shown[0].endswith(f"({log} could not be written)")
    assert shown[0].startswith("build_cube: no space left on the disk of ")


def test_a_log_that_cannot_be_made_ends_the_job_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    done = []
    with (
        pytest.raises(SystemExit),
        job(rule(tmp_path / "logs" / "rule.log", tmp_path / "cube.zip")),
    ):
        done.append("the job")
    shown = capfd.readouterr().err.splitlines()
    assert len(shown) == 1 and not done
    assert shown[0].startswith(f"build_cube: {tmp_path / 'logs' / 'rule.log'}: cannot be written")


def test_an_error_that_nobody_thought_of_is_one_line_and_an_interruption_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for error, told in (
        (KeyError("two\nlines"), "unexpected KeyError: 'two\\nlines'; report it with the log"),
        (ValueError("two\nlines" * 500), "unexpected ValueError: two lines"),
        (KeyboardInterrupt(), "interrupted; run again to go on"),
    ):
        with pytest.raises(SystemExit), job(rule(tmp_path / "rule.log", tmp_path / "cube.zip")):
            raise error
        shown = capfd.readouterr().err.splitlines()
        assert len(shown) == 1 and shown[0].startswith(f"build_cube: {told}")
        assert len(shown[0]) < 600


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    link = tmp_path / "results"
    link.symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match=r"is a link to .*unmounted, which is not there; mount"):
        check_writable(link / "paper")
    (tmp_path / "unmounted").mkdir()
    check_writable(link / "paper")
    assert not (link / "paper").exists()


def test_the_end_of_a_run_tells_of_jobs_that_could_not_say_a_word(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    died = "Command 'set -euo pipefail;  python scripts/tmp1.{}.py' died with <Signals.{}: 9>.\n"
    ends = ("embed_cube", "SIGKILL"), ("embed_cube", "SIGKILL"), ("report", "SIGSEGV")
    log.write_text("".join(died.format(*end) for end in ends))
    first, second = after_failure([log, tmp_path / "none.log"], [tmp_path])
    assert first.startswith("embed_cube (2 jobs): was killed (SIGKILL)")
    assert second.startswith("report: crashed (SIGSEGV)")
    assert list(after_failure([], [tmp_path])) == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_another_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written; mount it for writing, change its perm"):
        check_writable(tmp_path / "results")
