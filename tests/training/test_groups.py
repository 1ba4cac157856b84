"""Samples that stand for classes and seasons, and baselines that know one spectrum."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config import SENTINEL_2, Context
from pipeline_lib.dataset import Normalisation, SampleIndex
from pipeline_lib.evaluate.reconstruction import adjacent_pixel, nearest_date
from pipeline_lib.training.data import Batch, SensorBatch
from pipeline_lib.training.groups import SEASONS, choose, means, season_of
from pipeline_lib.training.tasks import METRICS, EncoderTask

CONTEXT = Context(patch_px=7, frames=5)
SENSOR = SENTINEL_2.model_copy(
    update={"bands": ("B02", "B03", "B04"), "rgb": None, "latent_dim": 2}
)
SCALING = Normalisation(SENSOR.bands, np.float32([0.0, 0.1, 0.2]), np.float32([0.5, 0.4, 0.9]))


@pytest.mark.parametrize(
    ("date", "season"),
    [
        ("2019-12-01", "DJF"),
        ("2020-02-29", "DJF"),
        ("2021-03-01", "MAM"),
        ("2022-08-31", "JJA"),
        ("1969-11-30", "SON"),
    ],
)
def test_seasons_change_with_the_month(date, season):
    days = np.array([date], "datetime64[D]").astype(np.int64)
    assert season_of(days).tolist() == [season]


@settings(deadline=None)
@given(
    cubes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60),
    count=st.none() | st.integers(1, 80),
)
def test_each_group_is_represented_by_its_first_samples(cubes, count):
    """Of each sample the class, and the season; its row is kept in ``top``."""
    names = "abcd"
    days = np.array(["2020-01-15", "2020-04-15", "2020-07-15", "2020-10-15"], "datetime64[D]")
    stack = [SimpleNamespace(name=name, days=days.astype(np.int64)) for name in names]
    rows, total = np.arange(len(cubes)), len(cubes)
    number, season = np.array(cubes).T
    frames = np.stack([(season + 1) % 4, season, (season + 2) % 4], axis=1)
    drawn = SampleIndex(number, frames, np.ones_like(frames, bool), rows, rows)
    land_cover = {"a": "forest", "b": "urban", "c": "urban", "d": "others"}
    chosen = choose(drawn, SimpleNamespace(stack=stack), land_cover, count)
    count = total if count is None else min(count, total)
    assert chosen.drawn.top[chosen.whole].tolist() == list(range(count))
    used = set(range(count))
    truth = {
        "land_cover": [land_cover[names[n]] for n in number],
        "seasons": [SEASONS[s] for s in season],
    }
    for kind, labels in truth.items():
        assert list(chosen.groups[kind]) == [
            name
            for name in (SEASONS if kind == "seasons" else ("forest", "others", "urban"))
            if name in labels
        ]
        share = -(-count // len(set(labels)))
        for name, found in chosen.groups[kind].items():
            own = [row for row in range(total) if labels[row] == name]
            wanted = [r for place, r in enumerate(own) if r < count or place < share]
            assert chosen.drawn.top[found].tolist() == wanted
            used |= set(wanted)
    assert chosen.drawn.top.tolist() == sorted(used)


@pytest.fixture(scope="module")
def batch():
    """Forty samples, half of their pixels valid; the centre's frame is valid at the centre."""
    rng = np.random.default_rng(4)
    valid = rng.random((40, 5, 7, 7)) < 0.5
    valid[:, 2, 3, 3] = True
    values = rng.random((40, 5, 3, 7, 7), dtype=np.float32) * valid[:, :, None]
    days = np.sort(rng.integers(-60, 60, (40, 5)), axis=1)
    days -= days[:, 2:3]
    patches = map(torch.from_numpy, (values, valid, days.astype(np.float32)))
    return SensorBatch(*patches, torch.zeros(40), torch.ones(40, dtype=torch.bool))


def test_the_nearest_date_is_the_closest_valid_one(batch):
    found = nearest_date(batch).numpy()
    none = 0
    for values, valid, days, guess in zip(*(a.numpy() for a in batch.patches), found, strict=True):
        others = [f for f in (0, 1, 3, 4) if valid[f, 3, 3]]
        if not others:
            none += 1
            assert np.isnan(guess).all()
            continue
        least = min(abs(days[f]) for f in others)
        options = [values[f, :, 3, 3] for f in others if abs(days[f]) == least]
        assert any(np.array_equal(guess, option) for option in options)
    assert 0 < none < 40


def test_the_adjacent_pixel_is_a_valid_direct_neighbour(batch):
    found = adjacent_pixel(batch).numpy()
    none = 0
    for values, valid, guess in zip(batch.values.numpy(), batch.valid.numpy(), found, strict=True):
        places = [(2, 3), (3, 2), (4, 3), (3, 4)]
        options = [values[2, :, y, x] for y, x in places if valid[2, y, x]]
        none += not options
        assert any(np.array_equal(guess, o) for o in options) if options else np.isnan(guess).all()
    assert 0 < none < 40


def test_a_baseline_is_measured_as_a_model_that_gives_its_spectrum_everywhere(batch):
    spectra = nearest_date(batch)

    class Repeating(torch.nn.Module):
        """An autoencoder whose latent is a spectrum, and whose decoder repeats it."""

        def encoder(self, values, valid, days):
            return nearest_date(batch._replace(values=values, valid=valid, days=days))

        @property
        def decoder(self):
            return self

        def forward(self, latent, days):
            return latent[:, None, :, None, None].repeat(1, 5, 1, 7, 7)

        def neighbourhood(self, latent):
            return torch.stack([latent, torch.zeros_like(latent)], dim=1)

    task = EncoderTask(Repeating(), SENSOR, CONTEXT, SCALING)
    expected, found = task(Batch({"x": batch})), task.repeat(spectra, batch)
    assert set(found) == {"loss", *METRICS}
    missing = torch.isnan(spectra[:, 0])
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], equal_nan=True)
        assert torch.equal(torch.isnan(values), missing)


def test_means_leave_out_what_does_not_apply_and_count_the_rest():
    errors = {
        "a.sam": np.array([1.0, np.nan, 3.0]),
        "a.centre_mae_scaled": np.array([1.0, np.nan, 3.0]),
        "b.centre_mae_scaled": np.full(3, np.nan),
    }
    found = means(errors, np.array([0, 1]))
    assert found["a.sam"] == 1 and found["a.samples"] == 1 and found["b.samples"] == 0
    assert np.isnan(found["b.centre_mae_scaled"])
    assert means(errors, np.array([0, 1, 2]))["a.centre_mae_scaled"] == 2
