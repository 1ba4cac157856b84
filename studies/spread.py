"""Spread over seeds: encoders and fusion trained anew, and every score beside the baselines.

Takes a finished run (its cubes, split, scaling, noise and labels), and for each seed trains the
encoders and the fusion, evaluates them, probes them and measures their maps by the project's own
functions. The seed decides first weights and the samples that are learned from; the samples that
are scored are the run's. A score says something about the method where it differs from the best
baseline by more than the seeds differ from each other.

What is done is kept under ``results/<run>/spread/``, in a folder for the code, the config, the
cubes and the processor's instructions, so that a stopped study goes on where it was. A study of
other instructions, for ``--compare``: ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from encoders import config_of, truth_of
from measure import one_thread, show

from pipeline_lib.code_digest import code_digest
from pipeline_lib.config import Config
from pipeline_lib.dataset import cube_name, read_split
from pipeline_lib.dataset.split import UNUSED
from pipeline_lib.files import digest_of, read_json, remove

SUBJECTS = ("model", "embedding")
"""What the trained models give, under the name that the results have for it."""
LEARNED = r"embedding|latents|reference_only|encoder_alone"
"""Other sets that the seed changes. Those that it does not are baselines."""
LOWER = r"mae|sam$|loss|noise|step"
"""Scores of which less is better."""
SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
STAGES = (
    *("train_encoder", "train_fusion", "evaluate_encoder", "evaluate_fusion"),
    *("probe_encoder", "probe_fusion", "embed_cube", "assess_maps"),
)
INSTRUCTIONS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


@dataclass(frozen=True)
class Study:
    """One training of everything with one seed."""

    config: str
    threads: int
    seed: int

    @property
    def run(self) -> Path:
        """Folder of the finished run."""
        return Path("results") / config_of(self.config).run

    def identity(self) -> dict[str, Any]:
        """What the results depend on besides the seed."""
        import torch

        products = [self.run / "dataset" / "split.csv", *self.run.glob("dataset/*/*.json")]
        cubes = [*self.run.glob("cubes/*/*.zarr.zip"), *self.run.glob("labels/*.npz")]
        parsed = config_of(self.config).model_dump(mode="json")
        learning = ("sensors", "context", "training", "fusion", "embed", "evaluation_samples")
        return {
            "code": digest_of([code_digest(SCRIPTS / f"{stage}.py") for stage in STAGES]),
            "config": digest_of({key: parsed[key] for key in ("seed", *learning)}),
            "inputs": digest_of(
                [
                    [str(path), path.stat().st_size, path.stat().st_mtime_ns]
                    for path in sorted([*products, *cubes])
                ]
            ),
            "threads": self.threads,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            **{name: os.environ.get(name, "") for name in INSTRUCTIONS},
        }

    @property
    def folder(self) -> Path:
        """Where the models and their results lie."""
        return self.run / "spread" / digest_of(self.identity())[:12] / f"seed-{self.seed}"


def work(study: Study, folder: Path) -> None:
    """Train and measure with one seed, but for what is there already."""
    from pipeline_lib.evaluate import maps, probes, reconstruction
    from pipeline_lib.training import train_encoder, train_fusion

    config, run = config_of(study.config), study.run
    split = run / "dataset" / "split.csv"
    used = read_split(split)
    probed = {name: sorted((run / "cubes" / name).glob("*.zarr.zip")) for name in config.sensors}
    cubes = {name: [p for p in paths if cube_name(p) in used] for name, paths in probed.items()}
    one_process = {"threads": study.threads, "devices": 1}
    common = {"context": config.context, "seed": study.seed, "split_table": split}
    models = {name: folder / "models" / name for name in config.sensors}
    for name, model in models.items():
        if not model.exists():
            train_encoder(
                sensor_name=name,
                sensor=config.sensors[name],
                training=config.training.model_copy(update=one_process),
                cubes=cubes[name],
                normalisation=run / "dataset" / name / "normalisation.json",
                noise=run / "dataset" / name / "noise.json",
                state=folder / "state" / name,
                output=model,
                config_digest="",
                **common,
            )
    fusion = folder / "models" / "fusion"
    if not fusion.exists():
        train_fusion(
            fusion=config.fusion,
            cubes=cubes,
            encoders=models,
            state=folder / "state" / "fusion",
            output=fusion,
            config_digest="",
            threads=study.threads,
            **common,
        )
    # The same samples for every seed, so that seeds differ in the models alone.
    scored = {"split_table": split, "seed": config.seed}
    samples = scored | {"max_samples": config.evaluation_samples}
    truth = truth_of(run, probed[config.fusion.reference])
    labels = {path.stem: path for path in (run / "labels").glob("*.npz")}
    joined = {"fusion": fusion, "encoders": models}
    known = {"truth": truth, "labels": labels, **samples}
    tasks = {
        "fusion": partial(reconstruction.evaluate_fusion, **joined, **samples, cubes=cubes),
        "probes-fusion": partial(probes.probe_fusion, **joined, **known, cubes=probed),
    }
    for name, model in models.items():
        evaluate, probe = reconstruction.evaluate_encoder, probes.probe_encoder
        tasks[name] = partial(evaluate, model=model, cubes=cubes[name], **samples)
        tasks[f"probes-{name}"] = partial(probe, model=model, cubes=probed[name], **known)
    for name, task in tasks.items():
        if not (output := folder / "evaluation" / f"{name}.json").exists():
            task(output=output)
    if not (output := folder / "evaluation" / "maps.json").exists():
        manifests = embedded(study, config, folder, cubes)
        order = sorted(config.sensors, key=lambda name: name != config.fusion.reference)
        by_cube = {
            name: {
                p.name.split(".")[0]: p for p in cubes[name] if p.name.split(".")[0] in manifests
            }
            for name in order
        }
        maps.assess_maps(embeddings=manifests, cubes=by_cube, truth=truth, output=output, **scored)
        remove(folder / "embeddings")


def embedded(
    study: Study, config: Config, folder: Path, cubes: Mapping[str, Sequence[Path]]
) -> dict[str, Path]:
    """Manifests of the embeddings of the cubes that the maps are measured on."""
    from pipeline_lib.embed import embed_cube

    used = read_split(study.run / "dataset" / "split.csv")
    own = {cube for cube, block in config.own_cubes.items() if not block.embed}
    found = {}
    for path in cubes[config.fusion.reference]:
        cube = cube_name(path)
        if used[cube] == UNUSED or cube in own:
            continue
        output = folder / "embeddings" / cube
        found[cube] = output / "manifest.json"
        if not found[cube].exists():
            files = {name: study.run / "cubes" / name / path.name for name in config.sensors}
            embed_cube(
                cube=cube,
                cubes={name: file for name, file in files.items() if file.exists()},
                encoders={name: folder / "models" / name for name in config.sensors},
                fusion=folder / "models" / "fusion",
                embed=config.embed,
                state=folder / "state" / "embed" / cube,
                output=output,
                config_digest="",
            )
    return found


Sets = Mapping[str, float | None]


def scores_in(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Sets]]:
    """Name of each score of one file of results, and its value by set of features or model.

    A score is whatever an embedding, or a model, has beside others.
    """
    if isinstance(content.get("model"), Mapping):
        sets = {"model": content["model"], **content.get("baselines", {})}
        yield from _by_metric(sets, path)
    elif isinstance(content.get("embedding"), Mapping):
        yield from _by_metric(content, path)
    elif isinstance(content.get("embedding"), float):
        yield " ".join(path), content
    else:
        for key, inner in content.items():
            if isinstance(inner, Mapping) and key != "features":
                yield from scores_in(inner, (*path, key))


def _by_metric(sets: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Sets]]:
    """The scores of sets that have several each, some by sensor."""
    subject = next(sets[name] for name in SUBJECTS if name in sets)
    for metric, value in subject.items():
        inner = {name: values[metric] for name, values in sets.items() if metric in values}
        if isinstance(value, Mapping):
            yield from _by_metric(inner, (*path, metric))
        elif isinstance(value, float):
            yield " ".join((*path, metric)), inner


def row_of(score: str, seeds: Sequence[Sets]) -> dict[str, Any]:
    """A line of a table: the embedding's mean and range, the baselines, and what that means.

    ``result`` is ``none`` where the embedding's mean is no farther from the best baseline than the
    seeds are from each other.
    """
    subject = next(name for name in SUBJECTS if name in seeds[0])
    by_set = {
        name: [float(one[name]) for one in seeds]  # type: ignore[arg-type]
        for name in seeds[0]
        if all(isinstance(one.get(name), float) for one in seeds)
    }
    own = by_set.pop(subject)
    learned = {name for name in by_set if re.search(LEARNED, name)}
    learned |= {name for name, v in by_set.items() if not np.allclose(v, v[0], rtol=1e-6)}
    baselines = {name: values[0] for name, values in by_set.items() if name not in learned}
    sign = -1 if re.search(LOWER, score) else 1
    mean, low, high = float(np.mean(own)), min(own), max(own)
    row: dict[str, Any] = {"score": score, "mean": mean, "lowest": low, "highest": high}
    if baselines:
        best = max(baselines, key=lambda name: sign * baselines[name])
        ahead = sign * (mean - baselines[best])
        within = abs(ahead) <= high - low
        row |= {
            "best baseline": best,
            "result": "none" if within else "better" if ahead > 0 else "worse",
        }
    row |= baselines
    row |= {name: f"{np.mean(v):.4g} ({min(v):.4g} to {max(v):.4g})" for name, v in by_set.items()
            if name in learned}  # fmt: skip
    return row | {"seeds": own}


def tables(folders: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """A table for each file of results and split: a line for each score that all seeds have."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((folders[0] / "evaluation").glob("*.json")):
        by_seed = [dict(scores_in(read_json(f / "evaluation" / path.name))) for f in folders]
        for name in by_seed[0]:
            if all(name in one for one in by_seed):
                part, _, score = name.removeprefix("splits ").partition(" ")
                score = score.removeprefix("targets ").removeprefix("sets ").removesuffix(" scores")
                where = f"{path.stem}, {part.replace('_', ' ')}"
                row = row_of(score, [one[name] for one in by_seed])
                found.setdefault(where, []).append(row)
    return found


def moved(here: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """How much each mean of a study differs from that of another one, beside its range."""
    found = {}
    for where, rows in here.items():
        known = {row["score"]: row for row in other.get(where, ())}
        found[f"moved: {where}"] = [
            {
                "score": row["score"],
                "here": row["mean"],
                "other": known[row["score"]]["mean"],
                "moved": row["mean"] - known[row["score"]]["mean"],
                "range over seeds": row["highest"] - row["lowest"],
                "result here, other": f"{row.get('result', '-')}, "
                f"{known[row['score']].get('result', '-')}",
            }
            for row in rows
            if row["score"] in known
        ]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Train with all seeds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="config/demo.yaml", help="of the finished run")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, two or more")
    parser.add_argument("--processes", type=int, default=2, help="seeds side by side")
    parser.add_argument("--threads", type=int, default=1, help="of each training")
    parser.add_argument("--compare", type=Path, help="JSON of another study: what moved")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    one_thread()
    studies = [Study(given.config, given.threads, seed) for seed in range(max(2, given.seeds))]
    if not (studies[0].run / "dataset" / "split.csv").exists():
        parser.error(f"{studies[0].run}: no finished run; run snakemake with {given.config}")
    folders = [study.folder for study in studies]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.processes, mp_context=spawn) as pool:
        for future in [pool.submit(work, *pair) for pair in zip(studies, folders, strict=True)]:
            future.result()
    found = tables(folders)
    about = {"run": studies[0].run.name, "seeds": len(studies), **studies[0].identity()}
    if given.json:
        more = moved(found, json.loads(given.compare.read_text())) if given.compare else {}
        show({**about, **found, **more}, as_json=True)
        return
    if given.compare:
        show({**about, **moved(found, json.loads(given.compare.read_text()))}, as_json=False)
        return
    shown = {
        where: [{key: value for key, value in row.items() if key != "seeds"} for row in rows]
        for where, rows in found.items()
    }
    show({**about, **shown}, as_json=False)


if __name__ == "__main__":
    main()
