from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.acquire.mosaic import first_valid, solar_day, take


def test_solar_day_follows_the_sun() -> None:
    assert solar_day(datetime(2021, 5, 1, 23, 50, tzinfo=UTC), 179) == date(2021, 5, 2)
    assert solar_day(datetime(2021, 5, 1, 0, 10, tzinfo=UTC), -170) == date(2021, 4, 30)
    assert solar_day(datetime(2021, 5, 1, 10, 10, tzinfo=UTC), 11) == date(2021, 5, 1)


@given(seed=st.integers(0, 10_000), layers=st.integers(1, 5))
def test_a_pixel_comes_whole_from_the_first_valid_layer(seed: int, layers: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.random((layers, 3, 4, 5)).astype(np.float32)
    values[generator.random(values.shape) < 0.2] = np.nan
    valid = np.isfinite(values).all(axis=1)
    chosen = first_valid(valid)
    merged = take(values, chosen)
    for row, column in np.ndindex(4, 5):
        whole = [n for n in range(layers) if valid[n, row, column]]
        if whole:
            np.testing.assert_array_equal(merged[:, row, column], values[whole[0], :, row, column])
        else:
            assert np.isnan(merged[:, row, column]).all()
    # A layer that adds nothing changes nothing, wherever it stands.
    empty = np.full((1, *values.shape[1:]), np.nan, dtype=np.float32)
    more = np.concatenate([empty, values])
    np.testing.assert_array_equal(take(more, first_valid(np.isfinite(more).all(axis=1))), merged)
