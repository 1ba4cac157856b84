"""How much an embedding tells with more or fewer dimensions, from one set of encoders.

On a finished run: the latents of probed samples are fused anew into each number of dimensions (the
fusion is fitted on the samples of the training split), and leaf area, soil moisture and the rest of
the ground's state are predicted at sites left out of the fit, one by one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoders import truth_of
from measure import one_thread, show
from numpy.typing import NDArray

from pipeline_lib.evaluate.probes import FITTED_ON, Probed, fused_splits, leave_one_site_out
from pipeline_lib.models import Fusion, load_encoder, load_fusion
from pipeline_lib.training.fusions import fit, latent_axes, latent_weights

DIMENSIONS = (4, 7, 9, 12, 16)
SETS = ("embedding", "reference_only")


def fused(fusion: Fusion, latents: NDArray[np.float64], reference: str = "") -> NDArray[np.float64]:
    """Embeddings of latents side by side, NaN where a sensor is absent; of one sensor if named."""
    parts = torch.from_numpy(latents).float().split(fusion.sizes, dim=1)
    values = dict(zip(fusion.sensors, parts, strict=True))
    present = {name: own.isfinite().all(dim=1) for name, own in values.items()}
    if reference:
        present = {name: own & (name == reference) for name, own in present.items()}
    with torch.inference_mode():
        days = {name: torch.zeros(len(latents)) for name in values}
        return fusion.fuse(values, days, present).double().numpy()


def curve(run: Path, samples: int, dimensions: tuple[int, ...], seed: int) -> list[dict[str, Any]]:
    """Scores at sites left out by dimensions, set of features and target."""
    folder = run / "models"
    block = load_fusion(folder / "fusion").block
    folders = {name: folder / name for name in load_fusion(folder / "fusion").encoders}
    encoders = {name: load_encoder(path) for name, path in folders.items()}
    cubes = {name: sorted((run / "cubes" / name).glob("*.zarr.zip")) for name in encoders}
    probed, _ = fused_splits(
        fusion=folder / "fusion",
        encoders=folders,
        cubes=cubes,
        split_table=run / "dataset/split.csv",
        truth=truth_of(run, cubes[block.reference]),
        labels={path.stem: path for path in (run / "labels").glob("*.npz")},
        seed=seed,
        max_samples=samples,
    )
    latents = {name: encoder.sensor.latent_dim for name, encoder in encoders.items()}
    learned = torch.from_numpy(probed[FITTED_ON].features["latents"])
    whole = Probed.joined(list(probed.values()))
    rows = []
    for number in dimensions:
        fusion = Fusion(latents, block.model_copy(update={"embedding_dim": number}))
        fit(
            fusion,
            learned,
            learned.isfinite(),
            latent_axes(encoders),
            latent_weights(block, encoders),
        )
        changed = {
            "bands": whole.features["bands"],
            "embedding": fused(fusion, whole.features["latents"]),
            "reference_only": fused(fusion, whole.features["latents"], block.reference),
        }
        for target, about in leave_one_site_out(replace(whole, features=changed)).items():
            row = {"dimensions": number, "target": target, "samples": about["samples"]}
            for kind in ("scores", "boosting", "nearest"):
                for name in SETS if about.get(kind) else ():
                    row[f"{name}, {kind}".replace("scores", "linear")] = about[kind][name]
            rows.append(row)
    return rows


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--run", type=Path, default=Path("results/demo"), help="a finished run")
    parser.add_argument("--samples", type=int, default=4096, help="samples of each split")
    parser.add_argument("--dimensions", type=int, nargs="+", default=DIMENSIONS)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    one_thread()
    rows = curve(arguments.run, arguments.samples, tuple(arguments.dimensions), arguments.seed)
    show({"scores": rows}, arguments.json)


if __name__ == "__main__":
    main()
