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


def test_what_the_snakefile_imports_is_light() -> None:
    heavy = "{'torch', 'lightning', 'xarray', 'rasterio', 'matplotlib', 'sklearn', 'geopandas'}"
    code = (
        "import sys, pipeline_lib.config, pipeline_lib.config.check, "
        "pipeline_lib.config.sites, pipeline_lib.files, pipeline_lib.code_digest; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["cubes", "acquire", "sites", "gpp", "evaluate", "report"])
def test_packages_without_networks_import_no_torch(package: str) -> None:
    code = f"import sys, pipeline_lib.{package}; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (("report.page", "report.pca", "report.maps", "gpp.figures", "evaluate.maps"), "torch"),
        (("evaluate.probes", "evaluate.reconstruction"), "lightning"),
    ],
)
def test_jobs_load_only_what_they_use(modules: tuple[str, ...], heavy: str) -> None:
    names = ", ".join(f"pipeline_lib.{module}" for module in modules)
    code = f"import sys, {names}; print({heavy!r} in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
