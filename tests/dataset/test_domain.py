"""The training domain: what lies within, and what is flagged."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from pipeline_lib.config import Scale
from pipeline_lib.dataset import Normalisation
from pipeline_lib.dataset.domain import Domain
from pipeline_lib.dataset.normalisation import to_scale

BANDS = 4


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Correlated bands, as those of land are."""
    rng = np.random.default_rng(5)
    return 0.5 + rng.normal(0, 0.1, (50_000, BANDS)) @ rng.normal(size=(BANDS, BANDS))


def distances(domain: Domain, pixels: np.ndarray) -> np.ndarray:
    (row,) = domain.distance(pixels.T[None].astype(np.float32))
    return row


def test_all_but_one_in_a_thousand_training_pixels_are_within(pixels: np.ndarray) -> None:
    assert (distances(Domain.fit(pixels), pixels) > 1).mean() == pytest.approx(0.001, abs=1e-4)


def test_the_distance_is_that_of_mahalanobis(pixels: np.ndarray) -> None:
    domain = Domain.fit(pixels)
    covariance = np.cov(pixels.T, bias=True) + 0.05**2 * np.diag(pixels.var(axis=0))
    inverse, mean = np.linalg.inv(covariance), pixels.mean(axis=0)
    expected = np.array([mahalanobis(pixel, mean, inverse) for pixel in pixels[:200]])
    np.testing.assert_allclose(
        distances(domain, pixels[:200]) / expected,
        (distances(domain, pixels[:1]) / expected[0])[0],
        rtol=1e-3,
    )


def test_what_no_band_shows_alone_is_outside(pixels: np.ndarray) -> None:
    """Each value within the range of its band, in a combination that no training pixel has."""
    low, high = np.quantile(pixels, [0.05, 0.95], axis=0)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(BANDS, -1).T
    assert distances(Domain.fit(pixels), corners).max() > 1


def test_bands_that_are_all_alike_make_a_domain(pixels: np.ndarray) -> None:
    """Their covariance has no inverse."""
    domain = Domain.fit(np.repeat(pixels[:20, :1], BANDS, axis=1))
    far = distances(domain, pixels[:1] + 10 * np.eye(BANDS)[:1])
    assert np.isfinite(far).all() and far > 1


@pytest.mark.parametrize("scale", ["linear", "square-root", "decibel"])
def test_the_distance_does_not_depend_on_how_an_encoder_scales(scale: Scale) -> None:
    values = np.random.default_rng(1).uniform(0.05, 0.4, (300, 2)).astype(np.float32)
    bounds = (to_scale(np.full(2, bound, np.float32), scale) for bound in (0.1, 0.2))
    in_decibel = scale == "decibel"
    domain = Domain.fit(to_scale(values, "decibel") if in_decibel else values)
    scaling = Normalisation(("a", "b"), *bounds, scale, domain)
    scaled = scaling.unclipped(values.T[None, ..., None])[..., 0]
    found = scaling.domain_distance(scaled)
    expected = domain.distance((to_scale(values, "decibel") if in_decibel else values).T[None])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert ((scaled < 0) | (scaled > 1)).any()


@pytest.mark.parametrize("change", [{"mean": [0.0]}, {"whitening": [[1.0]]}, {"mean": [None] * 4}])
def test_a_domain_of_other_bands_is_rejected(pixels: np.ndarray, change: dict[str, list]) -> None:
    content = Domain.fit(pixels).to_json()
    np.testing.assert_array_equal(
        Domain.from_json(content, BANDS).whitening, Domain.fit(pixels).whitening
    )
    with pytest.raises((ValueError, TypeError)):
        Domain.from_json(content | change, BANDS)
