"""Dense inference: equal to the path of single patches, whatever the tiles."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from products import Record

from pipeline_lib.config import Embed
from pipeline_lib.dataset.domain import Domain
from pipeline_lib.embed.arrays import Layers, Tile
from pipeline_lib.embed.dense import embed_arrays
from pipeline_lib.embed.streaming import open_frames
from pipeline_lib.models import TrainedEncoder, load_encoder, load_fusion


@pytest.fixture(scope="module")
def parts(field: SimpleNamespace) -> SimpleNamespace:
    encoders = {name: load_encoder(field.models[name]) for name in field.cubes}
    frames = {name: _in_memory(path, encoders[name]) for name, path in field.cubes.items()}
    return SimpleNamespace(
        frames=frames, encoders=encoders, fusion=load_fusion(field.models["fusion"])
    )


def _in_memory(path: Path, encoder: TrainedEncoder) -> Record:
    _, frames = open_frames(path, encoder.normalisation)
    whole = frames.crop(Tile(0, 0, *frames.shape), 0)
    return Record(whole.values, whole.valid, frames.times)


def _run(parts: SimpleNamespace, records: dict[str, Record], **embed: int) -> Layers:
    block = Embed(dtype="float32", **{"tile_px": 64, "batch_size": 1000, **embed})
    frames = {name: record.frames() for name, record in records.items()}
    return embed_arrays(frames=frames, encoders=parts.encoders, fusion=parts.fusion, embed=block)


def _window(
    days: np.ndarray, centre: int, length: int, span: float, apart: int
) -> list[int | None]:
    """Frames of a window by counting out; None where there is none near enough."""
    half = length // 2
    sides: list[list[int | None]] = []
    for step in (-apart, apart):
        near: list[int] = []
        place = centre + step
        while 0 <= place < len(days) and abs(days[place] - days[centre]) <= span / 2:
            near.append(place)
            place += step
        taken = min(half, len(near))
        picked = [near[(n + 1) * len(near) // taken - 1] for n in range(taken)]
        sides.append([*picked, *[None] * (half - taken)])
    return [*sides[0][::-1], centre, *sides[1]]


def _patchwise_latent(
    frames: Record, encoder: TrainedEncoder, centre: int, row: int, column: int
) -> torch.Tensor:
    """The models' own path for one window, cut out by hand."""
    length, half = encoder.context.frames, encoder.context.patch_px // 2
    around = (slice(row, row + 2 * half + 1), slice(column, column + 2 * half + 1))
    valid = np.pad(frames.valid, ((0, 0), (half, half), (half, half)))[:, *around]
    values = np.pad(frames.values, ((0, 0), (0, 0), (half, half), (half, half)))[..., *around]
    values = np.where(valid[:, None], values.clip(0, 1), 0)
    sensor = encoder.sensor
    span, apart = sensor.sequence.max_span_days, sensor.rolling_mean
    chosen = _window(frames.days, centre, length, span, apart)
    there = np.array([frame is not None for frame in chosen])
    wanted = np.array([centre if frame is None else frame for frame in chosen])
    window = []
    for record in (values, valid, (frames.days - frames.days[centre]).astype(np.float32)):
        window.append(np.zeros((length, *record.shape[1:]), record.dtype))
        window[-1][there] = record[wanted[there]]
    with torch.inference_mode():
        return encoder.autoencoder.encoder(*(torch.from_numpy(slots)[None] for slots in window))


def test_every_embedding_equals_the_patchwise_path(parts: SimpleNamespace) -> None:
    found = _run(parts, parts.frames)
    optical, radar = parts.frames["optical"], parts.frames["radar"]
    rng = np.random.default_rng(2)
    dates, rows, columns = np.nonzero(optical.valid)
    chosen = rng.choice(len(dates), 40, replace=False)
    wanted = {(int(dates[i]), int(rows[i]), int(columns[i])) for i in (0, *chosen, -1)}
    absent = 0
    for date, row, column in wanted:
        gap = np.abs(radar.days - optical.days[date]) + 10_000 * ~radar.valid[:, row, column]
        partner = int(gap.argmin())
        there = bool(radar.valid[partner, row, column])
        absent += not there
        offset = float(radar.days[partner] - optical.days[date])
        latents = {
            "optical": _patchwise_latent(optical, parts.encoders["optical"], date, row, column),
            "radar": _patchwise_latent(radar, parts.encoders["radar"], partner, row, column),
        }
        with torch.inference_mode():
            fused = parts.fusion.fusion.fuse(
                latents,
                {"optical": torch.zeros(1), "radar": torch.tensor([offset])},
                {"optical": torch.tensor([True]), "radar": torch.tensor([there])},
            )
            back = parts.fusion.fusion.split(fused)["optical"]
            whole = parts.encoders["optical"].autoencoder.decoder(back, torch.zeros(1, 5))
        embedding = found["embedding"][date, :, row, column]
        np.testing.assert_allclose(embedding, fused[0].numpy(), atol=1e-5)
        scaling = parts.encoders["optical"].normalisation
        spectra = whole[0, 2, :, 3, 3].numpy(), optical.values[date, :, row, column]
        made, true = (scaling.lower + s * (scaling.upper - scaling.lower) for s in spectra)
        expected = np.abs(made * np.abs(made) - true * np.abs(true)).mean()
        assert found["reconstruction_error"][date, row, column] == pytest.approx(expected, abs=1e-5)
        days = found["days_to_radar"][date, row, column]
        assert days == offset if there else np.isnan(days)
    assert 0 < absent < len(wanted)


@pytest.mark.parametrize(("tile_px", "batch"), [(5, 7), (10, 100), (13, 100_000)])
def test_tiles_and_batches_leave_no_trace(parts: SimpleNamespace, tile_px: int, batch: int) -> None:
    whole = _run(parts, parts.frames)
    tiled = _run(parts, parts.frames, tile_px=tile_px, batch_size=batch)
    for layer, values in whole.items():
        computed = layer in ("embedding", "reconstruction_error", "domain_distance")
        np.testing.assert_allclose(tiled[layer], values, rtol=0, atol=1e-5 if computed else 0)


def test_the_domain_distance_is_that_of_the_farthest_sensor(parts: SimpleNamespace) -> None:
    encoders = {}
    for name, encoder in parts.encoders.items():
        pixels = np.moveaxis(parts.frames[name].values, 1, -1)[parts.frames[name].valid]
        physical = encoder.normalisation.physical(pixels)
        fitted = Domain.fit(10 * np.log10(physical) if name == "radar" else physical)
        scaling = replace(encoder.normalisation, domain=fitted)
        encoders[name] = replace(encoder, normalisation=scaling)
    optical, radar = (parts.frames[name] for name in ("optical", "radar"))
    haze = optical.values.copy()
    date, row, column = np.argwhere(optical.valid)[50]
    haze[date, :, row, column] += 3
    records = {"optical": Record(haze, optical.valid, optical.times), "radar": radar}
    known = SimpleNamespace(frames=records, encoders=encoders, fusion=parts.fusion)
    found = _run(known, records)["domain_distance"]
    np.testing.assert_array_equal(np.isfinite(found), optical.valid)
    alone = _run(known, {"optical": records["optical"]})["domain_distance"]
    assert found[date, row, column] > 2 and (found[optical.valid] > 1).mean() < 0.005
    paired = np.isfinite(_run(parts, parts.frames)["days_to_radar"])
    assert (found >= alone)[optical.valid].all() and (found > alone)[paired].any()
    np.testing.assert_array_equal(found[optical.valid & ~paired], alone[optical.valid & ~paired])


def test_encoders_without_a_domain_say_nothing_of_it(parts: SimpleNamespace) -> None:
    encoders = {
        name: replace(encoder, normalisation=replace(encoder.normalisation, domain=None))
        for name, encoder in parts.encoders.items()
    }
    earlier = SimpleNamespace(encoders=encoders, fusion=parts.fusion)
    assert np.isnan(_run(earlier, parts.frames)["domain_distance"]).all()


def test_exactly_the_clear_pixels_of_every_date_are_embedded(parts: SimpleNamespace) -> None:
    found = _run(parts, parts.frames)
    valid = parts.frames["optical"].valid
    np.testing.assert_array_equal(np.isfinite(found["embedding"]).all(axis=1), valid)
    np.testing.assert_array_equal(np.isfinite(found["embedding"]).any(axis=1), valid)
    np.testing.assert_array_equal(np.isfinite(found["reconstruction_error"]), valid)
    assert valid[0].any() and valid[-1].any()


def test_what_clouds_hide_has_no_influence(parts: SimpleNamespace) -> None:
    frames = dict(parts.frames)
    optical = frames["optical"]
    spoilt = optical.values.copy()
    hidden = np.broadcast_to(~optical.valid[:, None], spoilt.shape)
    spoilt[hidden] = np.random.default_rng(0).random(int(hidden.sum()))
    before = _run(parts, frames)
    frames["optical"] = Record(spoilt, optical.valid, optical.times)
    np.testing.assert_array_equal(before["embedding"], _run(parts, frames)["embedding"])


def test_a_missing_sensor_is_absent_and_not_invented(parts: SimpleNamespace) -> None:
    both = _run(parts, parts.frames)
    alone = _run(parts, {"optical": parts.frames["optical"]})
    assert np.isnan(alone["days_to_radar"]).all()
    paired = np.isfinite(both["days_to_radar"])
    single = np.isfinite(both["reconstruction_error"]) & ~paired
    moved = np.abs(both["embedding"] - alone["embedding"]).max(axis=1)
    assert (moved[paired] > 1e-4).mean() > 0.9
    np.testing.assert_allclose(moved[single], 0, atol=1e-5)


@pytest.mark.parametrize(("row", "column"), [(12, 15), (20, 25)])
def test_the_context_share_counts_what_lies_beyond_the_edges_as_missing(
    parts: SimpleNamespace, row: int, column: int
) -> None:
    found = _run(parts, parts.frames)
    valid = parts.frames["optical"].valid
    date = int(np.flatnonzero(valid[:, row, column])[1])
    patch = valid[:, row - 3 : row + 4, column - 3 : column + 4].sum(axis=(1, 2))
    window = _window(parts.frames["optical"].days, date, 5, 60, 1)
    seen = sum(patch[frame] for frame in window if frame is not None)
    assert found["context_share"][date, row, column] == pytest.approx(seen / (5 * 49))
