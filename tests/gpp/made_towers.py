"""Towers whose GPP follows from their embeddings, with weather that no calendar knows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline_lib.config import Gpp, Regressor
from pipeline_lib.files import write_csv
from pipeline_lib.gpp.observed import day_numbers
from pipeline_lib.gpp.targets import describe_site, read_targets

SMALL = Regressor(
    width=16,
    blocks=2,
    heads=2,
    dropout=0.0,
    learning_rate=3e-3,
    batch_size=16,
    max_epochs=12,
    seeds=2,
)
TOWERS = {"XX-Dbf": "DBF", "XX-Enf": "ENF", "XX-Gra": "GRA"}


def gpp_of(**changes):
    settings = {
        "towers": [
            {"name": name, "lon": 10, "lat": 50, "vegetation": kind}
            for name, kind in TOWERS.items()
        ],
        "period": {"start": "2018-01-01", "end": "2020-12-31"},
        "fluxes": {"weather": ("TA_F",)},
        "windows": {"length_days": 30, "other_lengths_days": (60,)},
        "regressor": SMALL.model_dump(),
    }
    for block, keys in changes.items():
        settings[block] = settings[block] | keys
    return Gpp.model_validate(settings)


ALONE = {"windows": {"other_lengths_days": ()}, "fluxes": {"weather": ()}}
"""Changes that leave one length of a window, and no weather."""


def with_sources(table, *, every=5, context=20):
    """Say of a series that it was observed every so many days, by images some days around."""
    table = table.join((0.1 * table.abs()).add_suffix("_spread"))
    days = day_numbers(table.index)
    place = np.arange(len(days))
    last = len(days) - 1
    before, after = place // every * every, np.minimum(-(-place // every) * every, last)
    table["observed"] = place % every == 0
    table["from_day"], table["to_day"] = days[before], days[after]
    table["from_image"], table["to_image"] = days[before] - context, days[after] + context
    return table


def write_tower(folder, number, name, gpp, *, bad_share=0.1):
    rng = np.random.default_rng(number)
    days = pd.date_range(gpp.period.start, gpp.period.end, name="date")
    season = 0.5 - 0.5 * np.cos(2 * np.pi * (days.dayofyear - 20 + 15 * number) / 365.25)
    weather = np.convolve(rng.normal(size=len(days)), np.full(25, 0.1), mode="same")
    green = np.clip(season.to_numpy() + 0.5 * weather, 0, None)
    noise = rng.normal(0, 0.03, (3, len(days)))
    embedding = pd.DataFrame(
        {"e0": green + noise[0], "e1": season + noise[1], "e2": 0.5 - green + noise[2]}, index=days
    )
    # The bands know the season alone.
    bands = pd.DataFrame({"B04": 1 - season, "B08": season, "NIRv": season, "kNDVI": season})
    bands.index = days
    targets = pd.DataFrame(
        {"gpp": 10 * green + rng.normal(0, 0.3, len(days)), "quality": 0.9}, index=days
    )
    for column in gpp.fluxes.weather:
        targets[column] = weather
    targets.loc[rng.random(len(days)) < bad_share, "quality"] = 0.2
    targets["kept"] = (targets["quality"] >= 0.7) & (targets["gpp"] >= 0)
    paths = {}
    tables = {
        "targets": targets,
        "embedding": with_sources(embedding),
        "sentinel-2": with_sources(bands, context=0),
    }
    for kind, table in tables.items():
        paths[kind] = folder / f"{kind}-{name}.csv"
        table.to_csv(paths[kind])
    return paths


def write_towers(folder, gpp, **bad):
    """Files of `TOWERS`: targets by tower, and series by source and tower."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        name: write_tower(folder, number, name, gpp, bad_share=bad.get(name[-3:], 0.1))
        for number, name in enumerate(TOWERS)
    }
    by_kind = {
        kind: {name: found[kind] for name, found in paths.items()}
        for kind in ("targets", "embedding", "sentinel-2")
    }
    sites = folder / "sites.csv"
    write_sites(sites, by_kind["targets"], gpp)
    return {"sites": sites, "targets": by_kind.pop("targets"), "series": by_kind}


def write_sites(path, targets, gpp):
    places = [t.model_dump(include={"lon", "lat", "vegetation"}) for t in gpp.towers]
    abouts = [describe_site(read_targets(targets[t.name]), gpp.fluxes) for t in gpp.towers]
    names = [{"site": tower.name} for tower in gpp.towers]
    write_csv(path, [a | b | c for a, b, c in zip(names, places, abouts, strict=True)])
