"""Shards make up the batches, whatever the number of processes; epochs differ, runs do not."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.dataset import SampleIndex
from pipeline_lib.models import load_encoder
from pipeline_lib.training.data import SensorDataset, ShardSampler
from pipeline_lib.training.runs import TrainingData, initial_weights


def drawn_samples(count):
    zeros = np.zeros((count, 1), np.int64)
    return SampleIndex(np.arange(count), zeros, zeros.astype(bool), zeros[:, 0], zeros[:, 0])


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))
def test_shards_of_all_processes_make_up_the_batches(count, size, world):
    drawn = drawn_samples(count)
    samplers = [ShardSampler(drawn, size, rank, world) for rank in range(world)]
    shards = [list(sampler) for sampler in samplers]
    for number, batch in enumerate(ShardSampler(drawn, size)):
        rows = np.full(len(batch), -1)
        for rank, sampler in enumerate(samplers):
            own, total = sampler.counts(number)
            assert total == len(batch) and len(shards[rank][number]) == max(own, 1)
            rows[rank::world] = shards[rank][number].cube[:own]
        np.testing.assert_array_equal(rows, batch.cube)
    assert {len(own) for own in shards} == {number + 1}


def test_samples_are_drawn_anew_in_each_epoch_and_alike_in_each_run(world):
    trained = load_encoder(world.root / "models" / "optical")
    dataset = SensorDataset.of(trained, world.cubes["optical"])
    splits = {"training": dataset, "validation": dataset}

    def first(loader):
        return next(iter(loader)).sensors["optical"].values

    one, other = (TrainingData("x", 3, world.training, splits) for _ in range(2))
    assert torch.equal(first(one.training(1)), first(other.training(1)))
    assert not torch.equal(first(one.training(1)), first(one.training(2)))
    assert torch.equal(first(one.validation()), first(other.validation()))
    parts = [first(one.training(1, rank, 3)) for rank in range(3)]
    assert torch.equal(parts[1], first(one.training(1))[1::3])


def test_each_seed_and_each_name_draws_other_first_weights():
    def drawn(seed, name):
        with initial_weights(seed, name):
            return tuple(torch.randn(3).tolist())

    each = {drawn(seed, name) for seed in (0, 1, 2, 2**31, 2**40) for name in ("a", "b")}
    assert len(each) == 10
    assert drawn(1, "a") == drawn(1, "a")
