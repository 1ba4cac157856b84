"""Convolutional attention blocks.

CBAM: Woo et al. 2018, "CBAM: Convolutional Block Attention Module": channel attention, then
spatial attention. The encoder's variant asks each pixel alone for its channel weights and
uses valid convolutions, so that a block computes the same for a pixel whatever lies beyond
its receptive field; the decoder and the patch encoder, which always have one whole patch, pool
over it as CBAM does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 4
SPATIAL_KERNEL = 3


def crop(maps: Tensor, pixels: int) -> Tensor:
    """Cut ``pixels`` from each side of the last two dimensions."""
    if pixels == 0:
        return maps
    return maps[..., pixels:-pixels, pixels:-pixels]


class ChannelAttention(nn.Module):
    """Weights of the channels, from their mean and maximum over the patch (CBAM, eq. 2).

    Not ``pooled``, the weights of a pixel come from its own channels alone.
    """

    def __init__(self, channels: int, *, pooled: bool) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 4)
        self.pooled = pooled
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, C, H, W)`` to the same shape."""
        if not self.pooled:
            return maps * torch.sigmoid(self.weigh(maps))
        mean = self.weigh(maps.mean(dim=(2, 3), keepdim=True))
        peak = self.weigh(maps.amax(dim=(2, 3), keepdim=True))
        return maps * torch.sigmoid(mean + peak)


class SpatialAttention(nn.Module):
    """A gate per pixel from the mean and maximum over channels around it (CBAM, eq. 3).

    Padded it keeps the size (decoder); otherwise the border of ``kernel // 2`` pixels is lost.
    """

    def __init__(self, kernel: int, *, padded: bool) -> None:
        super().__init__()
        self.margin = 0 if padded else kernel // 2
        self.gate = nn.Conv2d(2, 1, kernel, padding=kernel // 2 if padded else 0)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, C, H, W)`` to the same shape, less the margin."""
        summary = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], dim=1)
        return crop(maps, self.margin) * torch.sigmoid(self.gate(summary))


class MultiScale(nn.Module):
    """Parallel valid convolutions of several kernel sizes, cropped alike and concatenated.

    The kernels are odd, in increasing order; the largest gets the remainder where ``outputs`` does
    not divide evenly.
    """

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        shares = [outputs // len(kernels)] * len(kernels)
        shares[-1] += outputs - sum(shares)
        self.largest = kernels[-1]
        self.branches = nn.ModuleList(
            nn.Conv2d(inputs, share, kernel) for share, kernel in zip(shares, kernels, strict=True)
        )
        self.margins = [(self.largest - kernel) // 2 for kernel in kernels]

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H - k + 1, W - k + 1)``."""
        return torch.cat(
            [
                branch(crop(maps, margin))
                for branch, margin in zip(self.branches, self.margins, strict=True)
            ],
            dim=1,
        )


class DenseBlock(nn.Module):
    """Valid convolution, per-pixel CBAM and a residual skip: one block of the dense encoder.

    More than one kernel makes the convolution multi-scale.
    """

    def __init__(
        self, inputs: int, outputs: int, kernels: tuple[int, ...], spatial_kernel: int
    ) -> None:
        super().__init__()
        self.convolve = MultiScale(inputs, outputs, kernels)
        self.channel = ChannelAttention(outputs, pooled=False)
        self.spatial = SpatialAttention(spatial_kernel, padded=False)
        self.skip = nn.Conv2d(inputs, outputs, 1)
        self.margin = kernels[-1] // 2 + spatial_kernel // 2

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H - 2 margin, W - 2 margin)``."""
        refined = nn.functional.silu(self.convolve(maps))
        refined = self.spatial(self.channel(refined))
        return refined + self.skip(crop(maps, self.margin))


class PatchBlock(nn.Module):
    """Convolutions of several reaches side by side, CBAM and a residual skip; keeps the size.

    A block of the decoder, and of the encoder that sees a patch as a whole. The reaches are the
    dilations of 3 x 3 convolutions, which see as far as larger ones at a fraction of the cost.
    """

    def __init__(self, inputs: int, outputs: int, reaches: tuple[int, ...]) -> None:
        super().__init__()
        shares = [outputs // len(reaches)] * len(reaches)
        shares[0] += outputs - sum(shares)
        self.branches = nn.ModuleList(
            nn.Conv2d(inputs, share, 3, padding=reach, dilation=reach)
            for share, reach in zip(shares, reaches, strict=True)
        )
        self.channel = ChannelAttention(outputs, pooled=True)
        self.spatial = SpatialAttention(SPATIAL_KERNEL, padded=True)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H, W)``."""
        refined = torch.cat([branch(maps) for branch in self.branches], dim=1)
        refined = self.channel(nn.functional.silu(refined))
        return self.spatial(refined) + self.skip(maps)
