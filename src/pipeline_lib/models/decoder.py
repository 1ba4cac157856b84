"""The decoder of one sensor: a latent and dates to the patch of every frame."""

from __future__ import annotations

from torch import Tensor, nn

from pipeline_lib.config import Context, Sensor
from pipeline_lib.models.blocks import PatchBlock
from pipeline_lib.models.positions import DayPositions

ENLARGEMENT = 3


class Decoder(nn.Module):
    """Decoder of one sensor.

    Each frame starts from a vector made of the latent and the frame's date, from which follow
    one spectrum for the whole patch and a coarse map. Two attention blocks refine the map, it
    is enlarged threefold, and a multi-scale block adds the spatial pattern to the spectrum.
    The spectrum has a part that is linear in the latent, as the encoder's skips make the latent
    partly linear in the centre's spectrum: training starts out from a linear autoencoder.

    Parameters
    ----------
    bands, latent
        Bands of a frame; numbers of the latent.
    width
        Channels of the maps.
    patch_px
        Side of the patch.
    """

    def __init__(self, *, bands: int, latent: int, width: int, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.width = width
        self.coarse = -(-patch_px // ENLARGEMENT)
        fine, vector = max(width // 2, 8), 2 * width
        self.positions = DayPositions(vector)
        self.begin = nn.Linear(latent, vector)
        self.frame = nn.Sequential(nn.SiLU(), nn.Linear(vector, vector), nn.SiLU())
        self.spectrum = nn.Linear(vector, bands)
        self.linear = nn.Linear(latent, bands, bias=False)
        self.seed = nn.Linear(vector, width * self.coarse**2)
        self.blocks = nn.Sequential(PatchBlock(width, width, (1,)), PatchBlock(width, width, (1,)))
        self.enlarge = nn.ConvTranspose2d(width, fine, ENLARGEMENT, stride=ENLARGEMENT)
        self.last = PatchBlock(fine, fine, (1, 2))
        self.bands = nn.Conv2d(fine, bands, 1)

    @classmethod
    def of(cls, sensor: Sensor, context: Context) -> Decoder:
        """The decoder that a sensor's config block describes."""
        return cls(
            bands=len(sensor.bands),
            latent=sensor.latent,
            width=sensor.encoder.decoder_width,
            patch_px=context.patch_px,
        )

    def forward(self, latent: Tensor, days: Tensor) -> Tensor:
        """Reconstruct all frames.

        Parameters
        ----------
        latent
            ``(B, latent)``.
        days
            ``(B, T)``: days since the centre frame.

        Returns
        -------
        Tensor
            ``(B, T, bands, P, P)``, scaled to 0..1 as the training data, not clipped.
        """
        count, frames = days.shape
        vector, maps = self._maps(latent, days)
        patches = self.bands(self.last(maps)) + self.spectrum(vector)[..., None, None]
        patches = patches.view(count, frames, *patches.shape[1:])
        return patches + self.linear(latent)[:, None, :, None, None]

    def centre(self, latent: Tensor) -> Tensor:
        """Reconstruct the middle pixel of the centre frame alone.

        The same numbers as in `forward`: each frame is made from the latent and its own date.

        Parameters
        ----------
        latent
            ``(B, latent)``.

        Returns
        -------
        Tensor
            ``(B, bands)``, scaled to 0..1 as the training data, not clipped.
        """
        vector, maps = self._maps(latent, latent.new_zeros(len(latent), 1))
        pixel = self.bands(self.last.middle(maps))[..., 0, 0]
        spectrum: Tensor = pixel + self.spectrum(vector) + self.linear(latent)
        return spectrum

    def _maps(self, latent: Tensor, days: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors ``(B * T, V)`` of the frames, and maps ``(B * T, C, P, P)`` from them."""
        vector = self.begin(latent)[:, None] + self.positions(days.to(latent.dtype))
        vector = self.frame(vector).flatten(0, 1)
        maps = self.seed(vector).view(-1, self.width, self.coarse, self.coarse)
        maps = nn.functional.silu(self.enlarge(self.blocks(maps)))
        return vector, maps[..., : self.patch_px, : self.patch_px]
