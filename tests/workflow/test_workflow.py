"""The real workflow, on the smallest archive that every stage allows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from running import ROOT, TINY, dry_run, half_written, snakemake

pytestmark = pytest.mark.workflow

ACQUIRED = {"sample_sites", "pin_items", "build_cube"}
TRAINED = {"fit_normalisation", "measure_noise", "train_encoder", "train_fusion"}


def rerun_after(finished: Path, *changes: dict[str, Any]) -> Counter[str]:
    """What a changed config would run again: rule -> number of jobs."""
    return dry_run(finished, configs=[TINY, *changes])[0]


def test_every_product_is_there(finished: Path) -> None:
    run = finished / "results" / "tiny"
    for name in (
        "sites.csv",
        "items/sentinel-1/site-000-a.json",
        "cubes/sentinel-2/site-002-a.zarr.zip",
        "dataset/split.csv",
        "dataset/sentinel-2/normalisation.json",
        "dataset/sentinel-1/noise.json",
        "models/sentinel-1/model.safetensors",
        "models/fusion/README.md",
        "embeddings/DE-Gra/manifest.json",
        "embeddings/DE-Gra/item.json",
        "gpp/metrics.json",
        "evaluation/maps.json",
        "figures/pca.png",
        "report.html",
    ):
        assert (run / name).is_file(), name
    assert not half_written(run)


def test_nothing_is_done_twice(finished: Path) -> None:
    assert not rerun_after(finished)


@pytest.mark.parametrize(
    ("change", "rerun", "kept"),
    [
        (
            {"gpp": {"windows": {"length_days": 45}}},
            {"gpp_scores", "report"},
            ACQUIRED | TRAINED | {"embed_cube", "gpp_targets", "gpp_series"},
        ),
        (
            {"fusion": {"embedding_dim": 6}},
            {"train_fusion", "evaluate_fusion", "embed_cube", "gpp_series", "report"},
            ACQUIRED | {"train_encoder", "evaluate_encoder", "gpp_targets"},
        ),
    ],
    ids=["window of GPP", "dimensions of the embedding"],
)
def test_a_change_reruns_what_depends_on_it(
    finished: Path, change: dict[str, Any], rerun: set[str], kept: set[str]
) -> None:
    found = set(rerun_after(finished, change))
    assert rerun <= found and not found & kept


def test_one_sensor_is_retrained_without_the_other(finished: Path) -> None:
    rerun = rerun_after(finished, {"sensors": {"sentinel-2": {"latent_dim": 7}}})
    assert rerun["train_encoder"] == 1 and rerun["train_fusion"] == 1
    assert not rerun["build_cube"] and not rerun["fit_normalisation"] + rerun["measure_noise"]


def test_an_edited_footprint_averages_the_towers_anew(finished: Path, tmp_path: Path) -> None:
    raster = tmp_path / "footprint.tif"
    raster.touch()
    towers = yaml.safe_load(TINY.read_text())["gpp"]["towers"]
    towers[0]["footprint"] = str(raster)
    rerun = rerun_after(finished, {"gpp": {"towers": towers}})
    assert rerun["gpp_series"] == 1
    assert not {"demo_tower", "build_cube", "embed_cube", "gpp_targets"} & set(rerun)


def test_what_steers_the_transport_reruns_nothing_but_the_report(finished: Path) -> None:
    rerun = rerun_after(finished, {"catalog": {"timeout_s": 30, "requests": 2}})
    assert set(rerun) <= {"report", "all"}


def test_an_edited_row_of_an_own_table_reruns_its_own_cubes(finished: Path, tmp_path: Path) -> None:
    rows = (finished / "results" / "tiny" / "sites.csv").read_text().splitlines()
    year = int(re.search(r",(\d{4})-", rows[1])[1])
    rows[1] = rows[1].replace(str(year), str(2018 if year == 2017 else 2017))
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(rows) + "\n")
    rerun = rerun_after(finished, {"sites": {"file": str(table)}})
    assert rerun["demo_site"] == 1 and rerun["pin_items"] == 2 and rerun["build_cube"] == 2
    assert rerun["site_table"] == 1
    assert not {"sample_sites", "demo_tower", "gpp_targets"} & set(rerun)


def test_an_edit_of_a_loader_rebuilds_the_cubes_of_its_sensor(
    finished: Path, tmp_path: Path
) -> None:
    library = Path(shutil.copytree(ROOT / "src", tmp_path / "src"))
    loader = library / "pipeline_lib" / "acquire" / "sentinel1.py"
    for addition, expected in (
        ("# A comment.\n", {}),
        ("ANSWER = 42\n", {"build_cube": 5, "cubes": 1}),
    ):
        loader.write_text(loader.read_text() + addition)
        rerun, text = dry_run(finished, "cubes", library=library)
        assert rerun == expected
    assert len(re.findall(r"^Job \d+: Building the sentinel-1 cube", text, re.MULTILINE)) == 5


@pytest.mark.parametrize("site", ["site-000", "DE-Gra"])
def test_nothing_is_learnt_from_the_truth(finished: Path, site: str) -> None:
    truth = finished / "results" / "tiny" / "truth" / f"{site}.npz"
    before, times = truth.read_bytes(), truth.stat()
    truth.write_bytes(before + b"another")
    try:
        rerun = set(rerun_after(finished))
    finally:
        truth.write_bytes(before)
        os.utime(truth, ns=(times.st_atime_ns, times.st_mtime_ns))
    # A tower is a site that probes are scored on; its maps are not assessed.
    assert "probe_fusion" in rerun and ("assess_maps" in rerun) == (site == "site-000")
    made = {rule for rule in rerun if not rule.startswith(("probe_", "figure", "assess_maps"))}
    assert made <= {"report", "all"}


@pytest.mark.slow
def test_the_report_of_snakemake_holds_figures_with_captions(
    finished: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "report.zip"
    snakemake(finished, "--report", str(archive))
    with zipfile.ZipFile(archive) as content:
        names = {Path(name).name for name in content.namelist()}
        text = content.read("report/report.html").decode()
    assert {"report.html", "pca.png", "maps.png", "probes-fusion.png", "gpp.png"} <= names
    assert "Noise in time, steps in space" in text and '"Embeddings"' in text


def test_a_report_needs_no_network(finished: Path) -> None:
    text = (finished / "results" / "tiny" / "report.html").read_text()
    assert "<img" in text and not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)


def test_embeddings_name_the_models_they_come_from(finished: Path) -> None:
    run = finished / "results" / "tiny"
    digests = {
        json.loads((run / "embeddings" / cube / "manifest.json").read_text())["model_digest"]
        for cube in ("DE-Gra", "site-000-a")
    }
    assert len(digests) == 1


def test_a_broken_config_starts_nothing(tmp_path: Path) -> None:
    broken = {"run": "broken", "sampling": {}, "seed": "many", "gpp": {"fluxnet": "nowhere"}}
    shown = snakemake(tmp_path, configs=[broken], succeeds=False)
    text = shown.stdout + shown.stderr
    assert "Traceback" not in text
    assert all(part in text for part in ("3 mistake(s)", "sampling", "seed", "nowhere"))
    assert not (tmp_path / "results").exists()


def test_a_job_of_a_cluster_does_not_take_an_edited_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process reads the config again; the run that started it says which one it was."""
    monkeypatch.setenv("CONFIG_OF_a_run", "of the run")
    job = ("results/a-run/sites.csv", "--mode", "remote", "--dry-run")
    shown = snakemake(tmp_path, *job, configs=[TINY, {"run": "a-run"}], succeeds=False)
    assert "The config of a-run, or the table of its sites, was edited" in shown.stdout
    dry_run(tmp_path, "results/a-run/sites.csv", configs=[TINY, {"run": "a-run"}])


def test_a_job_that_asks_for_too_much_memory_is_named(tmp_path: Path) -> None:
    more = ("results/tiny/sites.csv", "--resources", "mem_mb=3000")
    shown = snakemake(tmp_path, *more).stderr
    assert "than the 3,000 MB that the jobs share: embed_cube 4,000 MB, train_encoder" in shown
    shown = snakemake(tmp_path, "plan", "--resources", "mem_mb=3000")
    assert "Here: 2 cores, 3 GB of memory" in shown.stdout and "embed_cube 4,000" in shown.stderr


@pytest.mark.slow
def test_encoders_are_compared_on_the_cubes_of_a_run(finished: Path) -> None:
    script = ROOT / "studies" / "encoders.py"
    variants = ["dense", "dense, steep lambda"]
    arguments = ["--config", str(TINY), "--variants", *variants, "--seeds", "1", "--json"]
    shown = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=finished, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    tables = json.loads(shown.stdout)
    compared = {row["what"] for row in tables["reconstruction, test"]}
    assert {*variants, "nearest_date", "adjacent_pixel", "pca_2", "pca_9"} <= compared
    probed = {(row["what"], row["from"]) for row in tables["probes, test"]}
    assert {("no network", "bands"), ("dense", "embedding")} <= probed
    trained = finished / "results" / "tiny" / "variants"
    assert len(list(trained.rglob("model.safetensors"))) == len(variants)
