"""Starter weights: made from a run, loaded by name, path and address, refused where they differ."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from untrained import save_all_untrained, scaled_by

from pipeline_lib.config import Config, models_folder, parse, weights
from pipeline_lib.cubes import Grid, make_cube, write_cube
from pipeline_lib.dataset import Normalisation
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_file, pack, write_csv
from pipeline_lib.models import load_models
from pipeline_lib.models.starter import write_starter

SHIPPED = weights.PACKAGED


SMALLER = {"width": 32, "head_width": 64, "decoder_width": 16}
SCALING = Normalisation(("vv", "vh"), np.float32([-25, -32]), np.float32([0, -7]), "decibel")


def write_run(folder: Path) -> Path:
    """A run with untrained models of the default sensors, and two cubes of one of them."""
    config = Config()
    torch.manual_seed(1)

    def scaling(sensor):
        return scaled_by(0, 1)(sensor) if sensor.scale != "decibel" else SCALING

    sensors = {
        name: sensor.model_copy(update={"encoder": sensor.encoder.model_copy(update=SMALLER)})
        for name, sensor in config.sensors.items()
    }
    save_all_untrained(folder / "models", sensors, config.context, config.fusion, scaling)
    sensor = config.sensors["sentinel-2"]
    rows = []
    for name, part in (("meadow", "training"), ("wood", "validation"), ("lake", "test")):
        cube = make_cube(
            values=np.full((2, len(sensor.bands), 4, 5), 0.2, np.float32),
            mask=np.zeros((2, 4, 5), np.uint8),
            times=np.array(["2021-05-01", "2022-06-01"], "M8[ns]"),
            bands=sensor.bands,
            grid=Grid(32631, 600000, 5600040, 10, 4, 5),
            quantity=sensor.quantity,
            frames={"item": ["a", "b"]},
            attributes={"sensor": "sentinel-2", "cube": name, "source": f"{name}.nc"},
        )
        path = folder / "cubes" / "sentinel-2" / f"{name}.zarr.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_cube(cube, path)
        rows.append({"cube": name, "site": name, "land_cover": "others", "split": part})
    write_csv(folder / "dataset" / "split.csv", rows)
    return folder


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The folder, the digest of its digest file, and the folder above it."""
    folder = tmp_path_factory.mktemp("starter")
    digest = write_starter(write_run(folder / "run"), folder / "weights")
    return SimpleNamespace(folder=folder / "weights", digest=digest, root=folder)


@pytest.fixture
def served(
    starter: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of the folder above it, on loopback."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=starter.root)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_folder_has_a_card_and_the_digests_of_its_files(starter: SimpleNamespace) -> None:
    shown = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=starter.folder,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    listed = len(shown.stdout.splitlines())
    assert listed + 1 == sum(path.is_file() for path in starter.folder.rglob("*"))
    _, header, card = (starter.folder / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(header)
    assert about["license"] == "mit"
    assert about["datasets"] == ["sentinel-1", "sentinel-2"]
    fusion, encoders = load_models(starter.folder)
    assert fusion.model_digest in card and all(name in card for name in encoders)
    (meadow, wood) = re.findall(r"^\| (?:meadow|wood) \|.*$", card, re.M)
    assert meadow == "| meadow | training | 50.54, 4.41 | 2021-2022 | 2 | meadow.nc |"
    assert "validation" in wood and "lake" not in card


def test_models_are_loaded_by_path_name_and_address(
    starter: SimpleNamespace, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(starter.folder, starter.root / "flat.zip")
    shutil.copytree(starter.folder, starter.root / "outer" / "models")
    pack(starter.root / "outer", starter.root / "nested.zip")
    monkeypatch.setattr(weights, "PACKAGED", starter.folder)
    flat, nested = (
        f"{served}/{name}#sha256={digest_file(starter.root / name)}"
        for name in ("flat.zip", "nested.zip")
    )
    tree = f"{served}/weights/#sha256={starter.digest}"
    expected = load_models(starter.folder)[0].model_digest
    for where in (starter.folder, "starter", flat, nested, tree):
        assert load_models(where)[0].model_digest == expected
        area = {"bounds": [11.0, 48.0, 11.2, 48.1], "start": "2021-03-01", "end": "2021-10-31"}
        config = parse({"run": "mine", "models": str(where), "areas": {"valley": area}})
        assert config.models == models_folder(where)
    # Kept: the server is not asked again.
    (starter.root / "flat.zip").unlink()
    assert load_models(flat)[0].model_digest == expected


def test_what_has_another_digest_is_refused_in_a_line(
    starter: SimpleNamespace, served: str, tmp_path: Path
) -> None:
    tree = f"{served}/weights"
    for where, message in (
        (f"{tree}#sha256={'0' * 64}", "SHA256SUMS: has the SHA-256 .*, not 000000000000"),
        (tree, "an address of models ends with #sha256="),
        (f"{tree}#sha256=12", "an address of models ends with #sha256="),
        (f"{served}/gone#sha256={'0' * 64}", r"cannot be read \(404"),
        (f"ftp://example.org/a.zip#sha256={'0' * 64}", "an address of models ends with"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            models_folder(where)
        assert "\n" not in str(refused.value)
        with pytest.raises(UserError, match=f"models: .*{message}"):
            parse({"run": "mine", "models": where})
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_changed_file_of_a_tree_is_refused(starter: SimpleNamespace, served: str) -> None:
    changed = shutil.copytree(starter.folder, starter.root / "changed")
    (changed / "fusion" / "curves.csv").write_text("epoch\n")
    with pytest.raises(UserError, match=r"fusion/curves.csv: has the SHA-256"):
        models_folder(f"{served}/changed#sha256={starter.digest}")
    sums = changed / "SHA256SUMS"
    description = starter.root / "run/models/fusion/model.json"
    sums.write_text(f"{digest_file(description)}  ../run/models/fusion/model.json\n")
    with pytest.raises(UserError, match="no file within it"):
        models_folder(f"{served}/changed#sha256={digest_file(sums)}")


def test_a_zip_writes_nothing_outside_its_folder(starter: SimpleNamespace, served: str) -> None:
    path = starter.root / "outside.zip"
    for name, message in (("../up.json", "no file within it"), ("/tmp/up.json", "no file within")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "{}")
        with pytest.raises(UserError, match=message):
            models_folder(f"{served}/outside.zip#sha256={digest_file(path)}")
    path.write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="no zip"):
        models_folder(f"{served}/outside.zip#sha256={digest_file(path)}")


def test_without_starter_weights_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "PACKAGED", tmp_path / "gone")
    with pytest.raises(UserError, match="contains no starter weights; name the folder"):
        load_models("starter")


def test_a_run_without_cubes_makes_no_folder(starter: SimpleNamespace, tmp_path: Path) -> None:
    run = shutil.copytree(starter.root / "run", tmp_path / "run")
    shutil.rmtree(run / "cubes")
    with pytest.raises(UserError, match="no cube of the training is there"):
        write_starter(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_lines_of_the_readme_embed_an_array(
    starter: SimpleNamespace, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the weights in the package, or where these are not there yet with untrained ones."""
    page = (project_root / "README.md").read_text()
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "embed_xarray" in b)
    if not SHIPPED.is_dir():
        monkeypatch.setattr(weights, "PACKAGED", starter.folder)
    variables: dict[str, object] = {}
    begin = time.perf_counter()
    exec(block, variables)
    assert time.perf_counter() - begin < 60
    embedding = variables["embedding"]
    assert embedding["embedding"].shape == (12, 7, 64, 64)
    assert np.isfinite(embedding["embedding"].values).all()


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="the package contains no starter weights")
def test_the_weights_in_the_package_are_whole_and_small() -> None:
    fusion, encoders = load_models("starter")
    assert {"sentinel-1", "sentinel-2"} <= set(encoders)
    assert all(one.normalisation.domain for one in encoders.values())
    sums = (SHIPPED / "SHA256SUMS").read_text().splitlines()
    for line in sums:
        digest, _, name = line.partition("  ")
        assert digest_file(SHIPPED / name) == digest
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 3_000_000
    assert fusion.model_digest in (SHIPPED / "README.md").read_text()
