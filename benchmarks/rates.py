"""Rates that a run is planned with: from a finished demo and from what other scripts measured.

Writes `rates.json`, which `snakemake plan` reads. A rate whose source is not given stays as it
is in the file. What is measured here is short: the reading of cubes, the fusion's training beside
an encoder's, and cubes of Landsat.
"""

from __future__ import annotations

import argparse
import csv
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from measure import measured, one_thread, show

from pipeline_lib.config import Config, CubeGrid
from pipeline_lib.config.check import check
from pipeline_lib.cubes import CLEAR, read_cube
from pipeline_lib.files import read_json, write_json
from pipeline_lib.plan import Plan, Rates, work_of
from pipeline_lib.plan.flops import Flops, count_flops
from pipeline_lib.plan.rates import ASSUMPTION

ROOT = Path(__file__).parents[1]
FILE = ROOT / "benchmarks" / "rates.json"

Rate = dict[str, Any]

EARTH_KM = 40_075
LOADERS = {
    "sentinel-2-l2a": {
        "revisit": (
            [["2015-07-04", 10], ["2017-07-01", 5]],
            "one satellite returns after 10 days, two after 5: 73 passes a year of a track",
        ),
        "swath": (290, "width of the swath"),
        "spacing": (EARTH_KM / 143, "143 tracks around the equator"),
        "directions": (1, "only tracks from north to south have daylight"),
        "files": (1.21, "tiles of 109.8 km every 100 km: what two of them show is read twice"),
    },
    "sentinel-1-rtc": {
        "revisit": (
            [["2014-10-03", 12], ["2016-10-01", 6], ["2021-12-23", 12]],
            "one satellite returns after 12 days, two after 6; one failed on 23 December 2021",
        ),
        "swath": (250, "width of the swath (interferometric wide)"),
        "spacing": (EARTH_KM / 175, "175 tracks around the equator"),
        "directions": (2, "by day and by night; over Europe both are recorded"),
        "files": (1.0, "slices hardly overlap"),
    },
    "landsat-c2-l2": {
        "revisit": ([["2013-04-11", 8]], "two satellites return after 16 days each"),
        "swath": (185, "width of the swath"),
        "spacing": (EARTH_KM / 233, "233 paths around the equator"),
        "directions": (1, "only tracks from north to south have daylight"),
        "files": (1.1, "scenes of 180 km every 165 km"),
    },
}
ASSUMED: dict[str, tuple[float, str, str]] = {
    "gpu.speed": (
        5,
        "TFLOP/s",
        "sustained; no GPU was there. A quarter of the float32 peak of an NVIDIA A100 (19.5), as "
        "the networks are small; a training in bfloat16 may be faster",
    ),
    "clear.dates_of_areas": (
        0.7,
        "share of the passes",
        "kept dates of areas of more than 10 km: a large area is seldom wholly under clouds, and "
        "passes that touch an edge of it count too",
    ),
}
QUANTISATION = {"float32": 27.9, "float16": 15.2, "int8": 8.1}
"""Bytes of an embedding with its quality layers: `quantisation.py`, in docs/embeddings.md."""
PAPERS_FIT_S = 31.0
"""One fit of the paper's regressor of GPP for six towers: docs/evaluation.md."""
PAPERS_TOWERS = 6
SCENE_PX, SCENES = 252, 5
"""Side of the simulated scenes of Landsat, in pixels of 10 m, and how often they are repeated."""
MB = 1e6


def rate(value: Any, unit: str, by: str) -> Rate:
    """An entry of the file, to four digits."""
    if isinstance(value, float):
        value = float(f"{value:.4g}")
    return {"value": value, "unit": unit, "by": by}


def assumed() -> dict[str, Rate]:
    """What nobody measured, with reasons."""
    units = {"revisit": "days between passes, from a day on", "swath": "km"}
    units |= {"spacing": "km at the equator", "directions": "1", "files": "1"}
    found = {
        f"passes.{loader}.{name}": rate(value, units[name], f"{ASSUMPTION}: {reason}")
        for loader, entries in LOADERS.items()
        for name, (value, reason) in entries.items()
    }
    for name, (value, unit, reason) in ASSUMED.items():
        found[name] = rate(value, unit, f"{ASSUMPTION}: {reason}")
    return found


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Intercept, at least 0, and slope of the line through points (x, y)."""
    x, y = np.array(points).T
    slope, intercept = np.polyfit(x, y, 1)
    return (float(intercept), float(slope)) if intercept > 0 else (0.0, float((x @ y) / (x @ x)))


def of_cubes(
    rows: list[Mapping[str, Any]], loader: str, by: str, context_px: int
) -> dict[str, Rate]:
    """Seconds and bytes per frame and per megapixel of it, from cubes of two sizes or more.

    What a process takes to start is that of the smallest cube.
    """
    start = rows[0]["imports and the rest, s"]
    spent, read = [], []
    for row in rows:
        square = (row["size_px"] + 2 * context_px) ** 2 / 1e6
        own = row["seconds"] - start - row.get("cloud network, s", 0.0)
        spent.append((square, own / row["frames"]))
        read.append((square, MB * row["read_mb"] / row["frames"]))
    frame, megapixel = line(spent)
    read_frame, read_megapixel = line(read)
    found = {
        "frame": rate(frame, "s per frame", by),
        "megapixel": rate(megapixel, "s per frame and megapixel, without the cloud network", by),
        "read_frame": rate(read_frame, "bytes per frame", by),
        "read_megapixel": rate(read_megapixel, "bytes per frame and megapixel", by),
    }
    return {f"build.{loader}.{name}": entry for name, entry in found.items()}


def from_cube(told: Mapping[str, Any]) -> dict[str, Rate]:
    """From ``cube.py --json``."""
    by, context = "cube.py", Config().cube.cloud_context_px
    found: dict[str, Rate] = {}
    for name, loader in (("sentinel-2", "sentinel-2-l2a"), ("sentinel-1", "sentinel-1-rtc")):
        rows = sorted((r for r in told["cubes"] if r["sensor"] == name), key=lambda r: r["size_px"])
        around = context if name == "sentinel-2" else 0
        found |= of_cubes(rows, loader, by, around)
        start = "start.torch" if name == "sentinel-2" else "start"
        text = f"{by}: imports and the rest of the smallest cube of {name}"
        found[start] = rate(rows[0]["imports and the rest, s"], "s of a core", text)
        if name == "sentinel-2":
            large = rows[-1]
            square = (large["size_px"] + 2 * around) ** 2 / 1e6
            network = large["cloud network, s"] / large["frames"] / square
            found["build.network"] = rate(network, "s per frame and megapixel", by)
    return found


def from_training(told: Mapping[str, Any], flops: Flops) -> dict[str, Rate]:
    """From ``training.py --json``."""
    each, speed = flops.training["sentinel-2"], told["samples_per_s"]
    by = f"training.py: {speed:.0f} samples/s of one core, {each:.3f} GFLOP each (flops.py)"
    return {"train.speed": rate(speed * each, "GFLOP/s of a core", by)}


def from_dense_export(told: Mapping[str, Any], flops: Flops) -> dict[str, Rate]:
    """From ``dense_export.py --json``: as many dates of either sensor as embeddings."""
    seconds, shares = 1 / told["fused_embeddings_per_s"], told["shares"]
    frames = shares["reading"] + shares["frame features"]
    by = "dense_export.py, with the operations counted by flops.py"
    unit = "GFLOP/s of a core"
    frame_speed = sum(flops.frame.values()) / (frames * seconds)
    window_speed = flops.window / ((1 - frames) * seconds)
    return {
        "embed.frame_speed": rate(frame_speed, unit, by),
        "embed.window_speed": rate(window_speed, unit, by),
    }


def speed_of_fusion(repeats: int = 5) -> float:
    """Operations per second of a training of the fusion, as a share of that of an encoder.

    Steps of both take turns, so that other work on the machine slows both.
    """
    import torch

    from pipeline_lib.plan import flops

    torch.set_num_threads(1)
    config = Config()
    encoder, fusion = flops.encoder_step(config, "sentinel-2", 64), flops.fusion_step(config, 64)
    spent: dict[str, list[float]] = {"encoder": [], "fusion": []}
    for _ in range(repeats + 1):
        for name, step in (("encoder", encoder), ("fusion", fusion)):
            begin = time.process_time()
            step()
            spent[name].append(time.process_time() - begin)
    seconds = {name: float(np.median(each[1:])) for name, each in spent.items()}
    each = count_flops(config).training
    return each["fusion"] / seconds["fusion"] / (each["sentinel-2"] / seconds["encoder"])


def reading() -> float:
    """Seconds of a core per 1e6 values of cubes that become arrays for a training."""
    from invented import SENSORS, Scene, write_cubes

    from pipeline_lib.dataset import Normalisation, load_stack

    sensor, scene = SENSORS["sentinel-2"], Scene(pixels=90, dates=60, clear=0.7)
    bounds = (make(len(sensor.bands), np.float32) for make in (np.zeros, np.ones))
    scaling = Normalisation(sensor.bands, *bounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_cubes(folder, {"sentinel-2": sensor}, scene)["sentinel-2"]
        load_stack([path], scaling)
        begin = time.process_time()
        stack = load_stack([path] * 3, scaling, folder / "stack")
        seconds = time.process_time() - begin
        return seconds / (sum(cube.values.size for cube in stack) / 1e6)


def landsat(sizes: tuple[int, ...], end: date) -> list[dict[str, Any]]:
    """Cubes of Landsat as rows like those of `cube.py`, with seconds of a core."""
    import cube

    sensor = check([ROOT / "config" / "landsat.yaml"]).sensors["landsat"].source()
    start, rows = date(2021, 1, 1), []
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder)
        lon, lat = cube.simulate(archive, SCENE_PX, SCENES, start, end)
        request = cube.CubeRequest("c", "c", "grassland", lon, lat, start, end)
        # The first one warms up.
        for size in (min(sizes), *sizes):
            begin = time.process_time()
            told = cube.build_one("landsat", sensor, CubeGrid(size_px=size), archive, request)
            row = {"size_px": size, "seconds": time.process_time() - begin}
            rows.append({**row, "imports and the rest, s": 0.0, **told})
    return rows[1:]


def core_seconds(path: Path) -> float:
    """Seconds of a core that a job took: its time, times the load where that was seen."""
    (row,) = csv.DictReader(path.open(newline=""), delimiter="\t")
    seconds = float(row["s"])
    try:
        load = float(row["mean_load"]) / 100
    except ValueError:
        load = 0.0
    return seconds * load if load > 0 else seconds


def jobs_of(run: Path) -> dict[str, list[float]]:
    """Rule -> core seconds of its jobs, of a finished run."""
    folder, found = run / "benchmarks", defaultdict(list)
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        found[rule].append(core_seconds(path))
    return dict(found)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder, or of a file."""
    paths = folder.rglob("*") if folder.is_dir() else [folder]
    return sum(path.stat().st_size for path in paths if path.is_file())


MODELLED = {
    *("build_cube", "fit_normalisation", "train_encoder", "train_fusion", "evaluate_encoder"),
    *("evaluate_fusion", "probe_encoder", "probe_fusion", "assess_maps", "figure_maps"),
    *("figure_pca", "embed_cube", "gpp_transformer", "gpp_baselines", "plan"),
}
"""Rules whose jobs do not take the same for every config."""


def from_demo(run: Path, config: Config, known: Mapping[str, Rate]) -> dict[str, Rate]:
    """From a finished run of the demo."""
    spent, by = jobs_of(run), "demo"
    found = {
        f"job.{rule}": rate(float(np.mean(seconds)), "s of a core", f"{by}: {rule}")
        for rule, seconds in sorted(spent.items())
        if rule not in MODELLED
    }
    found |= dict(_of_stores(run, config))
    for dtype, size in QUANTISATION.items():
        text = "quantisation.py: bytes of an embedding with its quality layers"
        found[f"embedding.{dtype}"] = rate(size, "bytes", text)
    assert config.demo and config.sites and config.gpp
    period = config.gpp.period
    years = config.sites.count * config.sites.periods.count
    years += len(config.gpp.towers) * ((period.end - period.start).days + 1) / 365
    simulated = size_of(run / "archive") + size_of(run / "truth")
    square = (config.demo.tile_px / 1e3) ** 2
    found["archive.bytes"] = rate(
        simulated / years / square, "bytes per year and megapixel", f"{by}: archive, truth"
    )
    rest = ("models", "dataset", "evaluation", "gpp", "figures", "report.html")
    products = sum(size_of(run / name) for name in rest)
    found["products.bytes"] = rate(products, "bytes", f"{by}: {', '.join(rest)}")
    return found | _fitted(run, config, spent, {**known, **found})


def _of_stores(run: Path, config: Config) -> Iterator[tuple[str, Rate]]:
    """Sizes of what a run stores, and how much of it is clear."""
    items = [(p, read_json(p)) for p in sorted((run / "items").rglob("*.json"))]
    days: dict[tuple[str, str], int] = {}
    for path, told in items:
        seen = {item["properties"]["datetime"][:10] for item in told["items"]}
        days[path.parent.name, path.stem] = len(seen)
    listed = sum(path.stat().st_size for path, _ in items)
    passes = sum(days.values())
    yield "items.bytes", rate(listed / passes, "bytes per pass", "demo: items")
    for name, sensor in config.sensors.items():
        size = values = kept = clear = looks = 0.0
        for path in sorted((run / "cubes" / name).glob("*.zarr.zip")):
            mask = read_cube(path, load=False)["mask"].values
            twice = 2 if sensor.rolling_mean > 1 else 1
            size += path.stat().st_size
            values += mask.size * len(sensor.bands) * twice
            kept += len(mask)
            clear += (mask == CLEAR).mean(axis=(1, 2)).sum()
            looks += days[name, path.name.removesuffix(".zarr.zip")]
        by = f"demo: cubes of {name}"
        yield f"cube.{sensor.quantity}", rate(size / values, "bytes per value", by)
        if sensor.clouds == "cloudsen12":
            by += ", whose clouds are simulated"
            yield "clear.dates", rate(kept / looks, "share of the passes", by)
            yield "clear.pixels", rate(clear / looks, "share of the passes", by)


def _fitted(
    run: Path, config: Config, spent: Mapping[str, list[float]], known: dict[str, Rate]
) -> dict[str, Rate]:
    """Rates that make the plan of the demo's own config tell what its jobs took."""
    flops = count_flops(config)
    unit = {rule: "s per GFLOP" for rule in spent if rule.startswith(("evaluate_", "probe_"))}
    maps = dict.fromkeys(("assess_maps", "figure_maps", "figure_pca"), "s per 1e6 pixels and dates")
    found: dict[str, Rate] = {}
    for rule, text in {**unit, **maps}.items():
        name = f"{'map' if rule in maps else 'sample'}.{rule}"
        told = []
        for trial in (0.0, 1.0):
            # The plan is linear in the rate: two trials give the rate that fits.
            others = dict.fromkeys(
                [f"sample.{r}" for r in unit] + [f"map.{r}" for r in maps], rate(0.0, "", "")
            )
            rates = {**others, **known, **GPP_UNKNOWN, name: rate(trial, "", "")}
            work = work_of(config, {}, Rates(FILE, "", "", rates), flops)
            told.append(next(one.core_seconds for one in work if one.rule == rule))
        least, most = told
        wanted = max(0.0, (sum(spent[rule]) - least) / (most - least))
        found[name] = rate(wanted, text, f"demo: {rule}")
    return found | _of_gpp(config, spent, known)


GPP_UNKNOWN = {name: rate(0.0, "", "") for name in ("gpp.fit", "gpp.fit_size", "gpp.baselines")}


def _of_gpp(
    config: Config, spent: Mapping[str, list[float]], known: Mapping[str, Rate]
) -> dict[str, Rate]:
    """Fits of GPP: a line through the demo's regressor and the paper's."""
    assert config.gpp
    start = known["start.torch"]["value"]
    towers, block, paper = len(config.gpp.towers), config.gpp.regressor, Config().gpp
    assert paper
    lengths = 2 * len(config.gpp.other_window_days)
    jobs = spent["gpp_transformer"]
    fits = ((len(jobs) - lengths) * (1 + towers) + lengths) * block.seeds
    own = (sum(jobs) - start * len(jobs)) / fits / towers
    sizes = [b.width * b.blocks * b.max_epochs for b in (block, paper.regressor)]
    fit, size = line([(sizes[0], own), (sizes[1], PAPERS_FIT_S / PAPERS_TOWERS)])
    by = "demo: gpp_transformer; docs/evaluation.md: 31 s per fit of the paper's for six towers"
    simple = (spent["gpp_baselines"][0] - known["start"]["value"]) / towers
    return {
        "gpp.fit": rate(fit, "s per fit and tower", by),
        "gpp.fit_size": rate(size, "s per fit, tower, channel, block and epoch", by),
        "gpp.baselines": rate(simple, "s per tower", "demo: gpp_baselines"),
    }


def compared(run: Path, rates: Rates) -> list[dict[str, Any]]:
    """The plan of the demo beside what it took, in core seconds, by stage."""
    config, spent = check([ROOT / "config" / "demo.yaml"]), jobs_of(run)
    stages: dict[str, dict[str, Any]] = {}
    for work in work_of(config, {}, rates, count_flops(config)):
        row = stages.setdefault(work.rule, {"rule": work.rule, "stage": work.stage})
        row |= {"jobs": work.jobs, "planned_s": work.core_seconds}
        row |= {"took": len(spent.get(work.rule, [])), "took_s": sum(spent.get(work.rule, []))}
    return list(stages.values())


def machine() -> str:
    """The machine in words."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            text.split(":")[1] for text in info.read_text().splitlines() if "model name" in text
        ]
        model = names[0].strip() if names else model
    return f"one core ({model})"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--demo", type=Path, help="folder of a finished demo: results/demo")
    for script in ("cube", "training", "dense_export"):
        option = f"--{script.replace('_', '-')}"
        parser.add_argument(option, type=Path, help=f"output of {script}.py --json")
    parser.add_argument("--short", action="store_true", help="measure what is measured here")
    parser.add_argument("--plans", type=Path, nargs="+", help="plan.json of runs, for the figure")
    parser.add_argument("--figure", type=Path, help="draw these plans here")
    arguments = parser.parse_args()
    one_thread()
    rates: dict[str, Rate] = read_json(FILE)["rates"] if FILE.exists() else {}
    # What somebody measured since prevails over an assumption.
    rates |= {
        name: entry
        for name, entry in assumed().items()
        if name not in rates or rates[name]["by"].startswith(ASSUMPTION)
    }
    flops = count_flops(Config())
    if arguments.cube:
        rates |= from_cube(read_json(arguments.cube))
    if arguments.training:
        rates |= from_training(read_json(arguments.training), flops)
    if arguments.dense_export:
        rates |= from_dense_export(read_json(arguments.dense_export), flops)
    if arguments.short:
        by = "rates.py"
        share = measured(speed_of_fusion).result
        text = f"{by}: train.speed times {share:.2f}, the fusion's share of an encoder's"
        rates["train.fusion_speed"] = rate(
            share * rates["train.speed"]["value"], "GFLOP/s of a core", text
        )
        rates["reading"] = rate(
            measured(reading).result, "s per 1e6 values", f"{by}: cube to array"
        )
        rows = measured(landsat, (90, 1000), date(2021, 3, 31)).result
        rates |= of_cubes(rows, "landsat-c2-l2", f"{by}: three months, as cube.py", 0)
        # Its files are a single block, which is read whole for either size.
        whole = rates["build.landsat-c2-l2.read_frame"]["value"] / (SCENES * SCENE_PX / 1e3) ** 2
        name = "build.landsat-c2-l2.read_megapixel"
        rates[name] = rate(whole, "bytes per frame and megapixel", f"{by}: bytes of a whole file")
    if arguments.demo:
        rates |= from_demo(arguments.demo, check([ROOT / "config" / "demo.yaml"]), rates)
    sources = (arguments.cube, arguments.training, arguments.dense_export, arguments.demo)
    if any(sources) or arguments.short or not FILE.exists():
        content = {"machine": machine(), "date": date.today().isoformat()}
        write_json(FILE, content | {"rates": dict(sorted(rates.items()))})
    result: dict[str, Any] = {"training_gflop": dict(flops.training)}
    result["rates"] = [{"rate": name, **entry} for name, entry in sorted(rates.items())]
    if arguments.demo:
        result["demo"] = compared(arguments.demo, Rates.read(FILE))
    if arguments.figure:
        from pipeline_lib.plan.figure import draw_plans

        draw_plans([Plan.from_json(read_json(p)) for p in arguments.plans], arguments.figure)
    show(result, arguments.json)


if __name__ == "__main__":
    main()
