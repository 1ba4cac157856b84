"""Embeddings know no image beyond those that their series names: what a split by year rests on."""

from functools import partial

import numpy as np
import torch
import xarray as xr
from untrained import save_all_untrained, scaled_by

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Context, Encoder, Fusion
from pipeline_lib.embed import embed_xarray
from pipeline_lib.gpp.observed import image_range, observed_embeddings
from pipeline_lib.gpp.series import day_numbers

CONTEXT = Context(patch_px=7, frames=5)
SMALL = Encoder(width=16, head_width=16, head_layers=1, heads=2, decoder_width=8)
SIDE = 9


SENSORS = {
    name: sensor.model_copy(
        update={
            "encoder": SMALL,
            "sequence": sensor.sequence.model_copy(update={"frames": frames}),
        }
    )
    for name, sensor, frames in (("sentinel-1", SENTINEL_1, 10), ("sentinel-2", SENTINEL_2, 5))
}


def images():
    rng = np.random.default_rng(0)
    found = {}
    for name, count, every in (("sentinel-2", 24, 11), ("sentinel-1", 60, 4)):
        days = np.cumsum(rng.integers(1, 2 * every, count))
        times = np.datetime64("2019-06-01", "ns") + days.astype("timedelta64[D]")
        values = rng.uniform(0.05, 0.6, (count, len(SENSORS[name].bands), SIDE, SIDE))
        values[rng.random((count, 1, SIDE, SIDE)).repeat(values.shape[1], axis=1) < 0.3] = np.nan
        found[name] = xr.DataArray(
            values.astype(np.float32),
            dims=("time", "band", "y", "x"),
            coords={"time": times, "band": list(SENSORS[name].bands)},
        )
    return found


def reach(name):
    """Of an embedding in the record of a sensor."""
    sensor = SENSORS[name]
    return partial(
        image_range,
        frames=CONTEXT.frames,
        span_days=sensor.sequence.max_span_days,
        rolling_mean=sensor.rolling_mean,
    )


def test_later_images_change_no_embedding_that_does_not_name_them(tmp_path):
    torch.manual_seed(0)
    save_all_untrained(tmp_path, SENSORS, CONTEXT, Fusion(width=16, layers=1), scaled_by(0, 1))
    before = images()
    split = np.datetime64("2020-01-01")
    after = {
        name: array.where(array["time"] < split, 0.65 - array) for name, array in before.items()
    }
    one, other = (embed_xarray(arrays, tmp_path) for arrays in (before, after))
    seen = observed_embeddings(
        one,
        np.full((SIDE, SIDE), 1 / SIDE**2),
        reach=reach("sentinel-2"),
        others={
            "sentinel-1": (day_numbers(before["sentinel-1"]["time"].values), reach("sentinel-1"))
        },
    )
    moved = np.array(
        [
            not np.array_equal(one["embedding"][date], other["embedding"][date], equal_nan=True)
            for date in range(one.sizes["time"])
        ]
    )
    named = (seen["to_image"] >= day_numbers(np.array([split]))[0]).to_numpy()
    assert not (moved & ~named).any()
    # Dates before the split know images after it, and the series says which.
    early = one["time"].values < split
    assert (moved & early).any()
    assert (~named).sum() > 5
