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

    The centre follows from the latent alone: a part that is linear in it, and a small network.
    Every other pixel is the centre plus a difference. For each frame a vector is made of the
    latent and the frame's date, from which follow one spectrum for the whole patch and a coarse
    map. Two attention blocks refine the map, it is enlarged threefold, and a multi-scale block
    adds the spatial pattern to the spectrum. What this makes of the centre is subtracted from
    it, and the centre alone costs next to nothing.

    Centre and context do not compete in training: an error of the context does not reach the
    centre's spectrum, and an error of the centre does not reach the numbers that come after the
    components. (Without the second, these become further components of the centre, however
    gently the loss weighs it.) Where there are no components, the centre has all numbers.

    Parameters
    ----------
    bands, latent
        Bands of a frame; numbers of the latent.
    components
        First numbers of the latent, which are components of the centre's spectrum.
    width
        Channels of the maps.
    patch_px
        Side of the patch.
    """

    def __init__(
        self, *, bands: int, latent: int, components: int, width: int, patch_px: int
    ) -> None:
        super().__init__()
        self.components = components
        self.patch_px = patch_px
        self.width = width
        self.coarse = -(-patch_px // ENLARGEMENT)
        fine, vector = max(width // 2, 8), 2 * width
        self.linear = nn.Linear(latent, bands)
        self.bend = nn.Sequential(nn.Linear(latent, vector), nn.SiLU())
        self.bent = nn.Linear(vector, bands)
        self.positions = DayPositions(vector)
        self.begin = nn.Linear(latent, vector)
        self.frame = nn.Sequential(nn.SiLU(), nn.Linear(vector, vector), nn.SiLU())
        self.spectrum = nn.Linear(vector, bands, bias=False)
        self.seed = nn.Linear(vector, width * self.coarse**2)
        self.blocks = nn.Sequential(PatchBlock(width, width, (1,)), PatchBlock(width, width, (1,)))
        self.enlarge = nn.ConvTranspose2d(width, fine, ENLARGEMENT, stride=ENLARGEMENT)
        self.last = PatchBlock(fine, fine, (1, 2))
        self.bands = nn.Conv2d(fine, bands, 1, bias=False)
        self.moments = nn.Linear(latent, 2 * bands)

    @classmethod
    def of(cls, sensor: Sensor, context: Context) -> Decoder:
        """The decoder that a sensor's config block describes."""
        return cls(
            bands=len(sensor.bands),
            latent=sensor.latent_dim,
            components=sensor.encoder.components,
            width=sensor.encoder.decoder_width,
            patch_px=context.patch_px,
        )

    def initialise(self, mean: Tensor, axes: Tensor) -> None:
        """Begin with a patch of one spectrum that is linear in the first numbers of the latent.

        Parameters
        ----------
        mean, axes
            ``(bands,)`` and ``(bands, n)``: spectrum of a latent of zeros, and what each of its
            first n numbers adds to it.
        """
        nn.init.zeros_(self.linear.weight)
        self.linear.weight[:, : axes.shape[1]].copy_(axes)
        self.linear.bias.copy_(mean)
        for layer in (self.bent, self.spectrum, self.bands):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, latent: Tensor, days: Tensor) -> Tensor:
        """Reconstruct all frames.

        Parameters
        ----------
        latent
            ``(B, latent)``.
        days
            ``(B, T)``: days since the centre frame, which is frame ``T // 2``.

        Returns
        -------
        Tensor
            ``(B, T, bands, P, P)``, scaled to 0..1 as the training data, not clipped.
        """
        count, frames = days.shape
        vector = self.begin(latent)[:, None] + self.positions(days)
        vector = self.frame(vector).flatten(0, 1)
        maps = self.seed(vector).view(-1, self.width, self.coarse, self.coarse)
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
        """Reconstruct the middle pixel of the centre frame alone, as `forward` does.

        Parameters
        ----------
        latent
            ``(B, latent)``.

        Returns
        -------
        Tensor
            ``(B, bands)``, scaled to 0..1 as the training data, not clipped.
        """
        # In bf16 the spectrum would be rounded to less than a sensor's noise.
        with torch.autocast(latent.device.type, enabled=False):
            latent = latent.float()
            if self.components:
                own, learned = latent.tensor_split([self.components], dim=1)
                latent = torch.cat([own, learned.detach()], dim=1)
            spectrum: Tensor = self.linear(latent) + self.bent(self.bend(latent))
        return spectrum

    def neighbourhood(self, latent: Tensor) -> Tensor:
        """Mean and spread around the centre, linear in the latent.

        Parameters
        ----------
        latent
            ``(B, latent)``.

        Returns
        -------
        Tensor
            ``(B, 2, bands)``, as `losses.neighbourhood`.
        """
        return self.moments(latent).unflatten(-1, (2, -1))
