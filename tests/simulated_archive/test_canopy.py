from pathlib import Path

import numpy as np
import pytest

from simulated_archive.bands import BANDS
from simulated_archive.canopy import MEAN_LEAF_ANGLE, CanopyTable, Ground


@pytest.fixture(scope="module")
def table(canopy_table: Path) -> CanopyTable:
    return CanopyTable.read(canopy_table)


def canopy(*, area=3.0, chlorophyll=38.0, water=0.014, bright=0.8, moisture=0.2):
    values = (area, chlorophyll, water, bright, moisture)
    return Ground(*(np.array([[value]], dtype=np.float32) for value in values))


def reflectance(table, state, *, sun=40.0, view=9.0, azimuth=0.0):
    seen, nadir = table.reflectance(
        state,
        sun_zenith=sun,
        view_zenith=np.full(len(BANDS), view),
        relative_azimuth=np.full(len(BANDS), azimuth),
    )
    return dict(zip(BANDS, seen[:, 0, 0], strict=True)), dict(
        zip(BANDS, nadir[:, 0, 0], strict=True)
    )


def test_the_table_agrees_with_a_run_of_prosail(table):
    import prosail
    from prosail.spectral_library import get_spectra

    soil = get_spectra().soil
    dry = np.exp(-0.2 / 0.2)
    spectrum = prosail.run_prosail(
        1.55, 38, 2 + 0.16 * 38, 0.0, 0.014, 0.009, 3.0, MEAN_LEAF_ANGLE, 0.08, 43, 6, 55,
        prospect_version="5", typelidf=2,
        rsoil0=0.8 * (dry * soil.rsoil1 + (1 - dry) * soil.rsoil2),
    )  # fmt: skip
    seen, _ = reflectance(table, canopy(), sun=43.0, view=6.0, azimuth=55.0)
    for name, band in BANDS.items():
        width = int(band.width_nm / 2)
        box = spectrum[int(band.centre_nm) - 400 - width : int(band.centre_nm) - 399 + width]
        assert seen[name] == pytest.approx(box.mean(), abs=0.012), name


def test_vegetation_is_brighter_with_the_sun_behind(table):
    behind, nadir = reflectance(table, canopy(), azimuth=0.0)
    against, _ = reflectance(table, canopy(), azimuth=180.0)
    for band in BANDS:
        assert against[band] < nadir[band] < behind[band]


def test_traits_act_where_they_absorb(table):
    plain, _ = reflectance(table, canopy())
    pale, _ = reflectance(table, canopy(chlorophyll=8.0))
    dry, _ = reflectance(table, canopy(water=0.004))
    assert pale["B04"] > 1.5 * plain["B04"]
    assert pale["B11"] == pytest.approx(plain["B11"])
    assert dry["B11"] > 1.2 * plain["B11"]
    assert dry["B04"] == pytest.approx(plain["B04"])
