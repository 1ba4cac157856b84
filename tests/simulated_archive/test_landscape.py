import numpy as np
import pytest

from simulated_archive.landscape import MIXTURES, Cover, draw_landscape


@pytest.mark.parametrize("dominant", list(MIXTURES))
def test_the_dominant_cover_rules_and_holds_the_middle(dominant):
    shares, middles = [], []
    for seed in range(6):
        landscape = draw_landscape(np.random.default_rng(seed), 96, dominant)
        cover = landscape.cover_map
        shares.append(np.mean(cover == dominant))
        middles.append(np.mean(cover[43:54, 43:54] == dominant))
    assert np.mean(shares) == pytest.approx(MIXTURES[dominant][dominant], abs=0.1)
    assert np.mean(middles) > 0.9


def test_a_surveyor_calls_roads_built():
    landscape = draw_landscape(np.random.default_rng(3), 96, Cover.CROPLAND)
    road = (landscape.sealed > 0.5) & (landscape.cover_map != Cover.BUILT)
    assert 0.005 < road.mean() < 0.2
    assert (landscape.ground_map[road] == Cover.BUILT).all()
    open_land = landscape.sealed <= 0.5
    assert (landscape.ground_map == landscape.cover_map)[open_land].all()
