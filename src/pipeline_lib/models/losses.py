"""Terms of the training loss, masked, one value per sample.

All take patches scaled to 0..1 as ``(sample, frame, band, y, x)``, finite also where they are not
valid, and validity as ``(sample, frame, y, x)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipeline_lib.config import Context, Loss

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2

LEAST_NEIGHBOURS = 20
"""Valid pixels around the target pixel below which their mean and spread say little."""


def context_weights(context: Context, loss: Loss) -> Tensor:
    """Weights ``(frame, y, x)`` of a sample's pixels: ``w = exp(-lambda d)``.

    d is the distance from the target pixel. The exponentials are written as factors:
    ``time_factor = exp(-lambda_t)`` per frame, and per ring of pixels (Chebyshev distance)
    ``ring_factor = exp(-lambda_s)``, with a factor of its own for the first ring. The weights
    are not normalised, since only valid pixels count.
    """
    apart = torch.arange(context.frames) - context.frames // 2
    offset = (torch.arange(context.patch_px) - context.patch_px // 2).abs()
    ring = torch.maximum(offset[:, None], offset[None])
    further = torch.pow(torch.tensor(loss.ring_factor), (ring - 1).clamp(min=0))
    space = torch.where(ring == 0, 1.0, loss.first_ring_factor * further)
    weights = torch.pow(torch.tensor(loss.time_factor), apart.abs())[:, None, None] * space
    return weights.float()


def weighted_mae(prediction: Tensor, target: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean absolute error ``(sample,)``, mean over bands.

    The weights ``(frame, y, x)`` of a sample's valid pixels sum to 1. NaN for a sample without a
    valid pixel of weight.
    """
    share = weights * valid
    error = (prediction - target).abs().mean(dim=2)
    return (share * error).sum(dim=(1, 2, 3)) / share.sum(dim=(1, 2, 3))


def neighbourhood(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of the centre frame around the target pixel, which is left out.

    Returns moments ``(sample, 2, band)``, mean and standard deviation (of the population) over the
    valid pixels, and whether at least `LEAST_NEIGHBOURS` pixels are valid ``(sample,)``: where not,
    the moments are 0. For a target, not for a prediction: the gradient of a spread of 0 is not
    finite.
    """
    frame, middle = values.shape[1] // 2, values.shape[-1] // 2
    shown = valid[:, frame].clone()
    shown[:, middle, middle] = False
    count = shown.sum(dim=(1, 2))
    enough = count >= LEAST_NEIGHBOURS
    share = (shown / count.clamp(min=1)[:, None, None])[:, None].to(values.dtype)
    around = values[:, frame]
    mean = (share * around).sum(dim=(2, 3))
    variance = (share * (around - mean[..., None, None]).square()).sum(dim=(2, 3))
    moments = torch.stack([mean, variance.sqrt()], dim=1)
    return torch.where(enough[:, None, None], moments, 0.0), enough


def _blur_matrix(size: int, window: int, sigma: float, like: Tensor) -> Tensor:
    """``(size - window + 1, size)``: Gaussian means along one axis, at all whole windows."""
    position = torch.arange(window, dtype=torch.float64) - window // 2
    kernel = torch.exp(-(position**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    matrix = torch.zeros(size - window + 1, size, dtype=torch.float64)
    for row in range(len(matrix)):
        matrix[row, row : row + window] = kernel
    return matrix.to(like)


def structural_similarity(
    prediction: Tensor, target: Tensor, valid: Tensor, *, window: int = 7, sigma: float = 1.5
) -> Tensor:
    """Structural similarity ``(sample, band)``, Wang et al. 2004, eq. 13, with data range 1.

    Mean over frames and windows; 0 where no window has a valid pixel. Local means are Gaussian
    (``window`` and ``sigma`` in pixels) over valid pixels only, and a window counts as much as the
    valid share of its weight. Two products with a banded matrix do the blur.
    """
    blur = _blur_matrix(prediction.shape[-1], window, sigma, prediction).T

    def smooth(maps: Tensor) -> Tensor:
        return ((maps @ blur).transpose(-1, -2) @ blur).transpose(-1, -2)

    mask = valid[:, :, None].to(prediction.dtype)
    weight = smooth(mask)
    scale = 1 / weight.clamp(min=1e-6)
    with torch.no_grad():
        shown = target * mask
        mean_t = smooth(shown) * scale
        variance_t = smooth(shown * target) * scale - mean_t**2
    made = prediction * mask
    mean_p = smooth(made) * scale
    variance_p = smooth(made * prediction) * scale - mean_p**2
    covariance = smooth(made * target) * scale - mean_p * mean_t
    similarity = ((2 * mean_p * mean_t + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_p**2 + mean_t**2 + SSIM_C1) * (variance_p + variance_t + SSIM_C2)
    )
    total = weight.sum(dim=(1, 2, 3, 4))
    return (similarity * weight).sum(dim=(1, 3, 4)) / total.clamp(min=1e-6)[:, None]


def spectral_angle(prediction: Tensor, target: Tensor) -> Tensor:
    """Angle between two spectra ``(sample, band)``, radians (Kruse et al. 1993): ``(sample,)``.

    As ``2 atan2(|u - v|, |u + v|)`` of the unit vectors (Kahan 2006, "How futile are mindless
    assessments of roundoff", section 12), which unlike the arc cosine is exact for small
    angles, with lengths smoothed by 1e-6 so that the gradient of a perfect match is 0. The spectra
    are in physical units: an offset would change the angle.
    """
    u = torch.nn.functional.normalize(prediction, dim=-1, eps=1e-6)
    v = torch.nn.functional.normalize(target, dim=-1, eps=1e-6)
    apart = ((u - v).square().sum(-1) + 1e-12).sqrt()
    along = ((u + v).square().sum(-1) + 1e-12).sqrt()
    return (2 * torch.atan2(apart, along)).clamp(max=math.pi)
