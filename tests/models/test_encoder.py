import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Context, Encoder
from pipeline_lib.errors import UserError
from pipeline_lib.models import Autoencoder, SensorEncoder
from pipeline_lib.models.encoder import CentreAttention, DenseFrames, kernel_sizes

SMALL = Encoder(width=16, head_width=32, heads=4, decoder_width=16)
PATCH = SMALL.model_copy(update={"kind": "patch"})
WITH_COMPONENTS = Encoder(width=16, head_width=32, heads=4, decoder_width=16, components=1)
BLIND = SMALL.model_copy(update={"blind": True})
KINDS = pytest.mark.parametrize(
    "block", [SMALL, PATCH, WITH_COMPONENTS, BLIND], ids=["dense", "patch", "components", "blind"]
)


def encoder(sensor=SENTINEL_2, context=None, block=SMALL):
    torch.manual_seed(0)
    bands = len(sensor.bands)
    latent_dim = 2 * bands if block.blind else sensor.latent_dim
    sensor = sensor.model_copy(update={"encoder": block, "latent_dim": latent_dim})
    model = SensorEncoder(sensor, context or Context()).eval()
    if model.blind:
        # As training leaves it: what is learned starts at 0, and the prediction at one ring.
        torch.nn.init.normal_(model.bottleneck.weight, std=0.1)
        torch.nn.init.normal_(model.blind.slopes, std=0.1)
    return model


def window(batch=3, size=15, frames=11, bands=10, seed=1):
    torch.manual_seed(seed)
    values = torch.rand(batch, frames, bands, size, size)
    valid = torch.rand(batch, frames, size, size) > 0.4
    valid[:, 3] = False
    valid[:, frames // 2, size // 2, size // 2] = True
    days = torch.cumsum(torch.randint(2, 15, (batch, frames)), dim=1).float()
    return values, valid, days - days[:, [frames // 2]]


@pytest.mark.parametrize("sensor", [SENTINEL_1, SENTINEL_2], ids=["radar", "optical"])
@pytest.mark.parametrize(
    "block",
    [SMALL, PATCH, WITH_COMPONENTS, BLIND, Encoder(), Encoder(kind="patch")],
    ids=["dense", "patch", "components", "blind", "default", "default patch"],
)
def test_dense_equals_patchwise(block, sensor):
    model = encoder(sensor, block=block)
    values, valid, days = window(batch=1, size=21, bands=len(sensor.bands))
    with torch.no_grad():
        features = model.frame_features(values[0], valid[0])
        present = model.presence(valid[0])
        assert features.shape == (11, model.features, 7, 7) and present.shape == (11, 7, 7)
        dense = model.latent(
            features.permute(2, 3, 0, 1).reshape(49, 11, -1),
            days,
            present.permute(1, 2, 0).reshape(49, 11),
            middle=5,
        )
        patches = [
            (values[:, :, :, y : y + 15, x : x + 15], valid[:, :, y : y + 15, x : x + 15])
            for y in range(7)
            for x in range(7)
        ]
        single = torch.cat([model(patch, shown, days) for patch, shown in patches])
    assert dense.std(dim=0).min() > 1e-4, "the pixels do differ"
    torch.testing.assert_close(dense, single, rtol=0, atol=1e-5)


@KINDS
@pytest.mark.parametrize("patch_px", [7, 9, 11, 15, 21])
def test_receptive_field_is_exactly_the_patch(patch_px, block):
    """By the gradient: each pixel of the patch matters, down to its corners, and none beyond."""
    model = encoder(context=Context(patch_px=patch_px), block=block)
    assert model.receptive_field == patch_px
    values = torch.rand(1, 10, patch_px + 4, patch_px + 4, requires_grad=True)
    features = model.frame_features(values, torch.ones(1, *values.shape[2:], dtype=torch.bool))
    assert features.shape[2:] == (5, 5)
    features[0, :, 2, 2].square().sum().backward()
    touched = values.grad[0].abs().sum(dim=0) > 0
    expected = torch.zeros_like(touched)
    expected[2:-2, 2:-2] = True
    assert torch.equal(touched, expected)


def test_kernels_of_the_paper_and_fields_too_small():
    assert kernel_sizes(15) == ((5, 3, 3), (3, 3, 3))
    with pytest.raises(UserError, match="patch_px"):
        kernel_sizes(5)


@pytest.mark.parametrize("correlated_px", [0, 1, 3])
@torch.inference_mode()
def test_a_blind_encoder_does_not_see_the_noise_of_the_target_pixel(correlated_px):
    model = encoder(block=BLIND)
    model.blind.hide(correlated_px)
    values, valid, days = window()
    valid[:] = True
    reference = model(values, valid, days)
    hidden = values.clone()
    inner = slice(7 - correlated_px, 8 + correlated_px)
    hidden[:, 5, :, inner, inner] = torch.rand_like(hidden[:, 5, :, inner, inner])
    torch.testing.assert_close(model(hidden, valid, days), reference, rtol=0, atol=1e-5)
    outer = 8 + correlated_px
    for frame, y, x in ((5, 7, outer), (5, 7 - correlated_px - 1, 7), (4, 7, 7), (0, 0, 14)):
        other = values.clone()
        other[:, frame, :, y, x] += 1
        moved = (model(other, valid, days) - reference)[:, :10].abs().amax(dim=1)
        assert moved.min() > 1e-4
    # The mean over the other dates is that of the pixel itself.
    others = [frame for frame in range(11) if frame != 5]
    torch.testing.assert_close(reference[:, 10:], values[:, others, :, 7, 7].mean(dim=1))


@torch.inference_mode()
def test_without_another_date_a_blind_encoder_has_the_rings_of_its_own():
    model = encoder(block=BLIND)
    values, valid, days = window()
    alone = valid.clone()
    alone[:, [frame for frame in range(11) if frame != 5]] = False
    alone[:, 5] = True
    found = model(values, alone, days)
    ring = values[:, 5].clone()
    ring[:, :, 6:9, 6:9] = torch.nan
    expected = ring[:, :, 5:10, 5:10].nanmean(dim=(2, 3))
    torch.testing.assert_close(found[:, 10:], expected, rtol=0, atol=1e-5)
    # A window of dense export, which leaves absent frames out.
    features = model.frame_features(values[:, 5], alone[:, 5])[:, None, :, 0, 0]
    there = torch.ones(3, 1, dtype=torch.bool)
    torch.testing.assert_close(model.latent(features, days[:, [5]], there, 0), found)
    assert torch.isfinite(model(values, torch.zeros_like(valid), days)).all()


@KINDS
def test_embedding_does_not_depend_on_its_batch_mates(block):
    model = encoder(block=block)
    values, valid, days = window(batch=6)
    with torch.no_grad():
        together = model(values, valid, days)
        alone = torch.cat([model(values[i, None], valid[i, None], days[i, None]) for i in range(6)])
        order = torch.tensor([4, 0, 5, 2, 1, 3])
        shuffled = model(values[order], valid[order], days[order])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(together[order], shuffled, rtol=0, atol=1e-6)


@KINDS
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    share=st.floats(0, 1),
    value=st.floats(width=32),
    absent=st.integers(0, 10),
)
@example(seed=0, share=0.6, value=math.nan, absent=3)
@example(seed=1, share=0.6, value=math.inf, absent=5)
def test_what_stands_at_masked_pixels_changes_nothing(block, seed, share, value, absent):
    """To the last bit; whatever the mask, even where it hides the centre."""
    model = encoder(block=block)
    values, _, days = window(batch=2, seed=seed)
    valid = torch.rand(2, 11, 15, 15) < share
    valid[:, absent] = False
    changed = ~valid[:, :, None] & (torch.rand_like(values) < 0.5)
    undated = torch.where(valid.any(dim=(2, 3)), days, torch.nan)
    undated[:, 5] = 0
    with torch.no_grad():
        reference = model(values, valid, days)
        again = model(torch.where(changed, value, values), valid, undated)
    assert reference.isfinite().all()
    assert torch.equal(reference, again)


@KINDS
def test_the_date_of_every_frame_matters_unless_it_shows_nothing(block):
    model = encoder(block=block)
    values, valid, days = window()
    with torch.no_grad():
        reference = model(values, valid, days)
        for frame in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10):
            later = days.clone()
            later[:, frame] += 1
            moved = (model(values, valid, later) - reference).abs().amax(dim=1)
            assert (moved == 0).all() if frame == 3 else (moved > 1e-5).all(), frame


@KINDS
@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations([0, 1, 2, 4, 6, 7, 8, 9, 10]).filter(lambda order: order != sorted(order))
)
def test_frames_in_another_order_differ_unless_their_dates_go_along(block, order):
    """The dates alone tell frames apart; around the centre, the slots do not."""
    model = encoder(block=block)
    values, valid, days = window()
    order = torch.tensor([*order[:3], 3, order[3], 5, *order[4:]])
    with torch.no_grad():
        reference = model(values, valid, days)
        along = model(values[:, order], valid[:, order], days[:, order])
        other = model(values[:, order], valid[:, order], days)
    torch.testing.assert_close(reference, along, rtol=0, atol=1e-6)
    assert (other - reference).abs().max() > 1e-5


def test_centre_attention_is_multi_head_attention():
    """Against torch's own, with the same projections and query."""
    torch.manual_seed(0)
    width, heads = 16, 4
    layer = CentreAttention(width, heads).double()
    theirs = torch.nn.MultiheadAttention(width, heads, batch_first=True).double()
    with torch.no_grad():
        key = layer.key.reshape(width, width)
        value = layer.value.transpose(1, 2).reshape(width, width)
        theirs.in_proj_weight.copy_(torch.cat([layer.query.weight, key, value]))
        theirs.in_proj_bias.zero_()
        theirs.in_proj_bias[:width] = layer.query.bias
        theirs.out_proj.weight.copy_(layer.join.weight)
        theirs.out_proj.bias.copy_(layer.join.bias)
    tokens, centre = torch.rand(5, 7, width).double(), torch.rand(5, width).double()
    used = torch.rand(5, 7) < 0.6
    used[:, 3] = True
    attended, _ = theirs(layer.norm(centre)[:, None], tokens, tokens, key_padding_mask=~used)
    expected = centre + attended[:, 0]
    torch.testing.assert_close(layer(centre, tokens, used), expected + layer.feed(expected))


@KINDS
def test_fused_attention_is_plain_attention(block):
    """Values and gradients, in double precision."""
    model = encoder(block=block.model_copy(update={"head_layers": 2})).double()
    with torch.no_grad():
        model.token_norm.weight.uniform_(0.5, 2)
        model.token_norm.bias.uniform_(-1, 1)
    values, valid, days = window()
    results = []
    for plain in (False, True):
        features = model.frame_features(values.double().flatten(0, 1), valid.flatten(0, 1))
        features, present = features.view(3, 11, -1), valid.any(dim=(2, 3))
        latent = model.latent(features.double(), days, present, 5, plain=plain)
        gradients = torch.autograd.grad(latent.square().sum(), list(model.parameters()))
        results.append((latent, *gradients))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_decoded_frames_follow_their_dates():
    torch.manual_seed(0)
    model = Autoencoder(SENTINEL_2.model_copy(update={"encoder": SMALL}), Context())
    latent, days = torch.rand(2, 9), torch.arange(-5.0, 6.0).expand(2, 11)
    with torch.no_grad():
        whole = model.decoder(latent, days)
        fewer = model.decoder(latent, days[:, [3, 5, 7]])
    assert (whole[:, 7] - whole[:, 8]).abs().max() > 1e-5
    torch.testing.assert_close(whole[:, [3, 5, 7]], fewer, rtol=0, atol=1e-6)


@pytest.mark.parametrize("patch_px", [7, 15])
def test_the_centre_alone_is_the_centre_of_the_whole(patch_px: int) -> None:
    context = Context(patch_px=patch_px)
    sensor = SENTINEL_2.model_copy(update={"encoder": SMALL})
    torch.manual_seed(4)
    decoder = Autoencoder(sensor, context).decoder.eval()
    latent = torch.randn(6, sensor.latent_dim)
    days = torch.tensor([[-40.0, 0.0, 12.0]]).expand(6, -1)
    middle = patch_px // 2
    with torch.inference_mode():
        whole = decoder(latent, days)[:, 1, :, middle, middle]
        torch.testing.assert_close(decoder.centre(latent), whole, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_the_dense_encoder_sees_statistics_of_its_whole_patch():
    frames = DenseFrames(bands=4, width=8, features=8, patch_px=7)
    generator = torch.Generator().manual_seed(1)
    values = torch.rand((2, 3, 10, 12), generator=generator)
    valid = torch.rand((2, 1, 10, 12), generator=generator) > 0.4
    valid[0, :, :7, :7] = False
    found = frames._statistics(torch.cat([values * valid, valid.float()], dim=1)).numpy()
    for n, y, x in ((0, 0, 0), (0, 2, 5), (1, 3, 0), (1, 1, 4)):
        shown = valid[n, 0, y : y + 7, x : x + 7].numpy()
        pixels = values[n, :, y : y + 7, x : x + 7].numpy()[:, shown]
        mean = pixels.mean(axis=1) if shown.any() else np.zeros(3)
        variance = pixels.var(axis=1) if shown.any() else np.zeros(3)
        np.testing.assert_allclose(found[n, :3, y, x], mean, atol=1e-6)
        np.testing.assert_allclose(found[n, 3:, y, x], np.sqrt(variance + 1e-4), atol=1e-5)
