"""The corrections against simulated land whose nadir reflectance is known."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from pipeline_lib.acquire.angles import parse_angles
from pipeline_lib.acquire.brdf import c_factor_on_nodes, fill_nearest, mean_angles, on_grid
from pipeline_lib.acquire.clouds import CLOUD_BANDS, CloudModel
from pipeline_lib.config import SENTINEL_2, CubeGrid, Demo
from pipeline_lib.cubes import CLEAR, THICK_CLOUD, CubeRequest
from simulated_archive.bands import BANDS as ARCHIVE_BANDS
from simulated_archive.canopy import CanopyTable
from simulated_archive.geometry import SceneAngles, granule_of, scene_angles
from simulated_archive.granule import granule_xml
from simulated_archive.optical import surface_reflectance
from simulated_archive.site import Site, make_site

BANDS = SENTINEL_2.bands
NOON = datetime(2021, 7, 10, 10, 15, tzinfo=UTC)
ACROSS = 9.0


@pytest.fixture(scope="module")
def table(canopy_table: Path) -> CanopyTable:
    return CanopyTable.read(canopy_table)


@pytest.fixture(scope="module")
def site() -> Site:
    days = date(2021, 1, 1), date(2021, 12, 31)
    return make_site(
        [CubeRequest("site-000-a", "site-000", "grassland", 11.7, 48.3, *days)],
        cube=CubeGrid(size_px=48, cloud_context_px=24),
        demo=Demo(),
        seed=42,
    )


def angles_from(site: Site, across: float) -> SceneAngles:
    return scene_angles(time=NOON, lon=site.lon, lat=site.lat, window=site.window, across=across)


def factor_of(site: Site, scene: SceneAngles) -> tuple[np.ndarray, dict[str, float]]:
    """The c-factor on the cube, by way of the metadata that the archive would hold."""
    properties = {"s2:granule_id": "tile", "s2:datastrip_id": "strip", "eo:cloud_cover": 0}
    properties["datetime"] = NOON.isoformat()
    text = granule_xml(granule_of(site.window), scene, properties)
    angles = parse_angles(text.encode(), BANDS)
    factor = on_grid(fill_nearest(c_factor_on_nodes(angles)), angles, site.cube)
    return factor, mean_angles(angles, site.cube)


def seen_from(site: Site, table: CanopyTable, scene: SceneAngles) -> np.ndarray:
    rows = [list(ARCHIVE_BANDS).index(band) for band in BANDS]
    directional, _ = surface_reflectance(site.ground(NOON.date()), site.landscape, table, scene)
    return directional[rows][:, *site.within(site.cube)]


def test_the_correction_brings_the_two_view_sides_closer(site: Site, table: CanopyTable) -> None:
    before, after, azimuths = [], [], []
    for across in (-ACROSS, ACROSS):
        scene = angles_from(site, across)
        factor, angles = factor_of(site, scene)
        seen = seen_from(site, table, scene)
        before.append(seen)
        after.append(seen * factor)
        azimuths.append(angles["view_azimuth"])
    assert azimuths[0] > 180 > azimuths[1]
    apart = np.abs(before[0] - before[1]).mean(axis=(1, 2))
    left = np.abs(after[0] - after[1]).mean(axis=(1, 2))
    # Coefficients for the whole globe fit no land exactly, but the sign is right in every band.
    assert (left < apart).all(), dict(zip(BANDS, left / apart, strict=True))


def test_a_view_from_nadir_is_left_alone(site: Site) -> None:
    factor, angles = factor_of(site, angles_from(site, 0.0))
    assert angles["view_zenith"] < 2
    np.testing.assert_allclose(factor, 1, atol=0.01)


@pytest.mark.parametrize("size", [64, 50], ids=["no padding", "padding"])
def test_no_pixel_is_called_clear_for_lying_at_the_edge(size: int) -> None:
    import torch

    def network(shown: torch.Tensor) -> torch.Tensor:
        """Thick cloud everywhere but on the rim, which is how the real one fails."""
        logits = torch.zeros(len(shown), 4, *shown.shape[2:])
        logits[:, CLEAR] = 1
        logits[:, THICK_CLOUD, 1:-1, 1:-1] = 2
        return logits

    model = CloudModel.__new__(CloudModel)
    model.device, model.network = torch.device("cpu"), network
    classes = model.classify(np.full((2, len(CLOUD_BANDS), size, size), 0.6, np.float32))
    assert (classes == THICK_CLOUD).all()


@pytest.mark.real
def test_no_pixel_of_real_overcast_scenes_is_called_clear(shared_data: Path) -> None:
    with np.load(shared_data / "s2" / "sentle_pc_nbar.npz") as content:
        order = [content["bands"].tolist().index(band) for band in CLOUD_BANDS]
        reflectance = content["data"][:, order] / np.float32(10000)
    overcast = np.median(reflectance[:, 1], axis=(1, 2)) > 0.25
    assert overcast.sum() == 3
    assert (CloudModel().classify(reflectance)[overcast] != CLEAR).all()
