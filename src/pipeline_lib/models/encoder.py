"""The encoder of one sensor: frames to features, windows of frames to a latent.

The features of a pixel are the same in a tile and in a patch of its own, and are computed once
for all windows that hold the frame. In the dense encoder every operation on space is a valid
convolution without stride, so a tile costs little more than its pixels; the patch encoder, as the
paper has it, is run on the patch around each pixel.

The first dimensions of a latent may be components of the target pixel's spectrum, those with the
least noise. They fix the target pixel whatever the loss asks of the others, which are then free for
its context: an encoder that has to find both in the same dimensions gives one of them up.

A blind encoder (Krull et al. 2019, "Noise2Void") sees neither the target pixel on its date nor the
pixels that share its noise. It can only foretell the signal: its latent starts as a linear
prediction from averages in space and time, to which the network adds.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from pipeline_lib.config import Context, Sensor
from pipeline_lib.errors import UserError
from pipeline_lib.models.blocks import DenseBlock, PatchBlock, crop
from pipeline_lib.models.positions import DayPositions

BLOCKS = 3

LEAST_VARIANCE = 1e-4

BOXES = (1, 3, 7)
"""Widths of the boxes around the target pixel, besides the patch's own, that a blind encoder
averages on other dates."""
RINGS = 3
"""Rings around what a blind encoder does not see, that it averages on the centre date."""
NEAR_DAYS = 20.0
"""Days within which the weight of another date falls to 1/e in the first of two means over them."""
RIDGE = 1e-3
"""Penalty of the linear prediction, of inputs of unit variance."""

MULTI_SCALE_REACHES = (1, 2, 3)
"""Dilations of the patch encoder's first block: it sees 3, 5 and 7 pixels wide."""


def kernel_sizes(patch_px: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Three kernels of the convolutions, and three of the spatial attentions, for a patch.

    The margins that the patch allows are handed out one pixel at a time: first to the three
    convolutions, then to the three spatial attentions, then to the convolutions in turn. For 15
    pixels they are (5, 3, 3) and (3, 3, 3).

    Raises UserError if three convolutions do not fit.
    """
    margins = (patch_px - 1) // 2
    if patch_px % 2 == 0 or margins < BLOCKS:
        raise UserError(
            f"context.patch_px: {patch_px} is too small or even; the dense encoder needs an odd "
            f"size of at least {2 * BLOCKS + 1}"
        )
    convolutions, attentions = [1] * BLOCKS, [1] * BLOCKS
    for index in range(margins):
        if BLOCKS <= index < 2 * BLOCKS:
            attentions[index - BLOCKS] += 2
        else:
            convolutions[index % BLOCKS] += 2
    return tuple(convolutions), tuple(attentions)


class CentreAttention(nn.Module):
    """A pre-norm transformer layer in which only the centre token queries.

    Multi-head attention (Vaswani et al. 2017, eq. 1) without a bias of the keys, which would add
    the same to all scores. `forward` is the plain form; `fused` gives the same several times
    faster.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Parameter(torch.empty(heads, width // heads, width))
        self.value = nn.Parameter(torch.empty(heads, width, width // heads))
        self.join = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        bound = width**-0.5
        nn.init.uniform_(self.key, -bound, bound)
        nn.init.uniform_(self.value, -bound, bound)

    def forward(self, centre: Tensor, tokens: Tensor, used: Tensor) -> Tensor:
        """Update the centre ``(B, W)`` from the tokens ``(B, T, W)`` where ``used`` ``(B, T)``."""
        query = self.query(self.norm(centre)).unflatten(1, (self.heads, -1))
        key = torch.einsum("btw,hdw->bthd", tokens, self.key)
        value = torch.einsum("btw,hwd->bthd", tokens, self.value)
        scores = torch.einsum("bhd,bthd->bth", query, key) * query.shape[-1] ** -0.5
        weights = scores.masked_fill(~used[..., None], -torch.inf).softmax(dim=1)
        attended = torch.einsum("bth,bthd->bhd", weights, value).flatten(1)
        centre = centre + self.join(attended)
        return centre + self.feed(centre)

    def fused(
        self, centre: Tensor, apart: Tensor, scale: Tensor, norm: nn.LayerNorm, bias: Tensor
    ) -> Tensor:
        """`forward` for tokens ``norm(apart)``, which are never formed.

        ``apart`` is ``(B, T, W)``, of mean 0 over W; ``scale`` ``(B, T, 1)`` is what the
        normalisation multiplies it by. ``bias`` ``(B, T, 1)`` is added to the scores: -inf for a
        token that is not used.

        As there is one query, its product with the key projection is formed first, and the value
        projection is applied after the weighted mean of the tokens. The normalisation of the
        tokens (Ba et al. 2016, eq. 4) becomes one factor per token, and its gain and shift go
        into the projections. So no token is projected, and the widest array of the head is read
        but twice.
        """
        count, width = centre.shape
        query = self.query(self.norm(centre)) * (width // self.heads) ** -0.5
        query = query.view(count, self.heads, -1).transpose(0, 1) @ (self.key * norm.weight)
        scores = scale * (apart @ query.permute(1, 2, 0))
        # Over the second dimension: over a last one as short as a window it is far slower.
        weights = torch.softmax(scores + bias, dim=1) * scale
        mean = (weights.transpose(1, 2) @ apart).transpose(0, 1)
        value = mean @ (norm.weight[:, None] * self.value)
        value = value + (norm.bias @ self.value)[:, None]
        centre = centre + self.join(value.transpose(0, 1).reshape(count, width))
        return centre + self.feed(centre)


class DenseFrames(nn.Module):
    """Frames to features by valid convolutions, and by mean and spread of the whole patch.

    Convolutions as small as a patch of 15 pixels allows hardly see it as a whole. The last one of
    the ``bands`` is validity; ``patch_px`` is the receptive field r.
    """

    def __init__(self, *, bands: int, width: int, features: int, patch_px: int) -> None:
        super().__init__()
        convolutions, attentions = kernel_sizes(patch_px)
        scales = tuple(range(1, convolutions[0] + 1, 2))
        self.patch_px = patch_px
        self.blocks = nn.Sequential(
            DenseBlock(bands, width, scales, attentions[0]),
            DenseBlock(width, width, (convolutions[1],), attentions[1]),
            DenseBlock(width, width, (convolutions[2],), attentions[2]),
        )
        self.project = nn.Conv2d(width, features, 1)
        self.patch_statistics = nn.Conv2d(2 * (bands - 1), features, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, bands, H, W)`` to ``(N, features, H - r + 1, W - r + 1)``."""
        statistics = self.patch_statistics(self._statistics(maps))
        features: Tensor = self.project(self.blocks(maps)) + statistics
        return features

    def _statistics(self, maps: Tensor) -> Tensor:
        """Mean and standard deviation of each band over the valid pixels of each patch."""
        values, shown = maps[:, :-1], maps[:, -1:]
        sums = torch.cat([values, values.square(), shown], dim=1)
        for window in ((self.patch_px, 1), (1, self.patch_px)):
            sums = nn.functional.avg_pool2d(sums, window, stride=1)
        totals, share = sums[:, :-1], sums[:, -1:].clamp(min=0.5 / self.patch_px**2)
        mean, square = (totals / share).chunk(2, dim=1)
        # Away from 0, where rounding would grow under the root.
        spread = ((square - mean.square()).clamp(min=0) + LEAST_VARIANCE).sqrt()
        return torch.cat([mean, spread], dim=1)


class PatchFrames(nn.Module):
    """Frames to features patch by patch: three CBAM blocks that pool over the whole patch.

    The paper's encoder of a frame, whose first block is multi-scale. Its text does not say how
    maps become a vector: here they are halved twice and read out by one linear layer.
    """

    def __init__(self, *, bands: int, width: int, features: int, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.blocks = nn.Sequential(
            PatchBlock(bands, width, MULTI_SCALE_REACHES),
            nn.AvgPool2d(2, ceil_mode=True),
            PatchBlock(width, width, (1,)),
            nn.AvgPool2d(2, ceil_mode=True),
            PatchBlock(width, width, (1,)),
        )
        side = -(-patch_px // 4)
        self.project = nn.Linear(width * side**2, features)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, bands, H, W)`` to ``(N, features, H - r + 1, W - r + 1)``."""
        side = self.patch_px
        # Row by row: all patches of a tile at once would be hundreds of times its size.
        rows = [self._row(maps[:, :, top : top + side]) for top in range(maps.shape[2] - side + 1)]
        return torch.stack(rows, dim=2)

    def _row(self, maps: Tensor) -> Tensor:
        """``(N, bands, r, W)`` to ``(N, features, W - r + 1)``."""
        patches = maps.unfold(3, self.patch_px, 1).permute(0, 3, 1, 2, 4)
        count, columns = patches.shape[:2]
        features: Tensor = self.project(self.blocks(patches.flatten(0, 1)).flatten(1))
        return features.view(count, columns, -1).transpose(1, 2)


FRAMES = {"dense": DenseFrames, "patch": PatchFrames}
"""Encoders of a frame, by the config's ``kind``."""


class Surroundings(nn.Module):
    """What a blind encoder sees of the target pixel's surroundings, and what that foretells.

    ``sums`` ``(region, width)`` makes regions of boxes of all odd widths: some of the boxes
    themselves, then rings, the first of which begins beyond ``correlated_px`` (`hide`). ``slopes``
    ``(input, bands)`` and ``offset`` ``(bands,)`` are the linear prediction (`fit`), and ``mean``
    ``(bands,)`` stands in where no pixel is valid.
    """

    sums: Tensor
    slopes: Tensor
    offset: Tensor
    mean: Tensor

    def __init__(self, bands: int, patch_px: int) -> None:
        super().__init__()
        self.bands, self.widths = bands, tuple(range(1, patch_px + 1, 2))
        self.boxes = [width for width in BOXES if width < patch_px] + [patch_px]
        self.features = (len(self.boxes) + RINGS) * bands
        self.inputs = (2 * len(self.boxes) + RINGS) * bands
        self.register_buffer("sums", torch.zeros(len(self.boxes) + RINGS, len(self.widths)))
        # Until it is fitted: the innermost ring.
        self.register_buffer("slopes", torch.eye(self.inputs)[:, :bands].clone())
        self.register_buffer("offset", torch.zeros(bands))
        self.register_buffer("mean", torch.zeros(bands))
        self.hide(1)

    def hide(self, correlated_px: int) -> None:
        """Set how far from the target pixel its noise is shared; at least a ring remains seen."""
        widest = len(self.widths) - 1
        hidden = min(correlated_px, widest - 1)
        self.sums.zero_()
        for row, width in enumerate(self.boxes):
            self.sums[row, width // 2] = 1
        first, *others = range(hidden + 1, widest + 1)
        middle = (len(others) + 1) // 2
        edges = [hidden, first, *(part[-1] for part in (others[:middle], others[middle:]) if part)]
        for row, (inner, outer) in enumerate(pairwise(edges), len(self.boxes)):
            self.sums[row, outer], self.sums[row, inner] = 1, -1

    def forward(self, values: Tensor, shown: Tensor) -> Tensor:
        """Means of the regions around each pixel: ``(N, features, H - r + 1, W - r + 1)``.

        Of values ``(N, bands, H, W)``, 0 where not ``shown`` ``(N, 1, H, W)``. A region without a
        valid pixel has the mean of the next wider one.
        """
        maps = torch.cat([values, shown], dim=1).to(self.sums.dtype)
        boxes = []
        for width in self.widths:
            inner = crop(maps, (self.widths[-1] - width) // 2)
            rows = nn.functional.avg_pool2d(inner, (width, 1), stride=1)
            boxes.append(width**2 * nn.functional.avg_pool2d(rows, (1, width), stride=1))
        sums = torch.einsum("rw,wnchv->rnchv", self.sums, torch.stack(boxes))
        counts = sums[:, :, -1:].round()
        means = sums[:, :, :-1] / counts.clamp(min=1)
        seen: list[Tensor] = []
        for region in reversed(range(len(self.sums))):
            outermost = region in (len(self.boxes) - 1, len(self.sums) - 1)
            wider = self.mean[:, None, None] if outermost else seen[-1]
            seen.append(torch.where(counts[region] > 0, means[region], wider))
        return torch.cat(seen[::-1], dim=1)

    def inputs_of(
        self, statistics: Tensor, days: Tensor, sides: Tensor, middle: int
    ) -> tuple[Tensor, Tensor]:
        """Inputs of the prediction ``(B, inputs)``, and the mean over dates ``(B, bands)``.

        From the statistics of frames ``(B, T, features)``, their days ``(B, T)`` or ``(1, T)``, and
        which of them are other dates to look at ``(B, T)``. Without any, the innermost ring stands
        in.
        """
        boxes, rings = statistics.tensor_split([len(self.boxes) * self.bands], dim=-1)
        rings = rings[:, middle]
        near = (-days.abs() / NEAR_DAYS).expand_as(sides)
        scores = torch.stack([near, torch.zeros_like(near)], dim=1)
        # Finite, so that there is no NaN where nothing is seen.
        weights = scores.masked_fill(~sides[:, None], -1e4).softmax(dim=-1)
        alone = rings[:, : self.bands].repeat(1, len(self.boxes))[:, None]
        means = torch.where(sides.any(dim=1)[:, None, None], weights.to(boxes.dtype) @ boxes, alone)
        return torch.cat([rings, means.flatten(1)], dim=1), means[:, 1, : self.bands]

    def predict(self, inputs: Tensor) -> Tensor:
        """The target pixel ``(B, bands)``, by the linear prediction."""
        return inputs @ self.slopes + self.offset

    def fit(self, inputs: Tensor, spectra: Tensor) -> None:
        """Fit the prediction by ridge regression, of spectra ``(N, bands)``."""
        x, y = inputs.double(), spectra.double()
        centre, spread = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
        standard = (x - centre) / spread
        penalty = RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        slopes = torch.linalg.solve(
            standard.T @ standard + penalty, standard.T @ (y - y.mean(dim=0))
        )
        slopes = slopes / spread[:, None]
        self.mean.copy_(y.mean(dim=0))
        self.slopes.copy_(slopes)
        self.offset.copy_(y.mean(dim=0) - centre @ slopes)


class SensorEncoder(nn.Module):
    """Encoder of one sensor, whose receptive field is exactly ``context.patch_px`` pixels wide.

    The feature vector of a frame has length D, ``features``: the channels that the head reads, less
    their mean; the mean; and the components of the pixel's own spectrum, computed by
    ``spectrum_mean`` ``(bands,)`` and ``spectrum_axes`` ``(bands, components)``, which
    `Autoencoder.initialise` sets; of a blind encoder, the statistics of its `Surroundings`.
    """

    spectrum_mean: Tensor
    spectrum_axes: Tensor

    def __init__(self, sensor: Sensor, context: Context) -> None:
        super().__init__()
        bands, block = len(sensor.bands), sensor.encoder
        self.receptive_field = context.patch_px
        self.head_width = block.head_width
        self.blind = Surroundings(bands, context.patch_px) if block.blind else None
        self.features = block.head_width + 1
        self.features += self.blind.features if self.blind else block.components
        self.register_buffer("spectrum_mean", torch.zeros(bands))
        self.register_buffer("spectrum_axes", torch.eye(bands)[:, : block.components].clone())
        self.frames = FRAMES[block.kind](
            bands=bands + 1,
            width=block.width,
            features=block.head_width,
            patch_px=context.patch_px,
        )
        self.positions = DayPositions(block.head_width)
        self.token_norm = nn.LayerNorm(block.head_width)
        self.layers = nn.ModuleList(
            CentreAttention(block.head_width, block.heads) for _ in range(block.head_layers)
        )
        if self.blind:
            self.query = nn.Linear(self.blind.inputs, block.head_width)
            self.bottleneck = nn.Linear(block.head_width, bands)
            nn.init.zeros_(self.bottleneck.weight)
            nn.init.zeros_(self.bottleneck.bias)
        else:
            self.bottleneck = nn.Linear(block.head_width, sensor.latent_dim - block.components)

    def frame_features(self, values: Tensor, valid: Tensor) -> Tensor:
        """Features of frames, independent of the windows that hold them.

        Values ``(N, C, H, W)``, scaled to 0..1, whose invalid pixels are ignored, and validity
        ``(N, H, W)`` give ``(N, D, H - r + 1, W - r + 1)`` for a receptive field of r.
        """
        shown = valid[:, None]
        filled = torch.where(shown, values, torch.zeros((), dtype=values.dtype))
        features: Tensor = self.frames(torch.cat([filled, shown.to(values.dtype)], dim=1))
        # In bf16 these would be rounded to less than a sensor's noise.
        with torch.autocast(values.device.type, enabled=False):
            if self.blind:
                own = self.blind(filled, shown)
            else:
                spectra = crop(filled, self.receptive_field // 2).movedim(1, -1).float()
                own = ((spectra - self.spectrum_mean) @ self.spectrum_axes).movedim(-1, 1)
        features = features.float()
        mean = features.mean(dim=1, keepdim=True)
        return torch.cat([features - mean, mean, own], dim=1)

    def presence(self, valid: Tensor) -> Tensor:
        """Whether the patch around each pixel has a valid one: ``present`` of `latent`.

        ``(N, H, W)`` to ``(N, H - r + 1, W - r + 1)``, bool.
        """
        field = self.receptive_field
        return nn.functional.max_pool2d(valid[:, None].float(), field, stride=1)[:, 0] > 0

    def latent(
        self,
        features: Tensor,
        days: Tensor,
        present: Tensor,
        middle: int,
        *,
        plain: bool = False,
    ) -> Tensor:
        """Latents ``(B, latent)`` of windows of frames.

        From the frames' features ``(B, T, D)`` at one pixel per window, their days since the centre
        frame ``(B, T)``, or ``(1, T)`` if all windows have the same dates, and whether they are
        present ``(B, T)``. ``middle`` is the index of the centre frame, which is used in any case:
        half of T, unless absent frames are left out. ``plain`` is for plain attention on
        normalised tokens instead of its fused form.
        """
        apart, mean, own = features.tensor_split([self.head_width, self.head_width + 1], dim=-1)
        positions = self.positions(days)
        level = positions.mean(dim=-1, keepdim=True)
        apart = apart + (positions - level)
        length = torch.linalg.vector_norm(apart, dim=-1, keepdim=True)
        scale = (length.square() / self.head_width + self.token_norm.eps).rsqrt()
        used = present.clone()
        used[:, middle] = not self.blind
        if self.blind:
            with torch.autocast(features.device.type, enabled=False):
                inputs, over_dates = self.blind.inputs_of(own, days, used, middle)
                foretold = self.blind.predict(inputs)
            centre = self.query(inputs)
            # Attention needs a token; what it makes of the hidden one is thrown away.
            alone = ~used.any(dim=1)
            used[:, middle] = alone
        else:
            # Not normalised, here and at the end: brightness is what a latent needs first.
            centre = apart[:, middle] + (mean[:, middle] + level[:, middle])
        if plain:
            tokens = self.token_norm(apart + mean + level)
            for layer in self.layers:
                centre = layer(centre, tokens, used)
        else:
            bias = torch.zeros_like(used, dtype=apart.dtype).masked_fill(~used, -torch.inf)
            for layer in self.layers:
                centre = cast(CentreAttention, layer).fused(
                    centre, apart, scale, self.token_norm, bias[..., None]
                )
        learned: Tensor = self.bottleneck(centre).float()
        if self.blind:
            return torch.cat(
                [foretold + learned.masked_fill(alone[:, None], 0), over_dates], dim=-1
            )
        return torch.cat([own[:, middle], learned], dim=-1)

    def forward(self, values: Tensor, valid: Tensor, days: Tensor) -> Tensor:
        """Latents ``(B, latent)`` of single patches: the same function as the dense path.

        Values ``(B, T, C, P, P)``, validity ``(B, T, P, P)`` and days ``(B, T)``, with P the
        receptive field.
        """
        count, frames = days.shape
        features = self.frame_features(values.flatten(0, 1), valid.flatten(0, 1))
        features = features.view(count, frames, self.features)
        return self.latent(features, days, valid.any(dim=(2, 3)), frames // 2)
