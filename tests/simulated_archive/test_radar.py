import numpy as np
import pytest

from simulated_archive.canopy import Ground
from simulated_archive.landscape import Cover, draw_landscape
from simulated_archive.radar import LOOKS, backscatter, speckle

SIZE = 96


def ground(landscape, *, area=1.0, moisture=0.15):
    def flat(value):
        return np.full((SIZE, SIZE), value, dtype=np.float32)

    return Ground(flat(area), flat(40.0), flat(0.014), landscape.soil, flat(moisture))


def decibel(power):
    return 10 * np.log10(power)


@pytest.fixture(scope="module")
def landscape():
    return draw_landscape(np.random.default_rng(4), SIZE, Cover.CROPLAND)


def look(landscape, state, *, ascending=True):
    return backscatter(state, landscape, incidence=38.0, ascending=ascending)


def mean_db(power, chosen):
    return float(decibel(power[chosen].mean()))


def test_rain_brightens_fields_and_hardly_forests(landscape):
    dry, wet = (look(landscape, ground(landscape, area=0.3, moisture=m)) for m in (0.12, 0.34))
    cover = landscape.cover_map
    fields = (cover == Cover.CROPLAND) & (landscape.sealed == 0)
    forest = cover == Cover.BROAD_LEAVED
    for name in ("vv", "vh"):
        rise = mean_db(wet[name], fields) - mean_db(dry[name], fields)
        assert 1.5 < rise < 7
        assert mean_db(wet[name], forest) - mean_db(dry[name], forest) < 0.5 * rise


def test_levels_are_those_of_land(landscape):
    both = look(landscape, ground(landscape))
    cover = landscape.cover_map
    for kind, low, high in ((Cover.BROAD_LEAVED, -9, -6), (Cover.CROPLAND, -15, -8)):
        chosen = (cover == kind) & (landscape.sealed == 0)
        assert low < mean_db(both["vv"], chosen) < high
        assert 4 < mean_db(both["vv"], chosen) - mean_db(both["vh"], chosen) < 11


def test_speckle_has_the_stated_looks():
    power = speckle(np.random.default_rng(0), np.full((400, 400), 0.1, dtype=np.float32))
    assert power.mean() == pytest.approx(0.1, rel=0.01)
    assert power.mean() ** 2 / power.var() == pytest.approx(LOOKS, rel=0.03)
