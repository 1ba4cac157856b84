from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from simulated_archive.bands import BANDS
from simulated_archive.canopy import (
    LEAF_AREA,
    MEAN_LEAF_ANGLE,
    CanopyState,
    CanopyTable,
    write_canopy_table,
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> CanopyTable:
    path: Path = tmp_path_factory.mktemp("canopy") / "canopy.npz"
    write_canopy_table(path)
    return CanopyTable.read(path)


def canopy(*, area=3.0, chlorophyll=38.0, water=0.014, bright=0.8, moisture=0.2):
    values = (area, chlorophyll, water, bright, moisture)
    return CanopyState(*(np.array([value], dtype=np.float32) for value in values))


def reflectance(table, state, *, sun=40.0, view=9.0, azimuth=0.0):
    seen, nadir = table.reflectance(
        state,
        sun_zenith=sun,
        view_zenith=np.full(len(BANDS), view),
        relative_azimuth=np.full(len(BANDS), azimuth),
    )
    return dict(zip(BANDS, seen[:, 0], strict=True)), dict(zip(BANDS, nadir[:, 0], strict=True))


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


def test_at_the_nadir_azimuth_does_not_matter(table):
    one, nadir = reflectance(table, canopy(), view=0.0, azimuth=30.0)
    other, _ = reflectance(table, canopy(), view=0.0, azimuth=170.0)
    assert one == pytest.approx(other)
    assert one == pytest.approx(nadir)


def test_traits_act_where_they_absorb(table):
    plain, _ = reflectance(table, canopy())
    pale, _ = reflectance(table, canopy(chlorophyll=8.0))
    dry, _ = reflectance(table, canopy(water=0.004))
    assert pale["B04"] > 1.5 * plain["B04"]
    assert pale["B11"] == pytest.approx(plain["B11"])
    assert dry["B11"] > 1.2 * plain["B11"]
    assert dry["B04"] == pytest.approx(plain["B04"])


def test_wet_soil_is_darker_and_shows_through_thin_canopies_only(table):
    for band in BANDS:
        dry, wet = (reflectance(table, canopy(area=0.0, moisture=m))[0][band] for m in (0.08, 0.38))
        assert wet < 0.8 * dry
    closed = [reflectance(table, canopy(area=6.0, moisture=m))[0]["B04"] for m in (0.08, 0.38)]
    assert closed[0] == pytest.approx(closed[1], abs=0.003)


def test_states_beyond_the_table_are_held_at_its_edge(table):
    edge, _ = reflectance(table, canopy(area=LEAF_AREA[-1]))
    beyond, _ = reflectance(table, canopy(area=99.0))
    assert_allclose(list(edge.values()), list(beyond.values()))
