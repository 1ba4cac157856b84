"""Tables of features and of daily GPP from the user."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_towers import QUICK, SENSORS, TOWERS, gpp_of, write_towers

from pipeline_lib.config import FeatureTable, FluxTable, parse
from pipeline_lib.config.check import check
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.gpp.baselines import predict_baselines, predict_climatology
from pipeline_lib.gpp.crossval import read_predictions
from pipeline_lib.gpp.days import columns_of, read_days
from pipeline_lib.gpp.figures import plot_days, plot_lengths, plot_methods, plot_points
from pipeline_lib.gpp.fits import predict_transformers
from pipeline_lib.gpp.methods import experiments
from pipeline_lib.gpp.scores import score_gpp
from pipeline_lib.gpp.series import read_series
from pipeline_lib.gpp.tables import read_gpp, write_features
from pipeline_lib.gpp.targets import read_targets, write_all_targets
from pipeline_lib.gpp.windows import cut_windows

ROOT = Path(__file__).parents[2]
SITE = "XX-Gra"


def save(path, **columns):
    table = pd.DataFrame(columns)
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


def series_of(folder, file, gpp=None, **keys):
    """The series of the grassland that a table gives."""
    gpp = gpp or gpp_of()
    write_features(
        name="mine",
        table=FeatureTable(file=file, **keys),
        towers=[tower for tower in gpp.towers if tower.name == SITE],
        period=gpp.period,
        series=gpp.series,
        folder=folder,
    )
    return read_series(folder / f"{SITE}.csv")


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_rows_become_days_as_those_of_cubes_do(tmp_path, kind):
    days = ["2018-01-11", "2018-01-21", "2018-01-21", "2018-01-26", "2018-01-31", "2018-05-01"]
    file = save(
        tmp_path / f"table.{kind}",
        place=["XX-Dbf", *[SITE] * 5],
        day=pd.to_datetime(days) if kind == "parquet" else days,
        B02=[9.0, 100, 300, 900, 200, 200],
        B04=[9.0, 1000, 3000, 1000, np.nan, 4000],
        B08=[9.0, 3000, 5000, 1000, 1000, 4000],
        note=["text"] * 6,
    )
    own = {"site": "place", "date": "day", "scale": 1e-4, "red": "B04", "nir": "B08"}
    series = series_of(tmp_path, file, **own, drop_above={"B02": 0.08})
    # The two of a day are averaged; haze, and the row without red, are no days.
    assert series.index[series["observed"]].strftime("%m-%d").tolist() == ["01-21", "05-01"]
    assert series.loc["2018-01-21", ["B02", "B04"]].tolist() == pytest.approx([0.02, 0.2])
    nirv = np.mean([0.3 * 2000 / 4000, 0.5 * 2000 / 8000])
    kndvi = np.mean(np.tanh(np.square([2000 / 4000, 2000 / 8000])))
    assert series.loc["2018-01-21", "NIRv"] == pytest.approx(nirv, rel=1e-4)
    assert series.loc["2018-01-21", "kNDVI"] == pytest.approx(kndvi, rel=1e-4)
    # A gap of 100 days is not filled; one of 10 is.
    assert series["B02"].notna().sum() == 2
    near = series_of(tmp_path, file, **own, columns=["B02", "B04", "B08"])
    assert near.loc["2018-01-22", "B02"] == pytest.approx(0.02 + 0.07 / 5)


def test_the_row_of_a_year_stands_on_its_days_and_knows_its_whole_year(tmp_path):
    file = save(
        tmp_path / "yearly.csv", site=[SITE] * 2, year=[2018, 2020], A00=[0.1, 0.3], A01=[1.0, 2.0]
    )
    series = series_of(tmp_path, file, date="year")
    assert series.loc["2018", "A00"].eq(0.1).all() and series.loc["2020", "A01"].eq(2).all()
    assert series.loc["2019", ["A00", "A01"]].isna().all(axis=None)
    images = pd.to_datetime(series.loc["2020-03-01", ["from_image", "to_image"]], unit="D")
    assert images.dt.strftime("%Y-%m-%d").tolist() == ["2020-01-01", "2020-12-31"]
    assert "year" not in series


@pytest.mark.parametrize(
    ("columns", "keys", "message"),
    [
        ({"site": ["XX-Dbf"], "date": ["2018-01-01"], "a": [1]}, {}, "no rows of XX-Gra; add them"),
        ({"site": [SITE], "date": ["2018-01-01"], "a": [1]}, {"columns": ["b"]}, "no column b"),
        ({"site": [SITE], "day": ["2018-01-01"], "a": [1]}, {}, "no column date; it has site, day"),
        ({"site": [SITE], "date": ["1 May 18"], "a": [1]}, {}, "date '1 May 18' is not a day"),
        ({"site": [SITE], "date": [201801], "a": [1]}, {}, "date '201801' is not a day"),
        (
            {"site": [SITE], "date": ["2018-01-01"], "a": ["x"]},
            {"columns": ["a"]},
            "a holds 'x', not a number",
        ),
        ({"site": [SITE], "date": ["2018-01-01"], "NIRv": [1]}, {}, "NIRv is a reserved name"),
        ({"site": [SITE], "date": ["2018-01-01"], "a": ["x"]}, {}, "has no numeric columns"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error_of_one_line(tmp_path, columns, keys, message):
    with pytest.raises(UserError, match=message) as raised:
        series_of(tmp_path, save(tmp_path / "table.csv", **columns), **keys)
    assert "table.csv" in str(raised.value) and "gpp.features.mine" in str(raised.value)
    assert not (tmp_path / f"{SITE}.csv").exists()


def test_daily_gpp_of_a_table(tmp_path):
    days = ["20180101", "20180102", "20180103", "20180104"]
    columns = {"SITE_ID": [SITE] * 4, "TIMESTAMP": days, "GPP": [1.5, -9999, np.nan, -0.5]}
    file = save(tmp_path / "gpp.csv", **columns)
    table = FluxTable(file=file, site="SITE_ID", date="TIMESTAMP", gpp="GPP")
    gpp = gpp_of(fluxes={"table": table})
    write_all_targets(gpp=gpp, folder=tmp_path)
    targets = read_targets(tmp_path / "targets" / f"{SITE}.csv")
    assert targets.loc["2018-01-01", "gpp"] == 1.5 and targets["gpp"].notna().sum() == 2
    assert targets.index[targets["kept"]].tolist() == [pd.Timestamp("2018-01-01")]
    sites = pd.read_csv(tmp_path / "sites.csv", index_col="site")
    assert sites["used"].to_dict() == {name: name == SITE for name in TOWERS}
    assert "gpp.csv: no rows of XX-Dbf" in sites.loc["XX-Dbf", "files"]
    assert read_gpp(table, "XX-Non", ()) is None
    twice = save(file, **columns | {"TIMESTAMP": days[:1] * 4})
    with pytest.raises(UserError, match=f"{twice}: has several rows of XX-Gra on 2018-01-01"):
        read_gpp(table, SITE, ())


def evaluate_tables(folder, gpp, tables):
    arguments = {"folder": folder, "sensors": [], "tables": tables, "windowing": gpp.windows}
    if gpp.windows.length_days > 1:
        state = folder / "state"
        predict_transformers(**arguments, regressor=gpp.regressor, seed=1, state=state)
    predict_baselines(**arguments, fits=gpp.regressor.seeds, seed=1)
    return score_gpp(**arguments, seed=1)


def test_a_table_is_scored_as_the_same_features_from_cubes_are(evaluated, tmp_path):
    gpp, alone = gpp_of(**QUICK, windows={"other_lengths_days": (60,)}), tmp_path / "alone"
    shutil.copytree(evaluated / "targets", alone / "targets")
    shutil.copytree(evaluated / "series" / "embedding", alone / "series" / "mine")
    shutil.copy(evaluated / "sites.csv", alone)
    text = evaluate_tables(alone, gpp, ["mine"])
    assert "mine-transformer" in text
    # The draws of boosting are named by the method; those of ridge are none.
    for ours, theirs in (("mine-ridge", "embedding-ridge"), ("climatology", "climatology")):
        one, other = (
            read_predictions(folder / "baselines" / f"{name}.csv")
            for folder, name in ((alone, ours), (evaluated, theirs))
        )
        pd.testing.assert_frame_equal(one, other)
    metrics = read_json(alone / "metrics.json")
    assert metrics["difference"]["method"] == "mine-transformer"
    assert metrics["difference"]["baseline"] == "climatology"
    assert {row["inputs"] for row in metrics["lengths"]} == {"mine"}
    for draw in (plot_days, plot_methods, plot_points, plot_lengths):
        draw(folder=alone, output=tmp_path / f"{draw.__name__}.png")


def test_a_table_beside_embeddings_changes_nothing_of_theirs(tmp_path):
    gpp = gpp_of()
    folder = write_towers(tmp_path, gpp)
    # Their names are those of the sensor's bands.
    for tower in TOWERS:
        (folder / "series" / "mine").mkdir(exist_ok=True)
        table = pd.read_csv(folder / "series" / "sentinel-2" / f"{tower}.csv")
        table.to_csv(folder / "series" / "mine" / f"{tower}.csv", index=False)
    alone, beside = (
        read_days(folder, sensors=SENSORS, tables=tables, validation_years=[2020])
        for tables in ((), ["mine"])
    )
    for inputs in ("embedding", "bands", "yearly+season", "NIRv"):
        assert columns_of(alone, inputs) == columns_of(beside, inputs) != []
    assert columns_of(beside, "mine+season")[:2] == ["table mine:B04", "table mine:B08"]
    every = experiments(gpp.windows, weather=False, indices=True, tables=["mine"])
    methods = [one.method for one in every]
    fewer = [one.method for one in experiments(gpp.windows, weather=False, indices=True)]
    assert [name for name in methods if "mine" not in name] == fewer


def test_single_days_have_regressors_and_no_sequence(tmp_path):
    """Sparse rows: every row is a window, and only days with GPP and features count."""
    rng = np.random.default_rng(0)
    gpp = gpp_of(
        windows={"length_days": 1, "stride_days": 1, "validation_years": (2020,)},
        series={"max_gap_days": 1},
        regressor={"seeds": 1},
    )
    parts = []
    for name in TOWERS:
        days = pd.date_range("2018-01-01", "2020-12-31").to_series().sample(40, random_state=1)
        green = rng.random(40)
        parts.append(
            pd.DataFrame({"site": name, "date": days, "green": green, "GPP": 8 * green, "T": 1.0})
        )
    file = tmp_path / "table.csv"
    pd.concat(parts).to_csv(file, index=False)
    fluxes = {"table": {"file": file, "gpp": "GPP"}}
    gpp = gpp.model_copy(update={"fluxes": gpp_of(fluxes=fluxes).fluxes})
    write_all_targets(gpp=gpp, folder=tmp_path)
    for name, column in (("mine", "green"), ("weather", "T")):
        write_features(
            name=name,
            table=FeatureTable(file=file, columns=[column]),
            towers=gpp.towers,
            period=gpp.period,
            series=gpp.series,
            folder=tmp_path / "series" / name,
        )
    evaluate_tables(tmp_path, gpp, ["mine", "weather"])
    metrics = read_json(tmp_path / "metrics.json")
    inputs = ("mine", "mine+season", "season", "mine+weather", "weather")
    expected = [f"{one}-{model}" for one in inputs for model in ("ridge", "boosting")]
    assert sorted(metrics["methods"]) == sorted([*expected, "climatology"])
    scores = pd.DataFrame(metrics["scores"]).query("by == 'all' and part == 'validation'")
    left_out = scores.query("scheme == 'leave_one_site_out'").set_index("method")
    assert left_out["n"].eq(120).all() and left_out["sites"].eq(3).all()
    assert left_out["r2"]["mine-ridge"] > 0.99 > 0.5 > left_out["r2"]["weather-ridge"]


def test_tables_alone_need_no_sensors_and_beside_cubes_they_need_names_of_their_own(tmp_path):
    file = save(tmp_path / "table.csv", site=[SITE], date=["2018-01-01"], a=[1])
    alone = {
        "sites": None,
        "gpp": {
            "features": {"sentinel-2": {"file": "table.csv"}},
            "fluxes": {"table": {"file": "table.csv"}},
            "towers": [{"name": SITE, "vegetation": "GRA"}],
            "windows": {"length_days": 1},
        },
    }
    assert parse(alone, file.parent).tables_alone
    with pytest.raises(UserError) as raised:
        parse(alone | {"sites": {"count": 10}}, file.parent)
    for part in ("that of a sensor", "at least 3 where embeddings", "XX-Gra has no lon and lat"):
        assert part in str(raised.value)
    alone["gpp"]["features"] = {"mine": {"file": "{site}.csv", "red": "B04"}}
    with pytest.raises(UserError, match="red and nir: give both or neither"):
        parse(alone, file.parent)
    alone["gpp"] |= {"features": {"mine": {"file": "none.csv"}}, "fluxes": {}}
    with pytest.raises(UserError, match=r"file not found: none.csv"):
        parse(alone, file.parent)


REAL = {"DE-HoH": (159, 149, 1181), "FI-Hyy": (132, 116, 1176), "FR-LGt": (86, 80, 1090)}
"""Rows and days without haze of the real tables, and days with GPP."""


@pytest.mark.real
def test_real_towers_against_a_screen_of_pandas(shared_data, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    gpp = check([ROOT / "tests" / "real" / "gpp.yaml"]).gpp
    table = gpp.features["sentinel-2"]
    told = write_features(
        name="sentinel-2",
        table=table,
        towers=gpp.towers,
        period=gpp.period,
        series=gpp.series,
        folder=tmp_path / "series" / "sentinel-2",
    )
    write_all_targets(gpp=gpp, folder=tmp_path)
    days = read_days(tmp_path, sensors=[], tables=["sentinel-2"], validation_years=[2020])
    windows = cut_windows(days, gpp.windows, gpp.windows.length_days)
    ours = predict_climatology(days, windows, validation_years=[2020])

    # By hand: days of the tables, of GPP, and the climatology of the other two towers.
    gpp_of_table = pd.read_csv(gpp.fluxes.table.file, parse_dates=["TIMESTAMP"], na_values=-9999)
    kept = {}
    for tower, (rows, clear, good) in REAL.items():
        spectra = pd.read_csv(table.file_of(tower), parse_dates=["date"])
        days_clear = spectra.loc[spectra["B02"] <= 800, "date"].nunique()
        assert (len(spectra), days_clear) == (rows, clear)
        assert f"{tower}: {rows} rows, {clear} days observed" in told
        own = gpp_of_table[gpp_of_table["SITE_ID"] == tower].set_index("TIMESTAMP")
        if own.empty:
            name = next(Path(gpp.fluxnet).glob(f"FLX_{tower}_*DD*"))
            own = pd.read_csv(name, parse_dates=["TIMESTAMP"], na_values=-9999)
            own = own[own["NEE_VUT_REF_QC"] >= 0.7].set_index("TIMESTAMP")
        own = own.loc["2017":"2020", "GPP_NT_VUT_REF"].dropna()
        kept[tower] = own[own >= 0]
        targets = read_targets(tmp_path / "targets" / f"{tower}.csv")
        assert len(kept[tower]) == targets["kept"].sum() == good
    others = pd.concat([kept["FI-Hyy"], kept["FR-LGt"]])
    apart = np.abs(np.arange(1, 367)[:, None] - others.index.dayofyear.to_numpy())
    weight = np.exp(-0.5 * (np.minimum(apart, 365.25 - apart) / 10) ** 2)
    usual = pd.Series(weight @ others / weight.sum(axis=1), index=range(1, 367))
    own = ours[ours["site"] == "DE-HoH"].set_index("date")["leave_one_site_out_0"]
    scored = kept["DE-HoH"].reindex(own.index).dropna()
    errors = own[scored.index] - scored, usual[scored.index.dayofyear].to_numpy() - scored
    rmse = [float(np.sqrt((error**2).mean())) for error in errors]
    assert rmse[0] == pytest.approx(rmse[1], rel=1e-4)


@pytest.mark.real
def test_tables_alone_need_no_cube_and_no_model(shared_data):
    """A dry run of the 36 towers, and their days."""
    options = ["--configfile", "tests/real/gpp-hls.yaml", "--config", "run=dry"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-q", "rules", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE))
    fits = {"gpp_baselines": "1", "gpp_scores": "1", "gpp_targets": "1", "gpp_features": "2"}
    assert counts == fits | {"figure": "2", "all": "1", "total": "8"}
    table = FluxTable(
        file=shared_data / "towers" / "data_train_hls_37sites_v0_1.csv", site="SITE_ID", gpp="GPP"
    )
    rows = pd.read_csv(table.file)
    days = pd.concat([read_gpp(table, site, ()) for site in rows["SITE_ID"].unique()])
    assert (len(days), (days["gpp"] >= 0).sum()) == (975, 940)
    assert days["gpp"].sum() == pytest.approx(rows["GPP"].sum())
