import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.config import Training
from pipeline_lib.training.loop import Means
from pipeline_lib.training.patience import Patience, learning_rate

BLOCK = Training(
    learning_rate=1.0, warmup_steps=4, plateau_factor=0.5, plateau_patience=2, stop_patience=5
)


def test_warm_up_is_linear_and_then_over():
    assert [learning_rate(BLOCK, step, 1.0) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert learning_rate(BLOCK.model_copy(update={"warmup_steps": 0}), 0, 0.5) == 0.5


def test_plateaus_lower_the_rate_and_at_last_end_the_training():
    patience = Patience()
    values = [5.0, 4.0, 4.5, 4.5, 4.5, 4.5, 4.5]
    scales, spent = [], []
    for epoch, value in enumerate(values):
        patience.update(value, epoch, BLOCK)
        scales.append(patience.scale)
        spent.append(patience.spent(epoch, BLOCK))
    assert scales == [1, 1, 1, 1, 0.5, 0.5, 0.5]
    assert spent == [False] * 6 + [True]
    assert (patience.best, patience.best_epoch) == (4.0, 1)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30))
def test_plateaus_are_those_of_torch(values):
    patience = Patience()
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=2, threshold=0.0, eps=0.0
    )
    for epoch, value in enumerate(values):
        patience.update(value, epoch, BLOCK)
        theirs.step(value)
        assert patience.scale == optimiser.param_groups[0]["lr"]


def test_means_leave_out_what_does_not_apply_and_weigh_batches_by_size():
    means = Means()
    means.add({"a": torch.tensor([1.0, 2.0, torch.nan]), "b": torch.tensor([torch.nan])})
    means.add({"a": torch.tensor([6.0]), "b": torch.tensor([torch.nan])})
    found = means.take()
    assert found["a"] == pytest.approx(3.0) and np.isnan(found["b"])
    assert means.take() == {}
