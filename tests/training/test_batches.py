"""Shares make up the batches, whatever the number of processes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.dataset import Draw
from pipeline_lib.training.batches import Batches, Shares, scaled


def batches(count, size, cut=lambda drawn: drawn.cube):
    zeros = np.zeros((count, 1), np.int64)
    drawn = Draw(np.arange(count), zeros, zeros.astype(bool), zeros[:, 0], zeros[:, 0])
    return Batches(drawn, size, cut, scale=lambda batch: batch / 10)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5))
def test_shares_of_all_processes_make_up_the_batches(count, size, world):
    whole = batches(count, size)
    with ThreadPoolExecutor(1) as worker:
        shares = [list(Shares(whole, rank, world, worker)) for rank in range(world)]
    assert {len(own) for own in shares} == {len(whole)}
    for number, batch in enumerate(whole):
        own = [shares[rank][number] for rank in range(world)]
        assert {share.total for share in own} == {len(batch)}
        assert all(len(share.batch) > 0 for share in own), "all have something to compute"
        rows = np.full(len(batch), -1)
        for rank, share in enumerate(own):
            rows[rank::world] = share.batch[: share.counted]
        np.testing.assert_array_equal(rows / 10, batch)


def test_an_error_of_the_thread_is_raised_where_the_batch_is_used():
    def broken(drawn):
        if 6 in drawn.cube:
            raise OSError("unreadable")
        return drawn.cube

    with ThreadPoolExecutor(1) as worker:
        shares = iter(Shares(batches(9, 3, broken), 0, 1, worker))
        assert [len(next(shares).batch), len(next(shares).batch)] == [3, 3]
        with pytest.raises(OSError, match="unreadable"):
            next(shares)


def test_packed_values_are_scaled_as_numpy_scales_them():
    packed = np.arange(65536, dtype=np.uint16)
    expected = packed.astype(np.float32) * np.float32(1 / 65535)
    np.testing.assert_array_equal(scaled(torch.from_numpy(packed)).numpy(), expected)
    assert (expected[0], expected[-1]) == (0, 1)
