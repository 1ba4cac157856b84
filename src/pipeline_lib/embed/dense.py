"""Embeddings of every pixel and cloud-free date of a cube.

Frame features are computed once per frame, gathered per window, and the temporal head
runs over batches of windows. A tile is computed from its pixels and a halo of half a
patch, so that the result does not depend on how a cube is tiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline_lib.config import Embed
from pipeline_lib.dataset import closest_frame, window_frames, window_step
from pipeline_lib.embed.arrays import Embeddings, Frames, Tile, count_valid, tiles
from pipeline_lib.models import TrainedEncoder, TrainedFusion


@dataclass(frozen=True)
class _Paired:
    """What one sensor gives to the dates of the reference sensor, within a tile.

    Attributes
    ----------
    frame
        ``(date,)``, the sensor's frame that each date is paired with.
    days
        ``(date,)``, signed days from the date to that frame.
    usable
        ``(date, pixel)``, whether that frame is valid at the pixel.
    latents
        ``(frame, pixel, number)``, where some date wants them; zeros elsewhere.
    """

    frame: NDArray[np.int64]
    days: NDArray[np.float32]
    usable: NDArray[np.bool_]
    latents: torch.Tensor


def embed_arrays(
    *,
    frames: Mapping[str, Frames],
    encoders: Mapping[str, TrainedEncoder],
    fusion: TrainedFusion,
    embed: Embed,
) -> Embeddings:
    """Embed a cube that lies in memory.

    Parameters
    ----------
    frames
        Usable frames by sensor, on one grid; the reference sensor's are needed, any other
        sensor may be lacking.
    encoders
        The trained encoder of every sensor of the fusion.
    fusion
        The trained fusion.
    embed
        Size of tiles and batches; the result depends on neither.

    Returns
    -------
    embeddings
        One date per frame of the reference sensor.
    """
    reference = frames[fusion.block.reference]
    shape = (len(reference.times), *reference.shape)
    whole = Embeddings(
        np.empty((shape[0], fusion.block.features, *shape[1:]), np.float32),
        np.empty(shape, np.float32),
        {name: np.empty(shape, np.float32) for name in encoders if name != fusion.block.reference},
        np.empty(shape, np.float32),
    )
    for tile in tiles(*reference.shape, embed.tile_px):
        part = embed_tile(
            frames=frames, encoders=encoders, fusion=fusion, tile=tile, batch=embed.batch
        )
        area = (..., tile.rows, tile.columns)
        whole.embedding[area] = part.embedding
        whole.context_share[area] = part.context_share
        whole.reconstruction_error[area] = part.reconstruction_error
        for name, days in part.days.items():
            whole.days[name][area] = days
    return whole


@torch.inference_mode()
def embed_tile(
    *,
    frames: Mapping[str, Frames],
    encoders: Mapping[str, TrainedEncoder],
    fusion: TrainedFusion,
    tile: Tile,
    batch: int,
) -> Embeddings:
    """Embed one tile of a cube; parameters and result as for :func:`embed_arrays`.

    Other sensors are paired by the frame closest in time. Where that frame is not valid at
    the pixel, the sensor is absent from the fusion there: nothing is invented for it.
    """
    name = fusion.block.reference
    reference = frames[name]
    shape = (len(reference.times), tile.height, tile.width)
    centres = _flat(reference.valid, tile)
    paired = {
        sensor: _pair(frames[sensor], encoders[sensor], reference.days, centres, tile, batch)
        for sensor in encoders
        if sensor in frames and len(frames[sensor].times)
    }

    observed = torch.from_numpy(reference.crop(tile, 0)[0].reshape(shape[0], -1, tile.pixels))
    span = torch.from_numpy(encoders[name].normalisation.upper - encoders[name].normalisation.lower)
    embedding = torch.full((*centres.shape, fusion.block.features), torch.nan)
    error = torch.full(centres.shape, torch.nan)
    for date, pixel in _batches(centres, batch):
        fused = fusion.fusion.fuse(*_tokens(paired, encoders, date, pixel))
        decoded = encoders[name].autoencoder.decoder.centre(fusion.fusion.split(fused)[name])
        embedding[date, pixel] = fused
        error[date, pixel] = ((decoded - observed[date, :, pixel]).abs() * span).mean(dim=1)

    share = _context_share(reference, encoders[name], tile)
    return Embeddings(
        embedding=embedding.movedim(1, 2).reshape(shape[0], -1, *shape[1:]).numpy(),
        context_share=np.where(centres, share, np.float32(np.nan)).reshape(shape),
        days={
            sensor: _days(paired.get(sensor), centres.shape).reshape(shape)
            for sensor in encoders
            if sensor != name
        },
        reconstruction_error=error.reshape(shape).numpy(),
    )


def windows(count: int, trained: TrainedEncoder) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Frames of the window around every frame of a record, ``(frame, window)`` each.

    Returns
    -------
    indices, present
        Beyond the record's ends nothing is present.
    """
    length = trained.context.frames
    step = window_step(trained.sensor.sequence.frames, length)
    found = [window_frames(count, centre, length, step) for centre in range(count)]
    return np.stack([indices for indices, _ in found]), np.stack([there for _, there in found])


def _flat(valid: NDArray[np.bool_], tile: Tile) -> NDArray[np.bool_]:
    """Validity of a tile's own pixels, ``(time, pixel)``."""
    return valid[:, tile.rows, tile.columns].reshape(len(valid), -1)


def _batches(
    wanted: NDArray[np.bool_], batch: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices of the true elements of ``(time, pixel)``, in order, in portions."""
    times, pixels = np.nonzero(wanted)
    for start in range(0, len(times), batch):
        yield times[start : start + batch], pixels[start : start + batch]


def _pair(
    frames: Frames,
    trained: TrainedEncoder,
    dates: NDArray[np.int64],
    centres: NDArray[np.bool_],
    tile: Tile,
    batch: int,
) -> _Paired:
    """Pair dates (days since 1970) with a sensor's frames and compute the latents they want."""
    frame = np.array([closest_frame(frames.days, day) for day in dates])
    valid = _flat(frames.valid, tile)
    usable = centres & valid[frame]
    wanted = np.zeros_like(valid)
    np.logical_or.at(wanted, frame, usable)
    return _Paired(
        frame=frame,
        days=(frames.days[frame] - dates).astype(np.float32),
        usable=usable,
        latents=_latents(frames, trained, wanted, tile, batch),
    )


def _tokens(
    paired: Mapping[str, _Paired],
    encoders: Mapping[str, TrainedEncoder],
    date: NDArray[np.int64],
    pixel: NDArray[np.int64],
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Latents, days and presence of every sensor of the fusion."""
    latents, days, present = {}, {}, {}
    for sensor, trained in encoders.items():
        given = paired.get(sensor)
        if given is None:
            latents[sensor] = torch.zeros(len(date), trained.sensor.latent)
            days[sensor] = torch.zeros(len(date))
            present[sensor] = torch.zeros(len(date), dtype=torch.bool)
        else:
            latents[sensor] = given.latents[given.frame[date], pixel]
            days[sensor] = torch.from_numpy(given.days[date])
            present[sensor] = torch.from_numpy(given.usable[date, pixel])
    return latents, days, present


def _days(given: _Paired | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if given is None:
        return np.full(shape, np.nan, np.float32)
    return np.where(given.usable, given.days[:, None], np.float32(np.nan))


def _context_share(frames: Frames, trained: TrainedEncoder, tile: Tile) -> NDArray[np.float32]:
    """Share of valid pixels in the context of every frame and pixel, ``(time, pixel)``."""
    patch = trained.context.patch_px
    _, valid = frames.crop(tile, patch // 2)
    counts = count_valid(valid, patch).reshape(len(valid), -1)
    indices, present = windows(len(valid), trained)
    seen = [counts[row[there]].sum(axis=0) for row, there in zip(indices, present, strict=True)]
    return (np.stack(seen) / (trained.context.frames * patch**2)).astype(np.float32)


def _latents(
    frames: Frames, trained: TrainedEncoder, wanted: NDArray[np.bool_], tile: Tile, batch: int
) -> torch.Tensor:
    """Latents of the wanted centres, ``(frame, pixel, number)``; zeros elsewhere."""
    encoder = trained.autoencoder.encoder
    values, valid = frames.crop(tile, trained.context.patch_px // 2)
    seen = count_valid(valid, trained.context.patch_px).reshape(wanted.shape) > 0
    features = _frame_features(trained, values, valid, batch)
    latents = torch.zeros(*wanted.shape, trained.sensor.latent)
    indices, present = windows(len(valid), trained)
    for centre in np.flatnonzero(wanted.any(axis=1)):
        window, inside = indices[centre], present[centre]
        days = torch.from_numpy(frames.days[window] - frames.days[centre])[None]
        places = np.flatnonzero(wanted[centre])
        for start in range(0, len(places), batch):
            place = places[start : start + batch]
            rows = torch.from_numpy(window * tile.pixels + place[:, None])
            gathered = features.index_select(0, rows.flatten()).view(*rows.shape, -1)
            there = torch.from_numpy(seen[window][:, place].T & inside)
            latents[centre, place] = encoder.latent(gathered, days, there)
    return latents


def _frame_features(
    trained: TrainedEncoder,
    values: NDArray[np.float32],
    valid: NDArray[np.bool_],
    batch: int,
) -> torch.Tensor:
    """Features of a tile's frames, ``(frame * pixel, feature)``; zeros for empty frames."""
    encoder = trained.autoencoder.encoder
    halo = trained.context.patch_px - 1
    pixels = (valid.shape[1] - halo) * (valid.shape[2] - halo)
    features = torch.zeros(len(valid), pixels, encoder.features)
    chosen = np.flatnonzero(valid.any(axis=(1, 2)))
    together = max(1, batch // pixels)
    for start in range(0, len(chosen), together):
        part = chosen[start : start + together]
        maps = encoder.frame_features(torch.from_numpy(values[part]), torch.from_numpy(valid[part]))
        features[part] = maps.flatten(2).movedim(1, 2)
    return features.flatten(0, 1)
