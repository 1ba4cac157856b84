"""The start from components of the least noise, and the decoder's target pixel."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from pipeline_lib.config import SENTINEL_1, SENTINEL_2, Context, Encoder
from pipeline_lib.models import Autoencoder

CONTEXT = Context(patch_px=9, frames=5)
COMPONENTS = 4
BANDS = len(SENTINEL_2.bands)
NOISE = np.diag(np.linspace(1, 5, BANDS) ** 2) + 0.5


def started(kind: str) -> tuple[Autoencoder, torch.Tensor]:
    """An autoencoder that starts from the components of some spectra, and the spectra."""
    block = Encoder(
        kind=kind,
        width=16,
        head_width=16,
        heads=2,
        head_layers=1,
        decoder_width=16,
        components=COMPONENTS,
    )
    torch.manual_seed(3)
    model = Autoencoder(SENTINEL_2.model_copy(update={"encoder": block}), CONTEXT).eval()
    spectra = (
        0.3 + 0.2 * torch.randn(300, 3) @ torch.randn(3, BANDS) + 0.01 * torch.randn(300, BANDS)
    )
    model.initialise(spectra, NOISE)
    return model, spectra


def patches(spectra: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random patches whose centres have the given spectra."""
    values = torch.rand(len(spectra), 5, BANDS, 9, 9)
    values[:, 2, :, 4, 4] = spectra
    valid = torch.rand(len(spectra), 5, 9, 9) > 0.3
    valid[:, 2, 4, 4] = True
    return values, valid, torch.tensor([[-20.0, -5, 0, 10, 25]]).expand(len(spectra), 5)


def projected(spectra: torch.Tensor) -> np.ndarray:
    """The spectra by regression on those projections whose share of noise is least.

    Solved as the generalised eigenvalue problem of Green et al. (1988), eq. 8.
    """
    x = spectra.double().numpy()
    floor = 1e-3 * np.trace(NOISE) / BANDS * np.eye(BANDS)
    _, axes = eigh(np.cov(x.T), NOISE + floor)
    scores = (x - x.mean(0)) @ axes[:, ::-1][:, :COMPONENTS]
    return x.mean(0) + scores @ np.linalg.pinv(scores) @ (x - x.mean(0))


@pytest.mark.parametrize("kind", ["dense", "patch"])
@torch.inference_mode()
def test_training_starts_from_the_components_of_the_centre_with_the_least_noise(kind):
    model, spectra = started(kind)
    values, valid, days = patches(spectra)
    made = model(values, valid, days)
    components = model.encoder(values, valid, days)[:, :COMPONENTS]
    np.testing.assert_allclose(components.var(dim=0, correction=0).numpy(), 1, atol=1e-4)
    np.testing.assert_allclose(made[:, 2, :, 4, 4].numpy(), projected(spectra), atol=2e-6)
    torch.testing.assert_close(made, made[:, 2:3, :, 4:5, 4:5].expand_as(made))


@pytest.mark.parametrize("kind", ["dense", "patch"])
@torch.inference_mode()
def test_the_first_dimensions_depend_on_the_target_pixel_alone(kind):
    model, spectra = started(kind)
    assert not model.encoder.spectrum_axes.requires_grad
    values, valid, days = patches(spectra)
    others = torch.rand_like(values)
    others[:, 2, :, 4, 4] = spectra
    here, there = model.encoder(values, valid, days), model.encoder(others, valid, days)
    assert torch.equal(here[:, :COMPONENTS], there[:, :COMPONENTS])
    assert (here[:, COMPONENTS:] != there[:, COMPONENTS:]).all()


def test_target_pixel_and_context_do_not_compete():
    model, _ = started("dense")
    for parameter in model.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    days = torch.tensor([[-20.0, -5, 0, 10, 25]])

    def gradients(of: str) -> tuple[torch.Tensor, torch.Tensor]:
        latent = torch.rand(1, SENTINEL_2.latent_dim, requires_grad=True)
        model.zero_grad()
        made = model.decoder(latent, days)
        centre = made[:, 2, :, 4, 4].sum()
        (centre if of == "centre" else made.sum() - centre).backward()
        linear = model.decoder.linear.weight.grad
        return latent.grad[0], torch.zeros(1) if linear is None else linear

    latent, linear = gradients("centre")
    assert (latent[:COMPONENTS] != 0).all() and (latent[COMPONENTS:] == 0).all()
    assert linear.any(), "the target pixel may still depend on all dimensions"
    latent, linear = gradients("context")
    assert (latent != 0).all()
    # The centre was subtracted from the sum of all: rounding is what is left.
    assert linear.abs().max() < 1e-4


def test_without_components_the_target_pixel_has_all_dimensions():
    torch.manual_seed(3)
    block = Encoder(width=16, head_width=16, heads=2, head_layers=1, decoder_width=16)
    model = Autoencoder(SENTINEL_2.model_copy(update={"encoder": block}), CONTEXT)
    latent = torch.rand(1, SENTINEL_2.latent_dim, requires_grad=True)
    model.decoder.centre(latent).sum().backward()
    assert (latent.grad != 0).all()


@torch.inference_mode()
def test_a_blind_encoder_starts_as_a_regression_from_its_surroundings():
    """Of noise on fields that last: it foretells the field far better than a pixel shows it."""
    generator = torch.Generator().manual_seed(5)
    block = Encoder(width=8, head_width=16, heads=2, decoder_width=8, blind=True)
    model = Autoencoder(SENTINEL_1.model_copy(update={"encoder": block}), CONTEXT).eval()
    field = torch.rand(2000, 1, 2, 1, 1, generator=generator)
    values = field + 0.3 * torch.randn(2000, 5, 2, 9, 9, generator=generator)
    valid = torch.ones(2000, 5, 9, 9, dtype=torch.bool)
    days = torch.tensor([[-20.0, -5, 0, 10, 25]]).expand(2000, 5)
    model.initialise_blind([(values, valid, days)], 1)
    signal, over_dates = model.encoder(values, valid, days).split(2, dim=1)
    truth = field[:, 0, :, 0, 0]
    # The mean of all that is seen, 396 pixels, would have an error of 0.05 * 0.3.
    error = (signal - truth).square().mean().sqrt()
    assert error < 0.1 * 0.3
    torch.testing.assert_close(over_dates, values[:, [0, 1, 3, 4], :, 4, 4].mean(dim=1))
    made = model(values[:3], valid[:3], days[:3])
    torch.testing.assert_close(made, signal[:3, None, :, None, None].expand_as(made))
