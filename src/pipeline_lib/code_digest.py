"""Digests of the code that a job runs, from the modules that its script imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGES = ("pipeline_lib", "simulated_archive")
ROOT = Path(__file__).parents[1]
LEFT_OUT = {"pipeline_lib", "pipeline_lib.scripting"}
"""The version number; and what a script does around its one call: log and error message."""


def code_digest(script: Path, *loaded: str) -> str:
    """Digest of a script or module, and of all modules of this project that it imports.

    Snakemake does not see an edit of an imported library; a rule with this digest in its params
    reruns after one. Nothing is imported to find the modules, imports inside functions count, and
    a name that a package only passes on leads to the module that defines it. Comments, docstrings
    and the descriptions of config keys do not count; templates and style sheets that a module
    names do. ``loaded`` are functions or modules that are only named in data, such as
    ``pipeline_lib.cubes.read_cube``.
    """
    found = {"": script}
    todo = [*_imports(script), *(_defining(*name.rpartition(".")[::2]) for name in loaded)]
    while todo:
        module = todo.pop()
        if module not in found and module not in LEFT_OUT:
            found[module] = _file(module)
            todo += _imports(found[module])
    content = [f"{module} {_digest(file)}" for module, file in sorted(found.items())]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]


def _file(module: str) -> Path:
    """Source of a module or package, which need not exist."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(file: Path) -> ast.Module:
    """Syntax tree without docstrings and descriptions of config keys."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [line for line in node.body if not _is_text(line)]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Field":
            node.keywords = [word for word in node.keywords if word.arg != "description"]
    return tree


def _is_text(line: ast.stmt) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """Modules of this project that define what a file imports."""
    found = []
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.startswith(PACKAGES)]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES):
            found += [_defining(str(node.module), name.name) for name in node.names]
    return tuple(found)


@cache
def _defining(package: str, name: str) -> str:
    """The module that defines what is imported from a package by this name."""
    if _file(f"{package}.{name}").exists():
        return f"{package}.{name}"
    if (file := _file(package)).name == "__init__.py":
        for line in ast.walk(_tree(file)):
            if isinstance(line, ast.ImportFrom) and (line.module or "").startswith(PACKAGES):
                for passed in line.names:
                    if name == (passed.asname or passed.name):
                        return _defining(str(line.module), passed.name)
    return package


@cache
def _digest(file: Path) -> str:
    tree = _tree(file)
    state = hashlib.sha256(ast.dump(tree).encode())
    for path in _named_files(file.parent, tree):
        state.update(path.read_bytes())
    return state.hexdigest()


def _named_files(folder: Path, tree: ast.Module) -> Iterator[Path]:
    """Templates and style sheets below a folder that a module of it names."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for path in sorted(folder.rglob("*.*")):
        if path.name in texts and path.suffix != ".py":
            yield path
