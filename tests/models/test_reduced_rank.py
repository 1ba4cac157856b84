"""The best linear map through few dimensions: no other costs less."""

import pytest
import torch

from pipeline_lib.models.reduced_rank import reduced_rank

SIZE = 6


def world(seed=0):
    """Correlated vectors, and a cost that some directions have none of."""
    rng = torch.Generator().manual_seed(seed)
    values = torch.randn(500, SIZE, generator=rng, dtype=torch.float64)
    values = values @ torch.randn(SIZE, SIZE, generator=rng, dtype=torch.float64)
    values -= values.mean(dim=0)
    slopes = torch.randn(4, SIZE, generator=rng, dtype=torch.float64)
    return values, values.T @ values / len(values), slopes


def mean_cost(values, slopes, into, back):
    lost = values - values @ into.T @ back.T
    return float((lost @ slopes.T).square().sum(dim=1).mean())


@pytest.mark.parametrize("features", [1, 2, 3])
def test_no_other_map_of_as_many_dimensions_costs_less(features):
    values, spread, slopes = world()
    into, back = reduced_rank(spread, slopes.T @ slopes, features)
    least = mean_cost(values, slopes, into, back)
    assert len(into) == features
    rng = torch.Generator().manual_seed(1)
    for step in (1.0, 0.1, 0.01):
        for _ in range(50):
            other = into + step * torch.randn(into.shape, generator=rng, dtype=torch.float64)
            # For any map, least squares give the best way back.
            seen = values @ other.T
            best = torch.linalg.lstsq(seen, values).solution.T
            assert mean_cost(values, slopes, other, best) > least * (1 - 1e-9)


def test_dimensions_are_uncorrelated_of_unit_variance_and_in_order():
    values, spread, slopes = world()
    into, back = reduced_rank(spread, slopes.T @ slopes, 4)
    seen = values @ into.T
    torch.testing.assert_close(seen.T @ seen / len(seen), torch.eye(4, dtype=torch.float64))
    parts = [(back[:, n] @ slopes.T @ slopes @ back[:, n]).item() for n in range(4)]
    assert parts == sorted(parts, reverse=True)
    assert (into.gather(1, into.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_no_more_dimensions_than_what_costs_has():
    values, spread, slopes = world()
    into, back = reduced_rank(spread, slopes.T @ slopes, SIZE)
    assert len(into) == len(slopes)
    assert mean_cost(values, slopes, into, back) < 1e-18


def test_what_costs_nothing_is_predicted_from_what_costs():
    values, _, _ = world()
    values[:, 5] = 2 * values[:, 0] - values[:, 1]
    spread = values.T @ values / len(values)
    cost = torch.diag(torch.tensor([1.0, 1.0, 0, 0, 0, 0], dtype=torch.float64))
    into, back = reduced_rank(spread, cost, 2)
    torch.testing.assert_close((values @ into.T @ back.T)[:, 5], values[:, 5])
