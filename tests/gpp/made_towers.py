"""Towers whose GPP follows from their embeddings, with weather that no calendar knows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline_lib.config import Gpp, Regressor
from pipeline_lib.gpp.baselines import predict_baselines
from pipeline_lib.gpp.fits import predict_transformers
from pipeline_lib.gpp.scores import score_gpp
from pipeline_lib.gpp.series import day_numbers
from pipeline_lib.gpp.targets import write_sites

SIZE = {"width": 16, "blocks": 2, "heads": 2, "dropout": 0.0}
SMALL = Regressor(**SIZE, learning_rate=3e-3, batch_size=16, max_epochs=12, seeds=2)
QUICK = {"regressor": {"max_epochs": 1, "seeds": 1}}
"""Changes of the config for fits that need not be good."""
WEATHER = {"fluxes": {"weather": ("TA_F",)}}
TOWERS = {"XX-Dbf": "DBF", "XX-Enf": "ENF", "XX-Gra": "GRA"}
SENSORS = ["sentinel-2"]


def gpp_of(**changes):
    place = {"lon": 10, "lat": 50}
    settings = {
        "towers": [{"name": n, "vegetation": kind, **place} for n, kind in TOWERS.items()],
        "period": {"start": "2018-01-01", "end": "2020-12-31"},
        "windows": {"length_days": 30, "other_lengths_days": ()},
        "regressor": SMALL.model_dump(),
    }
    for block, keys in changes.items():
        settings[block] = settings.get(block, {}) | keys
    return Gpp.model_validate(settings)


def arguments(folder, gpp, seed=1):
    return {"folder": folder, "sensors": SENSORS, "windowing": gpp.windows, "seed": seed}


def regress(folder, gpp, state=None, processes=1):
    """Run the transformer's job."""
    state = state or folder / "state"
    predict_transformers(
        **arguments(folder, gpp), regressor=gpp.regressor, state=state, processes=processes
    )


def evaluate(folder, gpp, processes=1):
    """Run all jobs that follow the series."""
    regress(folder, gpp, processes=processes)
    predict_baselines(**arguments(folder, gpp), fits=gpp.regressor.seeds)
    score_gpp(**arguments(folder, gpp))


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


def write_towers(folder, gpp, **bad):
    """Targets, series and the table of `TOWERS`, with fractions of bad days by vegetation."""
    for number, tower in enumerate(gpp.towers):
        share = bad.get(tower.vegetation.capitalize(), 0.1)
        write_tower(folder, number, tower.name, gpp, bad_share=share)
    write_sites(gpp=gpp, folder=folder)
    return folder


def write_tower(folder, number, name, gpp, *, bad_share):
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
    for kind, table in {
        "targets": targets,
        "series/embedding": with_sources(embedding),
        "series/sentinel-2": with_sources(bands, context=0),
    }.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / kind / f"{name}.csv")


def edit(path, change):
    """Change the table of a CSV file in place."""
    change(pd.read_csv(path, parse_dates=["date"])).to_csv(path, index=False)
