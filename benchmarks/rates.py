"""Rates that a run is planned with: from a finished demo and from what other scripts measured.

Writes `src/pipeline_lib/plan/rates.json`, which `snakemake plan` reads. A rate whose source is
not given stays as it is in the file.
"""

from __future__ import annotations

import argparse
import csv
import platform
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from measure import show

from pipeline_lib.config import Config
from pipeline_lib.config.check import check
from pipeline_lib.cubes import CLEAR, read_cube
from pipeline_lib.files import read_json, write_json
from pipeline_lib.plan import RATES, Plan, Rates, work_of
from pipeline_lib.plan.cubes import years_between

ROOT = Path(__file__).parents[1]
LOADERS = {
    "sentinel-2": "sentinel-2-l2a",
    "sentinel-1": "sentinel-1-rtc",
    "landsat": "landsat-c2-l2",
}
VALIDATION = 0.25 / 3
"""What the validation adds to an epoch: at most a quarter of the samples, forwards only."""
QUANTISATION = {"float32": 27.1, "float16": 16.1, "int8": 7.4}
"""Bytes of an embedding with its quality layers: `quantisation.py`, in docs/embeddings.md."""
EVALUATION = ("evaluate_encoder", "evaluate_fusion", "probe_encoder", "probe_fusion")

Rate = dict[str, Any]


def rate(value: float, unit: str, by: str) -> Rate:
    """An entry of the file, to four digits."""
    return {"value": float(f"{value:.4g}"), "unit": unit, "by": by}


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Intercept, at least 0, and slope of the line through points (x, y)."""
    x, y = np.array(points).T
    slope, intercept = np.polyfit(x, y, 1)
    return (float(intercept), float(slope)) if intercept > 0 else (0.0, float((x @ y) / (x @ x)))


def from_cube(table: Mapping[str, Any]) -> Iterator[tuple[str, Rate]]:
    """From ``cube.py --json`` with two sizes or more: a line through frames of each size."""
    by, context = "cube.py", Config().cube.cloud_context_px
    for sensor, loader in LOADERS.items():
        rows = sorted(
            (row for row in table["cubes"] if row["sensor"] == sensor),
            key=lambda row: row["size_px"],
        )
        spent, read = [], []
        start = rows[0]["imports and the rest, s"]
        for row in rows:
            margin = 2 * context if sensor == "sentinel-2" else 0
            megapixels = (row["size_px"] + margin) ** 2 / 1e6
            network = row.get("cloud network, s", 0.0)
            spent.append((megapixels, (row["seconds"] - start - network) / row["frames"]))
            read.append((megapixels, 1e6 * row["read_mb"] / row["frames"]))
        if sensor == "sentinel-2":
            value = network / row["frames"] / megapixels
            yield "build.cloudsen12", rate(value, "s per frame and megapixel", by)
        (frame, megapixel), (read_frame, read_megapixel) = line(spent), line(read)
        for name, value, unit in (
            ("frame", frame, "s per frame"),
            ("megapixel", megapixel, "s per frame and megapixel, without the cloud network"),
            ("read_frame", read_frame, "bytes per frame"),
            ("read_megapixel", read_megapixel, "bytes per frame and megapixel"),
        ):
            yield f"build.{loader}.{name}", rate(value, unit, by)


def from_training(table: Mapping[str, Any]) -> Iterator[tuple[str, Rate]]:
    """From ``training.py --json``."""
    speed = table["samples_per_s"]
    by = f"training.py: {speed:.0f} samples/s, and validation"
    yield "train.encoder", rate((1 + VALIDATION) / speed, "s of a core per sample and epoch", by)


def from_dense_export(table: Mapping[str, Any]) -> Iterator[tuple[str, Rate]]:
    """From ``dense_export.py --json``: one date of either of two sensors per embedding."""
    seconds, shares = 1 / table["fused_embeddings_per_s"], table["shares"]
    frames = (shares["reading"] + shares["frame features"]) * seconds
    unit = "s of a core per pixel and date of a sensor"
    yield "embed.frame", rate(frames / 2, unit, "dense_export.py")
    yield "embed.embedding", rate(seconds - frames, "s of a core per embedding", "dense_export.py")


def jobs_of(run: Path) -> dict[str, list[float]]:
    """Rule -> core seconds of its jobs, of a finished run."""
    folder, spent = run / "benchmarks", defaultdict(list)
    for path in sorted(folder.rglob("*.tsv")):
        with path.open(newline="") as file:
            (row,) = csv.DictReader(file, delimiter="\t")
        spent[path.relative_to(folder).parts[0].removesuffix(".tsv")].append(float(row["cpu_time"]))
    return dict(spent)


def size_of(*places: Path) -> int:
    """Bytes of files, and of all files below folders."""
    files = [path for place in places for path in (place, *place.rglob("*"))]
    return sum(path.stat().st_size for path in files if path.is_file())


def from_demo(run: Path, config: Config, rates: Mapping[str, Rate]) -> Iterator[tuple[str, Rate]]:
    """From a finished run of the demo: what it stored, and what its jobs took."""
    spent, job = jobs_of(run), rates["job"]["value"]
    rows = work_of(config, {}, Rates(RATES, "", "", rates))
    small = [row.rule for row in rows if row.core_seconds == row.jobs * job]
    seconds = [one for rule in small for one in spent[rule]]
    job = float(np.mean(seconds))
    rates = {**rates, "job": rate(job, "s of a core", "demo: mean of the jobs of a few seconds")}
    yield "job", rates["job"]
    assert config.demo and config.sites and config.gpp
    period, towers = config.gpp.period, len(config.gpp.towers)
    years = config.sites.count * config.sites.periods.count
    years += towers * years_between(period.start, period.end)
    simulated = spent["demo_site"] + spent["demo_tower"]
    unit = "s of a core per simulated year of a place"
    longer = sum(simulated) - job * len(simulated)
    yield "archive.year", rate(longer / years, unit, "demo: demo_site, demo_tower")
    stored = size_of(run / "archive", run / "truth") / years / (config.demo.tile_px / 1e3) ** 2
    yield "archive.bytes", rate(stored, "bytes per year and megapixel", "demo: archive, truth")
    rest = ("models", "dataset", "evaluation", "gpp", "figures", "report.html")
    yield (
        "products.bytes",
        rate(size_of(*(run / name for name in rest)), "bytes", f"demo: {', '.join(rest)}"),
    )
    yield from _of_stores(run, config)
    for name, unit, rules in (
        ("evaluate", "s of a core per sample", EVALUATION),
        ("gpp.fit", "s per fit, tower, channel, block and epoch", ("gpp_transformer",)),
    ):
        by = f"demo: {', '.join(rules)}"
        yield name, rate(fitted(name, rules, config, rates, spent), unit, by)


def fitted(
    name: str,
    rules: tuple[str, ...],
    config: Config,
    rates: Mapping[str, Rate],
    spent: Mapping[str, list[float]],
) -> float:
    """The rate with which some rules are planned with what they took: plans are linear in it."""

    def planned(value: float) -> float:
        known = Rates(RATES, "", "", {**rates, name: rate(value, "", "")})
        work = work_of(config, {}, known)
        return sum(row.core_seconds for row in work if row.rule in rules)

    seconds = sum(sum(spent[rule]) for rule in rules)
    return max(0.0, (seconds - planned(0.0)) / (planned(1.0) - planned(0.0)))


def _of_stores(run: Path, config: Config) -> Iterator[tuple[str, Rate]]:
    """Sizes of what a run stores, and how much of it is clear."""
    passes = {}
    for path in sorted((run / "items").rglob("*.json")):
        days = {item["properties"]["datetime"][:10] for item in read_json(path)["items"]}
        passes[path.parent.name, path.stem] = len(days)
    listed = size_of(run / "items") / sum(passes.values())
    yield "items.bytes", rate(listed, "bytes per pass", "demo: items")
    for name, sensor in config.sensors.items():
        size = values = kept = clear = looks = 0.0
        for path in sorted((run / "cubes" / name).glob("*.zarr.zip")):
            mask = read_cube(path, load=False)["mask"].values
            layers = len(sensor.bands) * (2 if sensor.rolling_mean > 1 else 1)
            size += path.stat().st_size
            values += mask.size * layers
            kept += len(mask)
            clear += (mask == CLEAR).mean(axis=(1, 2)).sum()
            looks += passes[name, path.name.removesuffix(".zarr.zip")]
        by = f"demo: cubes of {name}"
        yield f"cube.{sensor.quantity}", rate(size / values, "bytes per value", by)
        if sensor.clouds == "cloudsen12":
            by += ", whose clouds are simulated"
            yield "clear.dates", rate(kept / looks, "fraction of the passes", by)
            yield "clear.pixels", rate(clear / looks, "fraction of the passes", by)


def compared(run: Path, config: Config, rates: Rates) -> list[dict[str, Any]]:
    """The plan of the demo beside what it took, in core seconds, by rule."""
    spent = jobs_of(run)
    return [
        {
            "rule": row.rule,
            "jobs": row.jobs,
            "planned_s": row.core_seconds,
            "jobs_run": len(spent.get(row.rule, [])),
            "took_s": sum(spent.get(row.rule, [])),
        }
        for row in work_of(config, {}, rates)
    ]


def machine() -> str:
    """The machine in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [text.split(":")[1].strip() for text in lines if "model name" in text]
    return f"one core ({names[0] if names else platform.processor() or platform.machine()})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--demo", type=Path, help="folder of a finished demo: results/demo")
    readers = {"cube": from_cube, "training": from_training, "dense_export": from_dense_export}
    for script in readers:
        option = f"--{script.replace('_', '-')}"
        parser.add_argument(option, type=Path, help=f"output of {script}.py --json")
    parser.add_argument("--plans", type=Path, nargs="+", help="plan.json of runs, for the figure")
    parser.add_argument("--figure", type=Path, help="draw these plans here")
    arguments = parser.parse_args()
    content = read_json(RATES)
    rates: dict[str, Rate] = content["rates"]
    known = dict(rates)
    for script, reader in readers.items():
        if path := getattr(arguments, script):
            rates |= reader(read_json(path))
    demo = check([ROOT / "config" / "demo.yaml"])
    if arguments.demo:
        rates |= from_demo(arguments.demo, demo, rates)
    for dtype, size in QUANTISATION.items():
        by = "quantisation.py: bytes of an embedding with its quality layers"
        rates[f"embedding.{dtype}"] = rate(size, "bytes", by)
    if rates != known:
        head = {"machine": machine(), "date": date.today().isoformat()}
        write_json(RATES, head | {"rates": dict(sorted(rates.items()))})
    result: dict[str, Any] = {
        "rates": [{"rate": name, **entry} for name, entry in sorted(rates.items())]
    }
    if arguments.demo:
        result["demo"] = compared(arguments.demo, demo, Rates.read(RATES))
    if arguments.figure:
        from pipeline_lib.plan.figure import draw_plans

        plans = [Plan.model_validate(read_json(path)) for path in arguments.plans]
        draw_plans(plans, arguments.figure)
    show(result, arguments.json)


if __name__ == "__main__":
    main()
