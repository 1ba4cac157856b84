"""Digests of a job's code: what changes them, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_lib import code_digest as module
from pipeline_lib.code_digest import code_digest
from pipeline_lib.config import LOADERS

FILES = {
    "pipeline_lib/__init__.py": '__version__ = "1"',
    "pipeline_lib/cubes/__init__.py": """
        from pipeline_lib.cubes.grid import Grid
        from pipeline_lib.cubes.schema import read as read_cube
        from pipeline_lib.cubes.ingest import ingest
        """,
    "pipeline_lib/cubes/grid.py": "class Grid: ...",
    "pipeline_lib/cubes/schema.py": "def read():\n    '''Reads.'''\n    return 1  # one",
    "pipeline_lib/cubes/ingest.py": "def ingest(): ...",
    "pipeline_lib/config.py": "key: int = Field(1, description='A key')",
    "pipeline_lib/page.py": "STYLE = 'page.css'",
    "pipeline_lib/templates/page.css": "p {}",
    "pipeline_lib/lazy.py": "def late():\n    from pipeline_lib.page import STYLE",
    "pipeline_lib/loader.py": "def load(): ...",
    "script.py": """
        import numpy
        from pipeline_lib.config import key
        from pipeline_lib.cubes import read_cube
        from pipeline_lib.lazy import late
        """,
}


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether an edit of a small library changes the digest of the script that uses it."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(line.strip(" ") for line in content.split("\n        ")))

    def forget() -> None:
        for cached in ("_tree", "_imports", "_defining", "_digest"):
            getattr(module, cached).cache_clear()

    def digest(*loaded: str) -> str:
        forget()
        return code_digest(tmp_path / "script.py", *loaded)

    def changed(name: str, old: str, new: str, *loaded: str) -> bool:
        path = tmp_path / name
        before, text = digest(*loaded), path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return digest(*loaded) != before

    yield changed
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("name", "old", "new", "counts"),
    [
        ("script.py", "numpy", "pandas", True),
        ("pipeline_lib/cubes/schema.py", "return 1", "return 2", True),
        ("pipeline_lib/config.py", "Field(1,", "Field(2,", True),
        ("pipeline_lib/lazy.py", "STYLE", "*", True),
        ("pipeline_lib/templates/page.css", "p", "h1", True),
        ("pipeline_lib/cubes/schema.py", "# one", "# 1", False),
        ("pipeline_lib/cubes/schema.py", "Reads.", "Read.", False),
        ("pipeline_lib/config.py", "A key", "The key", False),
        ("pipeline_lib/cubes/ingest.py", "...", "pass", False),
        ("pipeline_lib/__init__.py", "1", "2", False),
    ],
)
def test_code_and_templates_that_are_used_count(
    edited, name: str, old: str, new: str, counts: bool
) -> None:
    assert edited(name, old, new) == counts


def test_a_function_counts_where_data_names_it(edited) -> None:
    assert not edited("pipeline_lib/loader.py", "...", "pass")
    assert edited("pipeline_lib/loader.py", "pass", "1", "pipeline_lib.loader.load")


def test_a_cube_depends_on_the_loader_of_its_sensor_alone(project_root: Path) -> None:
    script = project_root / "workflow" / "scripts" / "build_cube.py"
    digests = {code_digest(script, loader.function) for loader in LOADERS.values()}
    assert len(digests) == len(LOADERS) and code_digest(script) not in digests
