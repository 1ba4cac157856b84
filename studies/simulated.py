"""A finished demo run: its cubes read by the pipeline's loader, and the truth beside them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from snakemake.utils import update_config

from pipeline_lib.acquire.frames import Frame
from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.acquire.sentinel2 import load_sentinel2
from pipeline_lib.config import Catalog, Config, SensorSource, parse
from pipeline_lib.cubes import CubeRequest, Grid
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.seeds import generator
from simulated_archive.clouds import Clouds, draw_clouds
from simulated_archive.geometry import SceneAngles, scene_angles
from simulated_archive.passes import OpticalPass, across_angle, optical_passes
from simulated_archive.site import Site, make_site

SENSOR = "sentinel-2"


@dataclass(frozen=True)
class PinnedCube:
    """A cube's request and its pinned items."""

    request: CubeRequest
    grid: Grid
    items: list[dict[str, Any]]


@dataclass(frozen=True)
class Truth:
    """The truth of a site on its cube's grid.

    ``place`` is the index of each acquisition time; ``nadir`` the reflectance seen from nadir,
    ``(time, band, y, x)``; ``classes`` those of :mod:`pipeline_lib.cubes`, ``(time, y, x)``.
    """

    place: dict[np.datetime64, int]
    nadir: NDArray[np.float32]
    classes: NDArray[np.uint8]


class Demo:
    """A finished demo run, the config that it was made with, and the bands of interest.

    Addresses of assets are relative to the folder that the run was made in.
    """

    def __init__(self, run: Path, config: Path, bands: Sequence[str]) -> None:
        if not (run / "truth").is_dir():
            raise UserError(f"{run}: no finished demo run; make one with `make demo`")
        self.run = run
        self.bands = list(bands)
        # As Snakemake does it: a config lies over the defaults beside it.
        content = yaml.safe_load(config.with_name("config.yaml").read_text())
        update_config(content, yaml.safe_load(config.read_text()))
        self.config: Config = parse(content)
        if self.config.demo is None:
            raise UserError(f"{config}: no block `demo`; name the config of the run")
        self.reader = AssetReader(
            Catalog(source=str(run / "archive"), signing="none", requests=1, missing_asset="fail")
        )

    @cached_property
    def cubes(self) -> list[PinnedCube]:
        """All cubes of the run, in order of their names."""
        cubes = []
        for path in sorted((self.run / "items" / SENSOR).glob("*.json")):
            pinned = read_json(path)
            request = CubeRequest.from_row(pinned["request"])
            cubes.append(PinnedCube(request, Grid(**pinned["grid"]), pinned["items"]))
        return cubes

    def chosen(self, count: int) -> list[PinnedCube]:
        """A seeded choice of ``count`` cubes; all of them where ``count`` is 0."""
        if not 0 < count < len(self.cubes):
            return self.cubes
        lots = generator(self.config.seed, "benchmark", "cubes").permutation(len(self.cubes))
        return [self.cubes[index] for index in sorted(lots[:count].tolist())]

    def load(self, cube: PinnedCube, *, brdf: bool, clouds: str) -> Iterator[Frame]:
        """Read a cube as production does, but keep every frame however cloudy."""
        sensor = self.config.sensors[SENSOR].source()
        changed = {"brdf": brdf, "clouds": clouds, "min_clear": 0.0}
        return load_sentinel2(
            sensor=SensorSource.model_validate(sensor.model_dump() | changed),
            cube=self.config.cube,
            grid=cube.grid,
            items=cube.items,
            lon=cube.request.lon,
            reader=self.reader,
        )

    def truth(self, site: str) -> Truth:
        """Read the truth of a site."""
        with np.load(self.run / "truth" / f"{site}.npz", allow_pickle=False) as content:
            names = content["bands"].tolist()
            rows = [names.index(band) for band in self.bands]
            # Times of the archive are UTC; numpy knows no zones.
            times = [np.datetime64(text[:26], "ns") for text in content["time"].tolist()]
            return Truth(
                place={time: index for index, time in enumerate(times)},
                nadir=content["nadir_reflectance"][:, rows] * np.float32(1e-4),
                classes=content["cloud_class"],
            )

    def with_truth(self, count: int) -> Iterator[tuple[PinnedCube, Truth, Simulation]]:
        """The chosen cubes, each with the truth and the simulator of its site."""
        site, chosen = "", self.chosen(count)
        for number, cube in enumerate(chosen, 1):
            print(f"{number}/{len(chosen)} {cube.request.cube}", file=sys.stderr, flush=True)
            if cube.request.site != site:
                site = cube.request.site
                truth, simulation = self.truth(site), self.simulation(site)
            yield cube, truth, simulation

    def simulation(self, site: str) -> Simulation:
        """The simulator of a site, as it was when the archive was written."""
        assert self.config.demo is not None
        requests = [cube.request for cube in self.cubes if cube.request.site == site]
        made = make_site(
            requests, cube=self.config.cube, demo=self.config.demo, seed=self.config.seed
        )
        passes: dict[np.datetime64, OpticalPass] = {}
        for request in requests:
            span = request.start, request.end
            for one in optical_passes(made.lon, *span, self.config.demo.optical_revisit_days):
                passes[np.datetime64(one.time.replace(tzinfo=None), "ns")] = one
        return Simulation(made, passes)


@dataclass(frozen=True)
class Simulation:
    """A site that can be simulated again, pass by pass, without what the archive adds."""

    site: Site
    passes: dict[np.datetime64, OpticalPass]

    def angles(self, time: np.datetime64) -> SceneAngles:
        """Where sun and sensor stood."""
        site, one = self.site, self.passes[time]
        return scene_angles(
            time=one.time,
            lon=site.lon,
            lat=site.lat,
            window=site.window,
            across=across_angle(site.lon, one.sensor_side),
        )

    def clouds(self, time: np.datetime64) -> Clouds:
        """The clouds of a pass over the whole window, as the archive drew them."""
        site, day, angles = self.site, self.passes[time].time.date(), self.angles(time)
        return draw_clouds(
            site.generator("optical", day.toordinal()),
            site.window.width,
            cloudiness=float(site.weather.cloudiness[site.weather.day(day)]),
            sun_zenith=angles.sun_zenith,
            sun_azimuth=angles.sun_azimuth,
        )


def demo_arguments(description: str) -> argparse.ArgumentParser:
    """The arguments of every script that looks at a finished demo run."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--run", type=Path, default=Path("results/demo"))
    parser.add_argument("--config", type=Path, default=Path("config/demo.yaml"))
    parser.add_argument("--cubes", type=int, default=0, help="a seeded choice; 0: all")
    parser.add_argument("--json", action="store_true")
    return parser


def another_truth(demo: Demo, site: str) -> UserError:
    """The error where a site that is simulated again differs from the run's truth."""
    return UserError(
        f"{demo.run}: simulating {site} again gives another truth; use the config and the version "
        "that the run was made with"
    )
