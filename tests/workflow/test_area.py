"""The use of a finished run's models: one more area is embedded, and nothing else is done."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from running import dry_run, snakemake

from pipeline_lib.cubes import CLEAR, read_cube
from pipeline_lib.embed import read_embedding
from pipeline_lib.files import read_json, write_json

pytestmark = pytest.mark.workflow

MEADOW = {"bounds": [11.0, 48.0, 11.004, 48.002], "start": "2021-05-01", "end": "2021-08-31"}
USE = {
    "run": "use",
    "models": "results/tiny/models",
    "areas": {"meadow": MEADOW},
    "demo": {"tile_px": 72, "radar_tile_px": 48, "optical_revisit_days": 15},
    "cube": {"cloud_context_px": 12},
}
ONE_AREA = {"demo_site": 1, "pin_items": 2, "build_cube": 2, "embed_cube": 1, "all": 1}


def planned(folder: Path, **changes: object) -> Counter[str]:
    return dry_run(folder, configs=[USE | changes])[0]


@pytest.fixture(scope="module")
def used(finished: Path) -> Path:
    """The folder of a run that embedded an area with the models of the finished run."""
    shown = snakemake(finished, "embed", configs=[USE])
    assert "Nothing is trained: the models are those of results/tiny/models" in shown.stderr
    return finished / "results" / "use"


def test_an_area_makes_its_cubes_and_trains_nothing(finished: Path) -> None:
    assert planned(finished) == {"demo_canopy": 1, **ONE_AREA}


def test_own_cubes_are_embedded_with_trained_models(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.nc"
    file.touch()
    block = {"file": str(file), "variable": "reflectance"}
    own = {"mine": {"site": "mine", "files": {"sentinel-2": block}}}
    jobs = planned(finished, own_cubes=own, areas={})
    assert jobs == {"ingest_cube": 1, "embed_cube": 1, "all": 1}


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ("report", {}, "No rule to produce report"),
        ("embed", {"models": "results/nowhere"}, "models: folder not found: results/nowhere"),
        ("embed", {"areas": {}}, "models: there is nothing to embed with them"),
    ],
)
def test_what_cannot_be_done_with_trained_models_is_an_error(
    finished: Path, target: str, changes: dict, message: str
) -> None:
    shown = snakemake(finished, target, "--dry-run", configs=[USE | changes], succeeds=False)
    assert message in shown.stdout + shown.stderr


@pytest.mark.slow
def test_an_area_is_embedded_from_end_to_end(finished: Path, used: Path) -> None:
    import rioxarray  # noqa: F401

    data = read_embedding(used / "embeddings" / "meadow")
    west, south, east, north = data.rio.transform_bounds("EPSG:4326")
    assert west <= 11.0 and south <= 48.0 and east >= 11.004 and north >= 48.002
    assert data.sizes["x"] != data.sizes["y"]
    days = data["time"].values.astype("datetime64[D]")
    assert np.datetime64("2021-05-01") <= days[0] and days[-1] <= np.datetime64("2021-08-31")
    assert np.isfinite(data["embedding"]).any() and np.isfinite(data["days_to_sentinel_1"]).any()
    assert data.attrs["cube"] == "meadow"
    trained = finished / "results" / "tiny"
    manifest = json.loads((used / "embeddings" / "meadow" / "manifest.json").read_text())
    there = json.loads((trained / "embeddings" / "DE-Gra" / "manifest.json").read_text())
    assert manifest["model_digest"] == there["model_digest"]
    assert not {"models", "dataset", "evaluation", "sites.csv"} & {p.name for p in used.iterdir()}


@pytest.mark.slow
def test_the_cube_of_an_area_shows_what_is_there(used: Path) -> None:
    cube = read_cube(used / "cubes" / "sentinel-2" / "meadow.zarr.zip")
    truth = np.load(used / "truth" / "meadow.npz")
    days = truth["time"].astype("U10").astype("datetime64[D]").tolist()
    bands = [truth["bands"].tolist().index(band) for band in cube["band"].values]
    differences = []
    for frame, day in enumerate(cube["time"].values.astype("datetime64[D]").tolist()):
        there = days.index(day)
        clear = (cube["mask"].values[frame] == CLEAR) & (truth["cloud_class"][there] == CLEAR)
        nadir = truth["nadir_reflectance"][there][bands] * 1e-4
        differences.append(np.abs(cube["reflectance"].values[frame] - nadir)[:, clear].ravel())
    assert np.median(np.concatenate(differences)) < 0.008


@pytest.mark.slow
def test_an_embedded_area_is_made_anew_only_where_it_or_its_models_change(
    finished: Path, used: Path
) -> None:
    assert not planned(finished)
    assert planned(finished, areas={"meadow": MEADOW, "wood": MEADOW}) == ONE_AREA
    assert planned(finished, areas={"meadow": MEADOW | {"end": "2021-09-30"}}) == ONE_AREA
    other = finished / "results" / "other"
    shutil.copytree(finished / "results" / "tiny" / "models", other)
    path = other / "fusion" / "model.json"
    write_json(path, read_json(path) | {"digest": "0" * 64})
    assert planned(finished, models="results/other") == {"embed_cube": 1, "all": 1}
