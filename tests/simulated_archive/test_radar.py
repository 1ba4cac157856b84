import numpy as np
import pytest

from simulated_archive.canopy import Ground
from simulated_archive.landscape import Cover, draw_landscape
from simulated_archive.radar import backscatter, speckle

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


def correlation(image, *, rows=0, columns=0):
    """Of an image with itself, shifted."""
    height, width = image.shape
    first, second = image[rows:, columns:], image[: height - rows, : width - columns]
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.fixture(scope="module")
def speckled():
    return speckle(np.random.default_rng(0), np.full((400, 400), 0.1, dtype=np.float32))


def test_speckle_has_the_looks_that_its_items_state(speckled):
    assert speckled.dtype == np.float32 and speckled.min() > 0
    assert speckled.mean() == pytest.approx(0.1, rel=0.01)
    assert speckled.mean() ** 2 / speckled.var() == pytest.approx(4.4, rel=0.03)


def test_speckle_is_as_coarse_as_the_resolution(speckled):
    """Real neighbours share their speckle: a pixel's neighbour does not tell its signal."""
    for distance, expected in ((1, 0.607), (2, 0.135), (3, 0.011), (8, 0.0)):
        for shift in ({"rows": distance}, {"columns": distance}):
            assert correlation(speckled, **shift) == pytest.approx(expected, abs=0.02)


def test_speckle_is_new_at_every_draw_and_on_opposite_edges():
    rng, power = np.random.default_rng(1), np.full((2000, 12), 0.1, dtype=np.float32)
    first, second = speckle(rng, power), speckle(rng, power)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:, 0], first[:, -1])[0, 1]) < 0.08
