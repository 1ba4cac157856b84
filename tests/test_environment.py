"""The lock, the conda environment and pyproject agree; imports stay light."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def lock(project_root: Path) -> dict[str, str]:
    lines = (project_root / "envs" / "requirements.lock").read_text().splitlines()
    pins = [re.fullmatch(r"([\w.-]+)==([\w.!+-]+)", line) for line in lines if line[:1] != "#"]
    assert all(pins), "the lock holds something else than pins"
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}


def test_every_requirement_is_pinned_to_a_version_it_allows(
    project_root: Path, lock: dict[str, str]
) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        version = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text} but {version} is pinned"


def test_the_conda_environment_installs_the_lock(project_root: Path) -> None:
    content = yaml.safe_load((project_root / "envs" / "environment.yaml").read_text())
    pip = next(entry for entry in content["dependencies"] if isinstance(entry, dict))
    assert pip["pip"] == ["-r requirements.lock"]
    assert any(re.fullmatch(r"python=3\.1[1-9]", str(d)) for d in content["dependencies"])


def test_the_lock_names_no_registry_and_no_local_build(project_root: Path) -> None:
    text = (project_root / "envs" / "requirements.lock").read_text()
    assert "://" not in text and "+cpu" not in text and "--" not in text.split("\n", 3)[3]


HEAVY = ("torch", "lightning", "xarray", "rasterio", "matplotlib", "sklearn", "geopandas")
SNAKEFILE = ("config", "config.check", "config.sites", "files", "code_digest")
FIGURES = ("report.page", "report.pca", "report.maps", "gpp.figures", "evaluate.maps")


@pytest.mark.parametrize(
    ("modules", "unused"),
    [
        (SNAKEFILE, HEAVY),
        (("cubes", "acquire", "sites", "gpp", "evaluate", "report", *FIGURES), ["torch"]),
        (("evaluate.probes", "evaluate.reconstruction"), ["lightning"]),
    ],
    ids=["Snakefile", "without networks", "evaluation"],
)
def test_jobs_import_only_what_they_use(modules: tuple[str, ...], unused: list[str]) -> None:
    names = ", ".join(f"pipeline_lib.{module}" for module in modules)
    code = f"import sys, {names}; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(unused) & set(shown.stdout.split())
