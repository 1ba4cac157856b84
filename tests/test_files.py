"""Products appear whole or not at all; digests depend on content alone."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, digest_of, pack, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    target = tmp_path / "product.json"
    write_json(target, {"version": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert read_json(target) == {"version": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "store"
    for name in ("old", "new"):
        with atomic_path(target) as partial:
            partial.mkdir()
            (partial / name).touch()
    assert [path.name for path in target.iterdir()] == ["new"]


def test_killed_while_a_folder_is_replaced_no_part_of_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "store"

    def write(name: str) -> None:
        with atomic_path(target) as partial:
            partial.mkdir()
            (partial / name).touch()
            (partial / "index").touch()

    remove = shutil.rmtree

    def killed(folder: Path) -> None:
        if not (Path(folder) / "old").exists():
            return remove(folder)
        (Path(folder) / "old").unlink()
        raise KeyboardInterrupt

    write("old")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        write("new")
    assert not target.exists()
    write("new")
    write("newer")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert {path.name for path in target.iterdir()} == {"newer", "index"}


def test_a_killed_write_is_swept_up_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "product.txt"
    script = """
import os, signal, sys
from pipeline_lib.files import atomic_path
with atomic_path(sys.argv[1]) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(target)])
    assert killed.returncode == -signal.SIGKILL and list(tmp_path.iterdir())
    assert not target.exists()
    with atomic_path(target) as partial:
        assert not partial.exists()
        partial.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["product.txt"]


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_damaged_json_is_a_user_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": ')
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_packed_folder_depends_on_content_alone(tmp_path: Path) -> None:
    digests = []
    for run, names in enumerate((["b", "a"], ["a", "b"])):
        folder = tmp_path / f"folder{run}"
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
            os.utime(folder / name, (run, run))
        pack(folder, tmp_path / f"{run}.zip")
        digests.append((tmp_path / f"{run}.zip").read_bytes())
    assert digests[0] == digests[1]
    assert zipfile.ZipFile(tmp_path / "0.zip").namelist() == ["a", "b"]


@given(st.dictionaries(st.text(), st.integers()))
def test_a_digest_does_not_depend_on_the_order_of_keys(content: dict[str, int]) -> None:
    assert digest_of(content) == digest_of(dict(reversed(list(content.items()))))
