"""What int8 and float16 cost beside float32: bytes, cosine similarity, and linear probes.

On a finished run: its exported embeddings are computed anew as float32 and written in each type,
and the probes of the fused embedding are fitted and scored on rounded embeddings.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import one_thread, show
from numpy.typing import NDArray

from pipeline_lib.config import Embed
from pipeline_lib.embed import embed_cube, read_embedding, read_manifest
from pipeline_lib.embed.store import EMBEDDING_CODINGS, Coding
from pipeline_lib.evaluate.probes import FITTED_ON, fused_splits, probe_scores
from pipeline_lib.files import read_json

TYPES = ("float32", "float16", "int8")
SAMPLES = 4096


def rounded(values: NDArray[np.floating], coding: Coding) -> NDArray[np.float64]:
    """Numbers as they come back from a store."""
    stored, _ = coding.encode(values.astype(np.float32))
    return stored.astype(np.float64) * (coding.step or 1.0)


def sizes(run: Path, cube: str, folder: Path) -> list[dict[str, Any]]:
    """Bytes of one cube's product by type, and how near its embeddings are to float32."""
    sensors = read_json(run / "models/fusion/model.json")["encoders"]
    files = {name: run / "cubes" / name / f"{cube}.zarr.zip" for name in sensors}
    products = {}
    for dtype in TYPES:
        products[dtype] = folder / dtype
        embed_cube(
            cube=cube,
            cubes={name: path for name, path in files.items() if path.exists()},
            encoders={name: run / "models" / name for name in sensors},
            fusion=run / "models/fusion",
            embed=Embed(dtype=dtype),
            state=folder / "state",
            output=products[dtype],
            config_digest="none",
        )
    exact = _vectors(products["float32"])
    rows = []
    for dtype, product in products.items():
        manifest, stored = read_manifest(product), _vectors(product)
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(stored, axis=1)
        cosine = (exact * stored).sum(axis=1) / lengths
        own = sum(
            size for name, size in manifest["files"].items() if name.startswith("embedding/c/")
        )
        whole = sum(manifest["files"].values())
        rows.append(
            {
                "type": dtype,
                "bytes_per_embedding": own / len(exact),
                "with_quality_layers": whole / len(exact),
                "cosine_mean": float(cosine.mean()),
                "cosine_least_of_999": float(np.quantile(cosine, 0.001)),
                "clipped": manifest["clipped"],
                "embeddings": len(exact),
            }
        )
    return rows


def _vectors(product: Path) -> NDArray[np.float64]:
    values = read_embedding(product)["embedding"].transpose("time", "y", "x", "feature").values
    vectors = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return vectors[np.isfinite(vectors).all(axis=1)]


def probes(run: Path, seed: int) -> list[dict[str, Any]]:
    """Scores of the probes of the fused embedding, by type, on the test split."""
    split_table = run / "dataset/split.csv"
    sensors = read_json(run / "models/fusion/model.json")["encoders"]
    with split_table.open(newline="") as handle:
        truths = {
            row["cube"]: run / "truth" / f"{row['site']}.npz" for row in csv.DictReader(handle)
        }
    samples, _ = fused_splits(
        fusion=run / "models/fusion",
        encoders={name: run / "models" / name for name in sensors},
        cubes={name: sorted((run / "cubes" / name).glob("*.zarr.zip")) for name in sensors},
        split_table=split_table,
        truth={cube: path for cube, path in truths.items() if path.exists()},
        labels={},
        seed=seed,
        max_samples=SAMPLES,
    )
    samples = {split: samples[split] for split in (FITTED_ON, "test")}
    scores = {}
    for dtype in TYPES:
        coding = EMBEDDING_CODINGS[dtype]
        changed = {}
        for split, part in samples.items():
            embedding = rounded(part.features["embedding"], coding)
            changed[split] = replace(part, features={**part.features, "embedding": embedding})
        scores[dtype] = probe_scores(changed)["splits"]["test"]["targets"]
    rows = []
    for target, about in scores["float32"].items():
        if about["scores"] is None:
            continue
        row = {"target": target, "metric": about["metric"], "samples": about["samples"]}
        rows.append(row | {dtype: scores[dtype][target]["scores"]["embedding"] for dtype in TYPES})
    return rows


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--run", type=Path, default=Path("results/demo"), help="a finished run")
    parser.add_argument("--cube", default="DE-Gra", help="the cube whose product is written")
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        stored = sizes(arguments.run, arguments.cube, Path(folder))
    show({"sizes": stored, "probes": probes(arguments.run, arguments.seed)}, arguments.json)


if __name__ == "__main__":
    main()
