"""The pages lead to what is there: links, files, and configs that may be copied."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline_lib import __version__
from pipeline_lib.config import Config, with_defaults

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / folder / "README.md" for folder in ("config", "benchmarks", "studies")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
NAMED = re.compile(r"`((?:config|docs|src|workflow|envs|tests|benchmarks|studies)/[\w./*-]+)`")
"""A path of the repository in backticks."""
FOLDERS = "config|tests|benchmarks|studies|workflow|envs"
COMMANDED = re.compile(rf"(?:{FOLDERS})/[\w./-]+\.(?:ya?ml|py|csv)")
"""A file of the repository in a command."""


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def blocks(page: Path, language: str) -> Iterator[str]:
    for found, content in FENCE.findall(page.read_text()):
        if found == language:
            yield content


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub makes of the headings."""
    found: Counter[str] = Counter()
    for heading in HEADING.findall(prose(page)):
        shown = LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading)
        found[re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")] += 1
    return {f"{slug}-{n}" if n else slug for slug, count in found.items() for n in range(count)}


@each_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    wrong = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            wrong.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{link}: no such heading")
    assert not wrong


@each_page
def test_files_that_are_named_are_there(page: Path) -> None:
    commands = "\n".join(blocks(page, "console"))
    named = {*NAMED.findall(prose(page)), *COMMANDED.findall(commands)}
    assert not [name for name in named if not [*ROOT.glob(name.rstrip("/"))]]


def configs() -> Iterator[tuple[str, dict[str, object]]]:
    """Blocks that begin with a run, or with the name of a config."""
    for page in PAGES:
        for number, block in enumerate(blocks(page, "yaml")):
            if re.match(r"run:|# \w+\.yaml", block):
                yield f"{page.stem}-{number}", yaml.safe_load(block)


@pytest.mark.parametrize(("name", "content"), [pytest.param(*c, id=c[0]) for c in configs()])
def test_configs_of_the_pages_are_valid(name: str, content: dict[str, object]) -> None:
    # Files and models that they name are the reader's.
    Config.model_validate(with_defaults(content))


def test_the_version_is_the_same_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
