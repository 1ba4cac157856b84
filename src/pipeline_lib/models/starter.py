"""The starter weights, as a folder to ship or to publish, from the models of a finished run.

``python -m pipeline_lib.models.starter results/real OUT`` writes the folder `config.models_folder`
reads: models, a card, and the digests of all files.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline_lib.config.weights import SUMS
from pipeline_lib.cubes import grid_of, read_cube
from pipeline_lib.dataset.split import NEEDED, read_split
from pipeline_lib.errors import UserError
from pipeline_lib.files import atomic_path, digest_file
from pipeline_lib.models.artefact import CARD, CURVES, DESCRIPTION, WEIGHTS, load_models, render

LARGEST_BYTES = 3_000_000


def write_starter(run: Path, output: Path) -> str:
    """Write the folder of a run's models, whole or not at all; the digest of its digest file.

    Raises UserError if the run has no models or cubes, or the folder would be larger than 3 MB.
    """
    fusion, encoders = load_models(run / "models")
    places = sorted(_places(run, encoders), key=lambda place: (place["split"], place["cube"]))
    if not places:
        raise UserError(f"{run}: no cube of the training is there; name the folder of the run")
    card = render(
        "starter",
        encoders=encoders,
        block=fusion.block,
        digest=fusion.model_digest,
        places=places,
        area=sum(place["km2"] for place in places),
        resolution=" or ".join(sorted({f"{place['resolution']:g}" for place in places})),
    )
    with atomic_path(output) as partial:
        for name in ("fusion", *encoders):
            (partial / name).mkdir(parents=True)
            for file in (DESCRIPTION, WEIGHTS, CURVES, CARD):
                shutil.copy(run / "models" / name / file, partial / name / file)
        (partial / CARD).write_text(f"{card}\n")
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        if (size := sum(path.stat().st_size for path in files)) > LARGEST_BYTES:
            raise UserError(f"{run / 'models'}: {size / 1e6:.1f} MB, more than the package takes")
        lines = [f"{digest_file(path)}  {path.relative_to(partial).as_posix()}" for path in files]
        (partial / SUMS).write_text("\n".join(lines) + "\n")
    return digest_file(output / SUMS)


def _places(run: Path, sensors: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Where and when the cubes of the training lie, the files of all sensors together."""
    split = read_split(run / "dataset" / "split.csv")
    for name, part in split.items():
        paths = [run / "cubes" / sensor / f"{name}.zarr.zip" for sensor in sensors]
        cubes = [read_cube(path, load=False) for path in paths if path.exists()]
        if part not in NEEDED or not cubes:
            continue
        grid, years = grid_of(cubes[0]), {int(y) for c in cubes for y in c["time"].dt.year.values}
        west, south, east, north = grid.lonlat_bounds()
        yield {
            "cube": name,
            "split": part,
            "lat": (south + north) / 2,
            "lon": (west + east) / 2,
            "years": "-".join(str(year) for year in sorted({min(years), max(years)})),
            "dates": " + ".join(str(cube.sizes["time"]) for cube in cubes),
            "source": "; ".join(sorted({str(cube.attrs["source"]) for cube in cubes})),
            "km2": grid.height * grid.width * grid.resolution**2 / 1e6,
            "resolution": grid.resolution,
        }


def main() -> int:
    """Write the folder, and say how to name it once it is published."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("output", type=Path, help="folder to write")
    given = parser.parse_args()
    try:
        digest = write_starter(given.run, given.output)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{given.output}: publish it as a file tree, and name it https://...#sha256={digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
