"""What a run leaves, as digests: two runs are equal where these are."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.files import digest_file

NOT_PRODUCTS = ("logs", "benchmarks", "state")


def products(run: Path) -> dict[str, str]:
    """Path within a run's folder -> SHA-256, of every product."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file())
    named = {path.relative_to(run).as_posix(): path for path in files}
    return {
        name: digest_file(path)
        for name, path in named.items()
        if name.split("/")[0] not in NOT_PRODUCTS
    }


def differences(run: Path, other: Path) -> list[str]:
    """Products that two runs do not share, each with what is wrong with it."""
    mine, its = products(run), products(other)
    return [
        f"{name}: {'differs' if name in mine and name in its else 'is in one run only'}"
        for name in sorted(mine.keys() | its.keys())
        if mine.get(name) != its.get(name)
    ]
