"""The decoder of one sensor: a latent and dates to the patch of every frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline_lib.config import Context, Sensor
from pipeline_lib.models.blocks import PatchBlock
from pipeline_lib.models.positions import DayPositions

ENLARGEMENT = 3


class Decoder(nn.Module):
    """Decoder of one sensor.

    The target pixel follows from the latent alone: a part that is linear in it, and a small
    network. Every other pixel is the target pixel plus a difference. For each frame a vector is
    made of the latent and the frame's date, from which follow one spectrum for the whole patch and
    a coarse map. Two attention blocks refine the map, it is enlarged threefold, and a multi-scale
    block adds the spatial pattern to the spectrum. What this makes of the target pixel is
    subtracted from it, and the target pixel alone costs next to nothing.

    Target pixel and context do not compete in training: an error of the context does not reach
    the target pixel's spectrum, and an error of the target pixel does not reach the dimensions
    after the components. (Without the second, these become further components of the target pixel,
    however gently the loss weighs it.) Without components, the target pixel has all dimensions.
    """

    def __init__(self, sensor: Sensor, context: Context) -> None:
        super().__init__()
        bands, latent, width = len(sensor.bands), sensor.latent_dim, sensor.encoder.decoder_width
        self.components = sensor.encoder.components
        self.patch_px = context.patch_px
        self.width = width
        self.coarse_px = -(-context.patch_px // ENLARGEMENT)
        fine, vector = max(width // 2, 8), 2 * width
        self.linear = nn.Linear(latent, bands)
        self.hidden = nn.Sequential(nn.Linear(latent, vector), nn.SiLU())
        self.nonlinear = nn.Linear(vector, bands)
        self.positions = DayPositions(vector)
        self.expand = nn.Linear(latent, vector)
        self.frame = nn.Sequential(nn.SiLU(), nn.Linear(vector, vector), nn.SiLU())
        self.spectrum = nn.Linear(vector, bands, bias=False)
        self.coarse_map = nn.Linear(vector, width * self.coarse_px**2)
        self.blocks = nn.Sequential(PatchBlock(width, width, (1,)), PatchBlock(width, width, (1,)))
        self.enlarge = nn.ConvTranspose2d(width, fine, ENLARGEMENT, stride=ENLARGEMENT)
        self.last = PatchBlock(fine, fine, (1, 2))
        self.bands = nn.Conv2d(fine, bands, 1, bias=False)
        self.moments = nn.Linear(latent, 2 * bands)

    def initialise(self, mean: Tensor, axes: Tensor) -> None:
        """Start with a patch of one spectrum that is linear in the first dimensions of the latent.

        Mean ``(bands,)`` and axes ``(bands, n)``: the spectrum of a latent of zeros, and what each
        of its first n dimensions adds to it.
        """
        nn.init.zeros_(self.linear.weight)
        self.linear.weight[:, : axes.shape[1]].copy_(axes)
        self.linear.bias.copy_(mean)
        for layer in (self.nonlinear, self.spectrum, self.bands):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, latent: Tensor, days: Tensor) -> Tensor:
        """Patches of all frames ``(B, T, bands, P, P)``, scaled to 0..1 but not clipped.

        From latents ``(B, latent)`` and days ``(B, T)`` since the centre frame, frame ``T // 2``.
        """
        count, frames = days.shape
        vector = self.expand(latent)[:, None] + self.positions(days)
        vector = self.frame(vector).flatten(0, 1)
        maps = self.coarse_map(vector).view(-1, self.width, self.coarse_px, self.coarse_px)
        maps = nn.functional.silu(self.enlarge(self.blocks(maps)))
        maps = self.last(maps[..., : self.patch_px, : self.patch_px])
        patches = self.bands(maps) + self.spectrum(vector)[..., None, None]
        patches = patches.view(count, frames, *patches.shape[1:])
        middle = self.patch_px // 2
        made = patches[:, frames // 2, :, middle, middle]
        centre = self.centre(latent)
        patches = patches + (centre.detach() - made)[:, None, :, None, None]
        patches[:, frames // 2, :, middle, middle] = centre
        return patches

    def centre(self, latent: Tensor) -> Tensor:
        """Target pixel alone ``(B, bands)`` from latents ``(B, latent)``, as `forward` gives it."""
        # In bf16 the spectrum would be rounded to less than a sensor's noise.
        with torch.autocast(latent.device.type, enabled=False):
            latent = latent.float()
            if self.components:
                own, learned = latent.tensor_split([self.components], dim=1)
                latent = torch.cat([own, learned.detach()], dim=1)
            spectrum: Tensor = self.linear(latent) + self.nonlinear(self.hidden(latent))
        return spectrum

    def neighbourhood(self, latent: Tensor) -> Tensor:
        """Mean and spread around the target pixel, linear in the latent: ``(B, 2, bands)``.

        As `losses.neighbourhood` of the truth.
        """
        return self.moments(latent).unflatten(-1, (2, -1))
