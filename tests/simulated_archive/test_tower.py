import csv
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.config import Period, Tower
from simulated_archive.tower import carbon_fluxes, write_tower_file
from simulated_archive.weather import simulate_weather

PERIOD = Period(start=date(2018, 1, 1), end=date(2020, 12, 31))
TOWER = Tower(name="IT-Lav", lon=11.28, lat=45.96, vegetation="ENF")


@pytest.fixture(scope="module")
def weather():
    rng = np.random.default_rng(0)
    return simulate_weather(rng, first=date(2018, 1, 1), last=date(2020, 12, 31), lat=46.0)


@pytest.fixture(scope="module")
def written(weather, tmp_path_factory):
    days = np.arange(len(weather))
    area = 3 + 2 * np.sin(2 * np.pi * (days - 110) / 365.25)
    fluxes = carbon_fluxes(
        vegetation="ENF", leaf_area=area, chlorophyll=np.full(len(days), 45.0), weather=weather
    )
    path = write_tower_file(
        tower=TOWER,
        period=PERIOD,
        fluxes=fluxes,
        weather=weather,
        rng=np.random.default_rng(5),
        folder=tmp_path_factory.mktemp("fluxnet"),
    )
    return area, fluxes, path


def test_the_file_is_named_and_laid_out_as_the_network_does(written):
    _, _, path = written
    assert path.name == "FLX_IT-Lav_FLUXNET2015_FULLSET_DD_2018-2020_1-4.csv"
    table = pd.read_csv(path)
    assert table["TIMESTAMP"].iloc[[0, -1]].tolist() == [20180101, 20201231]
    assert len(table) == 1096
    quality = table["NEE_VUT_REF_QC"][table["NEE_VUT_REF_QC"] != -9999]
    assert quality.between(0, 1).all()
    assert 0.6 < (quality >= 0.7).mean() < 0.97
    assert (table["GPP_NT_VUT_REF"] == -9999).any()


@pytest.mark.real
def test_columns_are_known_to_the_real_layout(written, shared_data: Path):
    (real,) = (shared_data / "fluxnet").glob("FLX_US-Wi7_*FULLSET_DD*.csv")
    with real.open() as handle:
        known = set(next(csv.reader(handle)))
    columns = set(pd.read_csv(written[2], nrows=1).columns)
    assert columns - known <= {"SWC_F_MDS_1", "SWC_F_MDS_1_QC"}


def test_photosynthesis_follows_leaves_and_light(written, weather):
    area, (gpp, _), path = written
    absorbed = (1 - np.exp(-0.5 * area)) * weather.radiation
    assert np.corrcoef(absorbed, gpp)[0, 1] > 0.85
    table = pd.read_csv(path).replace(-9999, np.nan)
    good = table["NEE_VUT_REF_QC"] >= 0.7
    kept = table["GPP_NT_VUT_REF"][good]
    assert np.corrcoef(kept, gpp[good])[0, 1] > 0.95
    assert 5 < kept.max() < 30
    residual = table["RECO_NT_VUT_REF"] - table["GPP_NT_VUT_REF"] - table["NEE_VUT_REF"]
    assert residual.abs().max() < 1e-3
