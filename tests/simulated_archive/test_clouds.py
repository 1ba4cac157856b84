import numpy as np
import pytest

from pipeline_lib.cubes import CLOUD_SHADOW, THICK_CLOUD
from simulated_archive.bands import BANDS
from simulated_archive.clouds import cover_with_clouds, draw_clouds

SIZE = 96


def clouds(seed=0, *, cloudiness=0.35, zenith=40.0, azimuth=160.0):
    rng = np.random.default_rng(seed)
    return draw_clouds(rng, SIZE, cloudiness=cloudiness, sun_zenith=zenith, sun_azimuth=azimuth)


def agreement(cloud, shadow, row, column):
    """Correlation of a cloud's picture with the shadow's, ``row``, ``column`` further on."""
    rows, columns = (np.arange(max(0, -s), SIZE - max(0, s)) for s in (row, column))
    moved = shadow[np.ix_(rows + row, columns + column)]
    still = cloud[np.ix_(rows, columns)]
    if still.std() < 1e-3 or moved.std() < 1e-3:
        return 0.0
    return float(np.corrcoef(still.ravel(), moved.ravel())[0, 1])


@pytest.mark.parametrize("azimuth", [100.0, 165.0, 250.0, 350.0])
def test_shadows_fall_away_from_the_sun(azimuth):
    towards = np.array([-np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))])
    best = {sign: [] for sign in (-1, 1)}
    for seed in range(12):
        drawn = clouds(seed, zenith=30.0, azimuth=azimuth)
        opaque = 1 - np.exp(-drawn.thickness / 3)
        for sign, found in best.items():
            shifts = [np.rint(sign * d * towards).astype(int) for d in range(12, 60, 2)]
            found.append(max(agreement(opaque, drawn.shade, *shift) for shift in shifts))
    assert np.median(best[-1]) > 0.95
    assert np.median(best[1]) < 0.6


def test_cloudiness_is_the_share_of_the_sky():
    shares = [
        (np.mean([np.mean(clouds(k, cloudiness=c).thickness > 0) for k in range(40)]), c)
        for c in (0.05, 0.3, 0.7, 1.0)
    ]
    for found, wanted in shares:
        assert found == pytest.approx(wanted, abs=0.08)


def test_clouds_hide_brighten_and_darken_the_ground():
    ground = np.full((len(BANDS), SIZE, SIZE), 0.12, dtype=np.float32)
    drawn = clouds(3)
    seen = cover_with_clouds(ground, drawn)
    blue, swir = list(BANDS).index("B02"), list(BANDS).index("B12")
    assert seen[blue][drawn.classes == THICK_CLOUD].mean() > 0.4
    assert seen[swir][drawn.classes == THICK_CLOUD].mean() > 0.2
    assert seen[:, drawn.classes == CLOUD_SHADOW].mean() < 0.09
    untouched = (drawn.thickness == 0) & (drawn.cirrus == 0) & (drawn.shade < 1e-6)
    np.testing.assert_allclose(seen[:, untouched], 0.12, rtol=1e-4)
