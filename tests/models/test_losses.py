import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import (
    spectral_angle_mapper,
    structural_similarity_index_measure,
)

from pipeline_lib.config import Context, Loss
from pipeline_lib.models.losses import (
    context_weights,
    neighbourhood,
    spectral_angle,
    structural_similarity,
    weighted_mae,
)


def patches(batch=2, frames=3, bands=4, size=15, share=0.7, seed=0):
    torch.manual_seed(seed)
    target = torch.rand(batch, frames, bands, size, size).double()
    prediction = (target + 0.1 * torch.randn_like(target)).clamp(0, 1)
    return prediction, target, torch.rand(batch, frames, size, size) < share


def test_context_weights_follow_the_exponential_of_both_distances():
    """``exp(-lambda d)``, pixel by pixel, in plain Python."""
    loss = Loss(time_factor=0.5, first_ring_factor=0.2, ring_factor=0.3)
    weights = context_weights(Context(patch_px=7, frames=5), loss)
    for t in range(5):
        for y in range(7):
            for x in range(7):
                ring = max(abs(y - 3), abs(x - 3))
                space = 1.0 if ring == 0 else 0.2 * math.exp(math.log(0.3) * (ring - 1))
                expected = math.exp(math.log(0.5) * abs(t - 2)) * space
                assert weights[t, y, x].item() == pytest.approx(expected, rel=1e-6)


def test_authors_decay_leaves_three_quarters_of_the_weight_at_the_centre():
    weights = context_weights(Context(), Loss())
    assert 0.7 < weights[5, 7, 7] / weights.sum() < 0.8


def test_weighted_mae_against_numpy():
    prediction, target, valid = patches()
    weights = context_weights(Context(patch_px=15, frames=3), Loss(ring_factor=0.8)).double()
    found = weighted_mae(prediction, target, valid, weights)
    for row in range(2):
        share = weights.numpy() * valid[row].numpy()
        error = np.abs((prediction - target)[row].numpy()).mean(axis=1)
        assert found[row].item() == pytest.approx(np.average(error, weights=share))


@pytest.mark.parametrize("hidden", [(), (0,), (0, 2)], ids=["none", "first", "first and last"])
def test_similarity_is_that_of_torchmetrics_over_the_frames_that_are_shown(hidden):
    prediction, target, _ = patches()
    valid = torch.ones(2, 3, 15, 15, dtype=torch.bool)
    valid[:, hidden] = False
    shown = [frame for frame in range(3) if frame not in hidden]
    # torchmetrics derives the window from sigma: 7 pixels for 0.9.
    found = structural_similarity(prediction, target, valid, window=7, sigma=0.9)
    theirs = structural_similarity_index_measure(
        *(part[:, shown].reshape(-1, 1, 15, 15) for part in (prediction, target)),
        sigma=0.9,
        data_range=1.0,
        reduction="none",
        return_full_image=True,
    )[1]
    expected = theirs[..., 3:-3, 3:-3].reshape(2, len(shown), 4, 9, 9).mean(dim=(1, 3, 4))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_similarity_of_masked_patches_against_plain_windows():
    """Window by window in numpy: weighted moments of valid pixels, weighted by their share."""
    prediction, target, valid = patches(batch=1, frames=2, bands=1)
    position = np.arange(7) - 3
    kernel = np.exp(-(position**2) / 4.5)
    kernel = np.outer(kernel, kernel) / np.outer(kernel, kernel).sum()
    total, weight = 0.0, 0.0
    for t in range(2):
        for y in range(9):
            for x in range(9):
                area = (slice(y, y + 7), slice(x, x + 7))
                share = kernel * valid[0, t].numpy()[area]
                p, q = (a[0, t, 0].numpy()[area] for a in (prediction, target))
                mp, mq = (np.average(a, weights=share) for a in (p, q))
                vp = np.average((p - mp) ** 2, weights=share)
                vq = np.average((q - mq) ** 2, weights=share)
                both = np.average((p - mp) * (q - mq), weights=share)
                value = (2 * mp * mq + 1e-4) * (2 * both + 9e-4)
                value /= (mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)
                total, weight = total + value * share.sum(), weight + share.sum()
    found = structural_similarity(prediction, target, valid)
    assert found.item() == pytest.approx(total / weight, abs=1e-6)


def terms_and_gradient(prediction, target, valid):
    prediction = prediction.clone().requires_grad_()
    weights = context_weights(Context(patch_px=15, frames=3), Loss(ring_factor=0.8)).double()
    mae = weighted_mae(prediction, target, valid, weights)
    similarity = structural_similarity(prediction, target, valid)
    (mae.sum() + similarity.sum()).backward()
    return mae.detach(), similarity.detach(), prediction.grad


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    share=st.floats(0.05, 1),
    made=st.floats(-1e6, 1e6),
    true=st.floats(-1e6, 1e6),
)
def test_masked_values_change_neither_the_terms_nor_their_gradients(seed, share, made, true):
    """To the last bit, in the prediction as in the target; and no gradient reaches them."""
    prediction, target, valid = patches(share=share, seed=seed)
    shown = valid[:, :, None]
    reference = terms_and_gradient(prediction, target, valid)
    others = terms_and_gradient(
        torch.where(shown, prediction, made), torch.where(shown, target, true), valid
    )
    for found, other in zip(reference, others, strict=True):
        assert torch.equal(found, other)
    assert (reference[2].masked_fill(shown, 0) == 0).all()


def test_gradients_are_those_of_finite_differences():
    prediction, target, valid = patches(batch=1, frames=2, bands=2, size=8)
    prediction.requires_grad_()
    weights = torch.rand(2, 8, 8).double()
    assert torch.autograd.gradcheck(
        lambda made: structural_similarity(made, target, valid), prediction
    )
    assert torch.autograd.gradcheck(
        lambda made: weighted_mae(made, target, valid, weights), prediction
    )
    assert torch.autograd.gradcheck(
        spectral_angle, (prediction[0, :, :, 0, 0], target[0, :, :, 0, 0])
    )


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_the_neighbourhood_against_numpy(share):
    _, target, valid = patches(batch=4, share=share)
    valid[3, 1, 2:] = False
    valid[3, 1, :2, 10:] = False
    moments, enough = neighbourhood(target, valid)
    spoilt, _ = neighbourhood(torch.where(valid[:, :, None], target, 1e6), valid)
    assert torch.equal(moments, spoilt)
    assert enough.tolist() == [True, True, True, bool(valid[3, 1].sum() >= 20)]
    for row in range(4):
        shown = valid[row, 1].numpy().copy()
        shown[7, 7] = False
        pixels = target[row, 1].numpy()[:, shown]
        expected = np.stack([pixels.mean(axis=1), pixels.std(axis=1)]) * bool(enough[row])
        np.testing.assert_allclose(moments[row].numpy(), expected, atol=1e-12)


def test_spectral_angle_against_torchmetrics_and_a_known_one():
    torch.manual_seed(0)
    u, v = torch.rand(50, 10).double(), torch.rand(50, 10).double()
    theirs = spectral_angle_mapper(u[..., None, None], v[..., None, None], reduction="none")
    torch.testing.assert_close(spectral_angle(u, v), theirs.flatten(), rtol=0, atol=1e-6)
    known = spectral_angle(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    assert known.item() == pytest.approx(math.pi / 4, abs=1e-6)


@settings(deadline=None)
@given(st.floats(1e-3, 1), st.floats(0.1, 10))
def test_spectral_angle_ignores_brightness_and_is_exact_when_small(angle, brightness):
    u = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    v = brightness * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    assert spectral_angle(u, v).item() == pytest.approx(angle, rel=1e-5)


def test_gradients_of_a_perfect_match_and_of_darkness_are_finite():
    target = torch.rand(3, 10)
    for start in (target.clone(), torch.zeros(3, 10), -target):
        prediction = start.requires_grad_()
        spectral_angle(prediction, target).sum().backward()
        assert prediction.grad.isfinite().all()
    _, target, valid = patches()
    valid[0] = False
    prediction = target.clone().requires_grad_()
    structural_similarity(prediction, target, valid).sum().backward()
    assert prediction.grad.isfinite().all()
