"""Embeddings of every pixel and cloud-free date of a cube.

Frame features are computed once per frame, gathered per window, and the temporal head
runs over batches of windows. A tile is computed from its pixels and a halo of half a
patch, so that the result does not depend on how a cube is tiled. The models decide where
it is computed: on the device that holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_lib.config import Embed
from pipeline_lib.cubes.schema import days_layer
from pipeline_lib.dataset import closest_frames, from_scale, window_frames
from pipeline_lib.embed.arrays import Crop, Frames, Layers, Tile, count_valid, tiles
from pipeline_lib.models import TrainedEncoder, TrainedFusion

FRAME_PX = {"cpu": 2**14, "cuda": 2**21}
"""Pixels of frames whose features are computed at once, by device."""

FUSED_BATCHES = 8
"""Batches of windows that are fused at once: the fusion has few and narrow tokens."""

BATCHES = {"cpu": 1, "cuda": 64}
"""Batches of windows in one step, by device: on a CPU they should stay in its cache."""


@dataclass(frozen=True)
class _Paired:
    """One sensor's frames that are paired with the dates of the reference sensor, in a tile.

    ``frame`` and ``days``, signed from the date to that frame, are ``(date, pixel)``, as is
    ``present``: whether the target pixel is embedded and the sensor has a frame for it.
    ``latents`` are ``(frame * pixel, dimension)``, zero where no date is paired with the frame.
    """

    frame: NDArray[np.int64]
    days: NDArray[np.float32]
    present: NDArray[np.bool_]
    latents: torch.Tensor


def embed_arrays(
    *,
    frames: Mapping[str, Frames],
    encoders: Mapping[str, TrainedEncoder],
    fusion: TrainedFusion,
    embed: Embed,
) -> Layers:
    """Layers of a whole cube in memory, one date per frame of the reference sensor.

    Any sensor but the reference may have no ``frames``; all have ``encoders``. The result does
    not depend on the size of tiles and batches.
    """
    shape = frames[fusion.block.reference].shape
    whole: Layers = {}
    for tile in tiles(*shape, embed.tile_px):
        crops = crops_of(frames, encoders, tile)
        part = embed_crops(crops=crops, encoders=encoders, fusion=fusion, batch=embed.batch_size)
        for name, values in part.items():
            if name not in whole:
                whole[name] = np.empty((*values.shape[:-2], *shape), np.float32)
            whole[name][..., tile.rows, tile.columns] = values
    return whole


def crops_of(
    frames: Mapping[str, Frames], encoders: Mapping[str, TrainedEncoder], tile: Tile
) -> dict[str, Crop]:
    """The tile with half a patch around it, of each sensor that has frames."""
    return {
        sensor: frames[sensor].crop(tile, trained.context.patch_px // 2)
        for sensor, trained in encoders.items()
        if sensor in frames and len(frames[sensor].times)
    }


@torch.inference_mode()
def embed_crops(
    *,
    crops: Mapping[str, Crop],
    encoders: Mapping[str, TrainedEncoder],
    fusion: TrainedFusion,
    batch: int,
) -> Layers:
    """Layers of a tile, NaN where the reference sensor's pixel is not valid.

    Other sensors are paired, pixel by pixel, by the frame closest in time that is valid there.
    Where there is none, the sensor is absent from the fusion: nothing is invented for it. The
    temporal head takes ``batch`` windows in one step.

    ``embedding`` is ``(time, feature, y, x)``, the others ``(time, y, x)``: ``context_share``, the
    share of valid pixels in the reference sensor's context; ``reconstruction_error``, the mean
    absolute error over its bands when the target pixel is decoded from the embedding, in its own
    units; ``domain_distance``, how far the target pixel lies from the training pixels, of the
    sensors present the farthest (above 1: outside; NaN if the encoders do not know);
    ``days_to_<sensor>``, signed days to the paired frame, NaN where there is none.
    """
    name = fusion.block.reference
    reference, trained = crops[name], encoders[name]
    device = _device(trained)
    shape = (len(reference.days), *reference.shape)
    targets = reference.target_valid
    batch *= BATCHES[device.type]
    paired = {
        sensor: _pair(crops.get(sensor), encoder, reference.days, targets, batch)
        for sensor, encoder in encoders.items()
    }

    observed = torch.from_numpy(reference.target_values).to(device).movedim(1, 2).flatten(0, 1)
    scaling = trained.normalisation
    lower, upper = (torch.from_numpy(a).to(device) for a in (scaling.lower, scaling.upper))
    embedding = torch.full((targets.size, fusion.block.embedding_dim), torch.nan, device=device)
    error = torch.full((targets.size,), torch.nan, device=device)
    dates, pixels = np.nonzero(targets)
    for start in range(0, len(dates), FUSED_BATCHES * batch):
        part = slice(start, start + FUSED_BATCHES * batch)
        date, pixel = dates[part], pixels[part]
        fused = fusion.fusion.fuse(*_tokens(paired, date, pixel))
        decoded = trained.autoencoder.decoder.centre(fusion.fusion.split(fused)[name])
        places = torch.from_numpy(date * targets.shape[1] + pixel).to(device)
        made, true = (
            from_scale(lower + spectra * (upper - lower), scaling.scale)
            for spectra in (decoded, observed.index_select(0, places))
        )
        embedding.index_copy_(0, places, fused)
        error.index_copy_(0, places, (made - true).abs().mean(dim=1))

    share = np.where(targets, _context_share(reference, trained), np.float32(np.nan))
    return {
        "embedding": embedding.view(*shape, -1).movedim(-1, 1).cpu().numpy(),
        "context_share": share.reshape(shape),
        "reconstruction_error": error.reshape(shape).cpu().numpy(),
        "domain_distance": _domain_distance(crops, encoders, paired).reshape(shape),
        **{
            days_layer(sensor): np.where(pair.present, pair.days, np.float32(np.nan)).reshape(shape)
            for sensor, pair in paired.items()
            if sensor != name
        },
    }


def _windows(days: NDArray[np.int64], trained: TrainedEncoder) -> list[NDArray[np.int64]]:
    """Frames of the window around every frame of a record, without absent ones."""
    indices, present = window_frames(
        days,
        np.arange(len(days)),
        trained.context.frames,
        trained.sensor.sequence.max_span_days,
        rolling_mean=trained.sensor.rolling_mean,
    )
    return [frames[there] for frames, there in zip(indices, present, strict=True)]


def _device(trained: TrainedEncoder) -> torch.device:
    return next(trained.autoencoder.parameters()).device


def _pair(
    crop: Crop | None,
    trained: TrainedEncoder,
    dates: NDArray[np.int64],
    targets: NDArray[np.bool_],
    batch: int,
) -> _Paired:
    """Pair dates (days since 1970) with a sensor's frames, and compute the latents they need."""
    if crop is None:
        latents = torch.zeros(targets.shape[1], trained.sensor.latent_dim, device=_device(trained))
        frame, present = np.zeros(targets.shape, np.int64), np.zeros_like(targets)
        return _Paired(frame, frame.astype(np.float32), present, latents)
    valid = crop.target_valid
    closest = [closest_frames(crop.days, int(day), valid) for day in dates]
    frame = np.stack([frames for frames, _ in closest])
    present = targets & np.stack([valid_there for _, valid_there in closest])
    needed = np.zeros_like(valid)
    date, pixel = np.nonzero(present)
    needed[frame[date, pixel], pixel] = True
    days = (crop.days[frame] - dates[:, None]).astype(np.float32)
    return _Paired(frame, days, present, _latents(crop, trained, needed, batch))


def _tokens(
    paired: Mapping[str, _Paired], date: NDArray[np.int64], pixel: NDArray[np.int64]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Latents, days and presence of every sensor of the fusion."""
    latents, days, present = {}, {}, {}
    for sensor, pair in paired.items():
        device = pair.latents.device
        frame = pair.frame[date, pixel]
        places = torch.from_numpy(frame * pair.present.shape[1] + pixel)
        latents[sensor] = pair.latents.index_select(0, places.to(device))
        days[sensor] = torch.from_numpy(pair.days[date, pixel]).to(device)
        present[sensor] = torch.from_numpy(pair.present[date, pixel]).to(device)
    return latents, days, present


def _domain_distance(
    crops: Mapping[str, Crop],
    encoders: Mapping[str, TrainedEncoder],
    paired: Mapping[str, _Paired],
) -> NDArray[np.float32]:
    """Largest `Domain.distance` over the frames that are paired with a date, ``(date, pixel)``."""
    distances = []
    for sensor, crop in crops.items():
        pair, scaling = paired[sensor], encoders[sensor].normalisation
        distance = scaling.domain_distance(crop.target_values)
        of_dates = np.take_along_axis(distance, pair.frame, axis=0)
        distances.append(np.where(pair.present, of_dates, np.float32(np.nan)))
    return np.fmax.reduce(distances)


def _context_share(crop: Crop, trained: TrainedEncoder) -> NDArray[np.float32]:
    """Share of valid pixels in the context of every frame and pixel, ``(time, pixel)``."""
    patch = trained.context.patch_px
    counts = count_valid(crop.valid, patch).reshape(len(crop.valid), -1)
    seen = [counts[window].sum(axis=0) for window in _windows(crop.days, trained)]
    return (np.stack(seen) / (trained.context.frames * patch**2)).astype(np.float32)


def _latents(
    crop: Crop, trained: TrainedEncoder, needed: NDArray[np.bool_], batch: int
) -> torch.Tensor:
    """Latents of the needed frames and pixels, ``(frame * pixel, dimension)``."""
    encoder = trained.autoencoder.encoder
    device = _device(trained)
    count, pixels = needed.shape
    seen = count_valid(crop.valid, trained.context.patch_px).reshape(needed.shape) > 0
    features = _frame_features(crop, trained)
    latents = torch.zeros(needed.size, trained.sensor.latent_dim, device=device)
    windows = _windows(crop.days, trained)
    # All dates of few pixels, then the next pixels: their features stay in the cache.
    for first in range(0, pixels, batch):
        block = features[first : first + batch]
        rows = block.flatten(0, 1)
        for centre in np.flatnonzero(needed[:, first : first + batch].any(axis=1)).tolist():
            frames = windows[centre]
            place = np.flatnonzero(needed[centre, first : first + batch])
            if len(place) == len(block):
                gathered = block[:, frames]
            else:
                index = torch.from_numpy(place[:, None] * count + frames).to(device)
                gathered = rows.index_select(0, index.flatten()).view(*index.shape, -1)
            days = torch.from_numpy(crop.days[frames] - crop.days[centre])[None].to(device)
            there = torch.from_numpy(seen[frames][:, first + place].T).to(device)
            latent = encoder.latent(gathered, days, there, int(np.searchsorted(frames, centre)))
            target = torch.from_numpy(centre * pixels + first + place).to(device)
            latents.index_copy_(0, target, latent)
    return latents


def _frame_features(crop: Crop, trained: TrainedEncoder) -> torch.Tensor:
    """Features of a tile's frames, ``(pixel, frame, feature)``."""
    encoder = trained.autoencoder.encoder
    device = _device(trained)
    pixels = crop.shape[0] * crop.shape[1]
    features = torch.zeros(pixels, len(crop.valid), encoder.features, device=device)
    chosen = np.flatnonzero(crop.valid.any(axis=(1, 2)))
    together = max(1, FRAME_PX[device.type] // pixels)
    for start in range(0, len(chosen), together):
        part = chosen[start : start + together]
        values, valid = (torch.from_numpy(a[part]).to(device) for a in (crop.values, crop.valid))
        maps = encoder.frame_features(values.clamp_(0, 1), valid)
        for frame, frame_map in zip(part, maps, strict=True):
            features[:, frame] = frame_map.flatten(1).T
    return features
