"""Encoders side by side: variants of one sensor's autoencoder, trained with several seeds.

Takes the cubes of a run that has them (``snakemake models`` with the run's config makes them, and
the split and the scaling), trains each variant with each seed as the workflow would, and measures
reconstruction and probes as the workflow would. Models and results are kept under
``results/<run>/variants/``, so that a stopped comparison goes on where it was.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from measure import one_thread, show
from snakemake.utils import update_config

from pipeline_lib.config import Config, Sensor
from pipeline_lib.config import parse as parse_config
from pipeline_lib.dataset import cube_name
from pipeline_lib.files import read_json

AUTHORS: dict[str, Any] = {
    "mae": 0.23, "centre": 0.0, "neighbourhood": 0.0, "ssim": 0.03, "sam": 0.74,
    "time_factor": 0.1, "first_ring_factor": 0.01, "ring_factor": 0.1,
}  # fmt: skip
"""The loss of the public code of the paper's group."""

VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {},
    "patch": {"encoder": {"kind": "patch"}},
    "dense, authors' loss, all dimensions learned": {"encoder": {"components": 0}, "loss": AUTHORS},
    "patch, authors' loss, all dimensions learned": {
        "encoder": {"kind": "patch", "components": 0},
        "loss": AUTHORS,
    },
    "dense, steep lambda": {
        "loss": {"time_factor": 0.1, "first_ring_factor": 0.01, "ring_factor": 0.1}
    },
    "dense, middle lambda": {
        "loss": {"time_factor": 0.45, "first_ring_factor": 0.03, "ring_factor": 0.5}
    },
    "dense, without neighbourhood": {"loss": {"neighbourhood": 0.0}},
}
"""What differs from the run's config. The config's own lambda is the gentlest."""

DEFAULTS = Path(__file__).parents[1] / "config" / "config.yaml"
METRICS = ("centre_mae", "centre_mae_scaled", "sam", "ssim_loss", "context_mae")


def config_of(path: str) -> Config:
    """The config of a run, as the workflow merges it."""
    content = yaml.safe_load(DEFAULTS.read_text())
    update_config(content, yaml.safe_load(Path(path).read_text()))
    return parse_config(content)


@dataclass(frozen=True)
class Job:
    """One training of the comparison."""

    config: str
    sensor: str
    variant: str
    seed: int

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return Path("results") / self.parsed().run

    @property
    def folder(self) -> Path:
        """Where the model and its results lie."""
        name = re.sub(r"\W+", "-", self.variant)
        return self.run / "variants" / self.sensor / name / f"seed-{self.seed}"

    def parsed(self) -> Config:
        """The run's config."""
        return config_of(self.config)

    def block(self) -> Sensor:
        """The sensor's block, changed as the variant wants it."""
        content = self.parsed().sensors[self.sensor].model_dump(mode="json")
        for key, changes in VARIANTS[self.variant].items():
            content[key] |= changes
        return Sensor.model_validate(content)


def work(job: Job, folder: Path) -> None:
    """Train and measure one variant, but for what is there already."""
    from pipeline_lib.evaluate.probes import probe_encoder
    from pipeline_lib.evaluate.reconstruction import evaluate_encoder
    from pipeline_lib.training import train_encoder

    config, run = job.parsed(), job.run
    cubes = sorted((run / "cubes" / job.sensor).glob("*.zarr.zip"))
    split = run / "dataset" / "split.csv"
    if not (folder / "model").exists():
        train_encoder(
            sensor_name=job.sensor,
            sensor=job.block(),
            context=config.context,
            training=config.training.model_copy(update={"threads": 1}),
            seed=job.seed,
            cubes=cubes,
            split_table=split,
            normalisation=run / "dataset" / job.sensor / "normalisation.json",
            noise=run / "dataset" / job.sensor / "noise.json",
            state=folder / "state",
            output=folder / "model",
            config_digest=job.variant,
        )
    for name, measure, more in (
        ("evaluation", evaluate_encoder, {}),
        ("probes", probe_encoder, {"truth": truth_of(run, cubes), "labels": {}}),
    ):
        if not (folder / f"{name}.json").exists():
            measure(
                model=folder / "model",
                cubes=cubes,
                split_table=split,
                # One draw for all, so that variants and seeds differ in the model alone.
                seed=config.seed,
                max_samples=config.evaluation_samples,
                output=folder / f"{name}.json",
                **more,
            )


def truth_of(run: Path, cubes: Sequence[Path]) -> dict[str, Path]:
    """Truth of the cubes of a simulated archive: named after a tower, or after site and period."""
    found = {}
    for path in cubes:
        name = cube_name(path)
        for site in (name, name.rpartition("-")[0]):
            if (file := run / "truth" / f"{site}.npz").exists():
                found[name] = file
    return found


def spread(values: Sequence[float | None]) -> str:
    """Mean over the seeds, and half the range."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    half = (max(known) - min(known)) / 2
    return f"{np.mean(known):.4f}" + (f" ± {half:.4f}" if len(known) > 1 else "")


Results = Mapping[str, list[dict[str, Any]]]
"""Variant -> content of one file for each seed."""


def errors_table(results: Results, split: str, group: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Reconstruction of each variant, and of what needs no network, on one split."""

    def row(name: str, contents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        return {"what": name} | {
            metric: spread([content.get(metric) for content in contents]) for metric in METRICS
        }

    def part(content: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
        for key in ("splits", split, *group, *keys):
            content = content.get(key, {})
        return content

    rows = [row(name, [part(c, "model") for c in contents]) for name, contents in results.items()]
    first = next(iter(results.values()))[0]
    return rows + [row(name, [values]) for name, values in part(first, "baselines").items()]


def probes_table(results: Results, split: str) -> list[dict[str, str]]:
    """Scores of the probes: of the baselines once, of each variant alone and beside the bands."""
    contents = next(iter(results.values()))
    targets = list(contents[0]["splits"].get(split, {}).get("targets", {}))

    def row(name: str, feature: str, contents: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        scores = [content["splits"][split]["targets"] for content in contents]
        return {"what": name, "from": feature} | {
            target: spread([one[target]["scores"].get(feature) for one in scores])
            for target in targets
        }

    features = list(dict.fromkeys(
        feature for target in targets
        for feature in contents[0]["splits"][split]["targets"][target]["scores"]
    ))  # fmt: skip
    shared = [name for name in features if "embedding" not in name]
    own = [name for name in features if "embedding" in name]
    rows = [row("no network", feature, contents[:1]) for feature in shared]
    return rows + [
        row(name, feature, contents) for name, contents in results.items() for feature in own
    ]


def groups_of(results: Results, split: str) -> Iterator[tuple[str, str]]:
    """Kinds and names of the groups of a split."""
    content = next(iter(results.values()))[0]["splits"].get(split, {})
    for kind in ("land_cover", "seasons"):
        for name in content.get(kind, {}):
            yield kind, name


def values_of(results: Results, split: str, metric: str) -> dict[str, list[float]]:
    """Variant or baseline -> an error of each seed."""
    first = next(iter(results.values()))[0]["splits"][split]["baselines"]
    own = {
        variant: [content["splits"][split]["model"][metric] for content in contents]
        for variant, contents in results.items()
    }
    return own | {
        name.replace("_", " ").replace("pca ", "PCA, "): [values[metric]]
        for name, values in first.items()
        if values.get(metric) is not None
    }


def scores_of(contents: Sequence[Mapping[str, Any]], split: str, target: str, of: str) -> list[Any]:
    """Score of a probe for each seed, where it could be made."""
    targets = [content["splits"][split]["targets"][target]["scores"] for content in contents]
    return [scores[of] for scores in targets if scores.get(of) is not None]


def draw(evaluations: Results, probes: Results, split: str, output: Path) -> None:
    """Centre and context errors of all, and what the probes find; a dot for each seed."""
    from pipeline_lib.report.style import COLOURS, INK, MUTED, drawing

    colours = dict(zip(evaluations, COLOURS, strict=False))
    panels = {
        "centre_mae": "MAE at the centre, sensor's unit",
        "context_mae": "MAE of the context, sensor's unit",
    }
    targets = list(next(iter(probes.values()))[0]["splits"][split]["targets"])
    height = 1.3 + 0.26 * (len(evaluations) + 4)
    with drawing(output, width=7.4, height=height + 1.2 + 0.42 * len(targets)) as figure:
        above, below = figure.subfigures(2, 1, height_ratios=[height, 1.2 + 0.42 * len(targets)])
        for number, (axes, (metric, label)) in enumerate(
            zip(above.subplots(1, 2, sharey=True), panels.items(), strict=True)
        ):
            rows = values_of(evaluations, split, metric)
            for y, (name, values) in enumerate(rows.items()):
                axes.plot(values, [y] * len(values), "o", ms=5, color=colours.get(name, MUTED))
            axes.set_yticks(range(len(rows)), list(rows))
            axes.set_ylim(len(rows) - 0.5, -0.5)
            if metric == "centre_mae":
                axes.set_xscale("log")
            else:
                axes.locator_params(axis="x", nbins=5)
            axes.set_xlabel(label)
            axes.set_title("ab"[number], loc="left", fontweight="bold")
            axes.grid(axis="x")
        axes = below.subplots()
        lanes = len(probes) + 1
        for y, target in enumerate(targets):
            first = next(iter(probes.values()))
            alone = scores_of(first[:1], split, target, "bands")
            axes.vlines(alone, y - 0.42, y + 0.42, color=INK, lw=1.6)
            for lane, (variant, contents) in enumerate(probes.items(), start=1):
                place = y - 0.5 + lane / lanes
                for features, filled in (("embedding", True), ("bands+embedding", False)):
                    values = scores_of(contents, split, target, features)
                    axes.plot(
                        values,
                        [place] * len(values),
                        "o" if filled else "D",
                        ms=4.5,
                        color=colours[variant],
                        mfc=colours[variant] if filled else "none",
                    )
        axes.set_yticks(range(len(targets)), [target.replace("_", " ") for target in targets])
        axes.set_ylim(len(targets) - 0.5, -0.5)
        axes.set_xlim(left=max(-1.0, axes.get_xlim()[0]))
        axes.set_xlabel("score on held-out sites: R², or balanced accuracy of land cover")
        axes.set_title("c", loc="left", fontweight="bold")
        axes.grid(axis="x")
        handles = [
            axes.plot([], [], "|", color=INK, ms=11, mew=1.6, label="bands alone")[0],
            axes.plot([], [], "o", color=MUTED, ms=4.5, label="embedding")[0],
            axes.plot([], [], "D", color=MUTED, ms=4.5, mfc="none", label="both together")[0],
            *(
                axes.plot([], [], "s", color=colour, ms=5, label=variant)[0]
                for variant, colour in colours.items()
            ),
        ]
        below.legend(handles=handles, loc="outside lower center", ncols=3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare variants and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="config/demo.yaml", help="of the run")
    parser.add_argument("--sensor", default="sentinel-2")
    parser.add_argument("--variants", nargs="+", default=["dense", "patch"], choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--split", default="test", help="split that the tables tell")
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side")
    parser.add_argument("--figure", type=Path, help="PNG file to draw")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    one_thread()
    jobs = [
        Job(given.config, given.sensor, variant, seed)
        for seed, variant in product(range(given.seeds), given.variants)
    ]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.processes, mp_context=spawn) as pool:
        for future in [pool.submit(work, job, job.folder) for job in jobs]:
            future.result()

    def read(name: str) -> dict[str, list[dict[str, Any]]]:
        return {
            variant: [read_json(j.folder / f"{name}.json") for j in jobs if j.variant == variant]
            for variant in given.variants
        }

    evaluations, probes = read("evaluation"), read("probes")
    if given.figure:
        draw(evaluations, probes, given.split, given.figure)
    tables: dict[str, list[dict[str, str]]] = {
        f"reconstruction, {given.split}": errors_table(evaluations, given.split),
        f"probes, {given.split}": probes_table(probes, given.split),
    }
    for group in groups_of(evaluations, given.split):
        title = f"reconstruction, {given.split}, {group[0].replace('_', ' ')}: {group[1]}"
        tables[title] = errors_table(evaluations, given.split, group)
    show({"sensor": given.sensor, "seeds": given.seeds, **tables}, given.json)


if __name__ == "__main__":
    main()
