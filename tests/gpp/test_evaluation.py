import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_towers import (
    QUICK,
    SENSORS,
    WEATHER,
    arguments,
    edit,
    evaluate,
    gpp_of,
    regress,
    write_towers,
)

from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.gpp.baselines import predict_baselines
from pipeline_lib.gpp.crossval import read_predictions
from pipeline_lib.gpp.days import columns_of, read_days
from pipeline_lib.gpp.figures import (
    plot_days,
    plot_lengths,
    plot_methods,
    plot_points,
    plot_series,
)
from pipeline_lib.gpp.methods import SCHEMES, experiments
from pipeline_lib.gpp.targets import write_sites

FIGURES = (plot_days, plot_series, plot_methods, plot_points, plot_lengths)


@pytest.fixture(scope="module")
def metrics(evaluated):
    return read_json(evaluated / "metrics.json")


def scores_of(metrics, scheme="temporal_holdout", by="all"):
    """Scores of the held-out days, by method, or by method and group."""
    scores = pd.DataFrame(metrics["scores"])
    scores = scores[(scores["scheme"] == scheme) & (scores["part"] == "validation")]
    scores = scores[scores["by"] == by]
    return scores.set_index("method" if by == "all" else ["method", "group"])


def test_it_learns_what_a_calendar_does_not_know(metrics):
    scores = scores_of(metrics)
    assert scores["r2"]["embedding-transformer"] > 0.8
    worse = ["climatology", "bands-transformer", "NIRv-ridge", "yearly+season-boosting"]
    assert (scores["rmse"]["embedding-transformer"] < scores["rmse"][worse]).all()
    assert scores_of(metrics, "leave_one_site_out")["r2"]["embedding-transformer"] > 0.5
    assert (scores["r2"][["embedding-ridge", "embedding-boosting"]] > 0.8).all()
    assert (scores["r2"][["bands-ridge", "bands-boosting"]] < 0.8).all()
    for by, groups in (("vegetation", {"DBF", "GRA"}), ("fit", {"0", "1"})):
        assert set(scores_of(metrics, by=by).loc["embedding-transformer"].index) == groups
    assert metrics["paper"]["validation"] == {"nrmse": 0.0958, "rmse": 4.40}
    features = {name: about["features"] for name, about in metrics["methods"].items()}
    assert features["NIRv-ridge"] == 1 and features["bands-ridge"] == 2


def test_all_methods_and_all_lengths_are_scored_on_the_same_days(metrics):
    for scheme in SCHEMES:
        difference = metrics["difference"][scheme]
        assert difference["low"] <= difference["rmse"] <= difference["high"] < 0
        assert scores_of(metrics, scheme)[["n", "first", "last"]].nunique().tolist() == [1, 1, 1]
    lengths = pd.DataFrame(metrics["lengths"])
    lengths = lengths[lengths["by"] == "all"]
    assert list(zip(lengths["inputs"], lengths["window_days"], strict=True)) == [
        (inputs, days) for inputs in ("embedding", "bands") for days in (30, 60)
    ]
    (count,) = lengths["n"].unique()
    assert count < scores_of(metrics)["n"].iloc[0]


def test_every_day_of_a_used_site_is_predicted_and_those_kept_are_scored(evaluated, metrics):
    sites = {site["site"]: site["reason"] for site in metrics["sites"]}
    assert "good days" in sites.pop("XX-Enf") and set(sites.values()) == {None}
    days = pd.read_csv(evaluated / "predictions.csv", parse_dates=["date"])
    assert set(days["site"]) == set(sites) == {"XX-Dbf", "XX-Gra"}
    assert set(days["part"]) == {"training", "validation", "spanning"}
    years = days.groupby("part")["date"].agg(lambda d: set(d.dt.year))
    assert years["validation"] == {2020} and years["training"] == {2018, 2019}
    scored = days[(days["part"] == "validation") & days["observed"].notna()]
    assert scored["date"].min() >= pd.Timestamp("2020-01-30")
    error = scored["temporal_holdout"] - scored["observed"]
    rmse = scores_of(metrics)["rmse"]["embedding-transformer"]
    assert np.sqrt((error**2).mean()) == pytest.approx(rmse, rel=1e-4)
    own = days[days["site"] == "XX-Dbf"]
    assert (own["date"].diff().dropna() == pd.Timedelta(days=1)).all()
    assert len(own) == 1096 - 29
    fits = read_predictions(evaluated / "transformer" / "embedding-30.csv")
    for scheme in SCHEMES:
        expected = fits.filter(regex=rf"^{scheme}_\d+$").std(axis=1)
        np.testing.assert_allclose(days[f"{scheme}_std"], expected, atol=1e-5)
        # Two fits may agree on a day to all digits that are written.
        assert (days[f"{scheme}_std"] > 0).mean() > 0.99
    assert days.drop(columns="observed").notna().all(axis=None)


AGAIN = """
import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])
from made_towers import *
gpp = gpp_of(windows={"other_lengths_days": (60,)}, **WEATHER)
evaluate(write_towers(Path(sys.argv[1]), gpp, Enf=0.6), gpp, processes=2)
"""


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads_and_processes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    gpp = gpp_of(windows={"other_lengths_days": (60,)}, **WEATHER)
    state = torch.get_rng_state()
    evaluate(write_towers(one, gpp, Enf=0.6), gpp)
    assert torch.equal(torch.get_rng_state(), state)
    other = {**os.environ, "OMP_NUM_THREADS": "2"}
    folder = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", AGAIN, str(two), folder], check=True, env=other)
    files = [path.relative_to(one) for path in one.rglob("*.*")]
    assert len(files) > 30
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes()
    methods = read_json(one / "metrics.json")["methods"]
    assert methods["embedding+weather-transformer"]["features"] == 4


@pytest.mark.slow
def test_targets_shuffled_in_time_cannot_be_predicted(tmp_path):
    gpp = gpp_of()
    write_towers(tmp_path, gpp)
    rng = np.random.default_rng(5)
    for path in (tmp_path / "targets").iterdir():

        def shuffled(table):
            table["gpp"] = rng.permutation(table["gpp"])
            return table.assign(kept=(table["quality"] >= 0.7) & (table["gpp"] >= 0))

        edit(path, shuffled)
    evaluate(tmp_path, gpp)
    metrics = read_json(tmp_path / "metrics.json")
    for scheme in SCHEMES:
        assert (scores_of(metrics, scheme)["r2"] < 0.1).all()
    assert metrics["lengths"] == []


def test_one_site_leaves_empty_what_needs_others(tmp_path):
    gpp = gpp_of(**QUICK)
    evaluate(write_towers(tmp_path, gpp, Dbf=0.9, Enf=0.9), gpp)
    metrics = read_json(tmp_path / "metrics.json")
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    empty = ["temporal_holdout_std", "leave_one_site_out", "leave_one_site_out_std"]
    assert predictions[empty].isna().all(axis=None)
    assert (scores_of(metrics, "leave_one_site_out")["n"] == 0).all()
    assert set(metrics["difference"]) == {"method", "baseline", "temporal_holdout"}
    for draw in (plot_methods, plot_points):
        draw(folder=tmp_path, output=tmp_path / "figures" / f"{draw.__name__}.png")


def test_too_little_data_is_an_error_that_names_the_keys(tmp_path):
    write_towers(tmp_path, gpp_of())
    with pytest.raises(UserError, match="no window of 400 days lies wholly in the validation"):
        regress(tmp_path, gpp_of(windows={"length_days": 400}))
    write_towers(tmp_path, gpp_of(), Dbf=0.9, Enf=0.9, Gra=0.0)
    few = {"length_days": 345, "validation_years": (2019, 2020)}
    with pytest.raises(UserError, match=r"only \d windows of the training years to learn from"):
        regress(tmp_path, gpp_of(windows=few))
    write_towers(tmp_path, gpp_of(), Dbf=0.9, Enf=0.9, Gra=0.9)
    with pytest.raises(UserError, match="no tower has enough good days"):
        regress(tmp_path, gpp_of())
    assert not (tmp_path / "transformer").exists()
    write_towers(tmp_path, gpp_of())
    for path in (tmp_path / "series" / "sentinel-2").iterdir():
        edit(path, lambda table: table.assign(B04=np.nan))
    with pytest.raises(UserError, match="no tower has any day of sentinel-2"):
        predict_baselines(**arguments(tmp_path, gpp_of()), fits=1)


def evaluate_grass_of(folder, first, last, **bad):
    """Metrics where the grassland was measured between two dates alone."""
    gpp = gpp_of(**QUICK)
    write_towers(folder, gpp, **bad)

    def shortened(table):
        table["gpp"] = table["gpp"].where(table["date"].between(first, last))
        return table.assign(kept=table["kept"] & table["gpp"].notna())

    edit(folder / "targets" / "XX-Gra.csv", shortened)
    write_sites(gpp=gpp, folder=folder)
    evaluate(folder, gpp)
    return read_json(folder / "metrics.json")


def test_a_vegetation_type_that_is_new_in_the_validation_year_is_scored_by_all(tmp_path):
    metrics = evaluate_grass_of(tmp_path, "2020-01-01", "2020-12-31")
    assert scores_of(metrics)["n"].nunique() == 1
    grass = scores_of(metrics, by="vegetation").xs("GRA", level="group")
    assert set(grass.index) == set(metrics["methods"])


def test_where_the_other_sites_are_too_few_only_that_scheme_is_empty(tmp_path):
    metrics = evaluate_grass_of(tmp_path, "2019-06-01", "2019-06-15", Enf=0.9)
    assert scores_of(metrics, "leave_one_site_out")["n"].nunique() == 1
    sites = scores_of(metrics, "leave_one_site_out", by="site").loc["climatology"]
    assert list(sites.index) == ["XX-Gra"]
    assert scores_of(metrics)["n"]["embedding-transformer"] > 200


def test_a_yearly_embedding_is_the_mean_of_a_year_and_knows_no_validation_year(evaluated):
    table = read_days(evaluated, sensors=SENSORS, validation_years=[2020])
    assert columns_of(table, "yearly") == [f"yearly:e{i}" for i in range(3)]
    assert columns_of(table, "bands") == ["sentinel-2:B04", "sentinel-2:B08"]
    assert columns_of(table, "NIRv+season") == ["sentinel-2:NIRv", "season:sin", "season:cos"]
    series = pd.read_csv(
        evaluated / "series" / "embedding" / "XX-Gra.csv", parse_dates=["date"], index_col="date"
    )
    seen = series[series["observed"]]
    own = table[table["site"] == "XX-Gra"].set_index("date")["yearly:e0"]
    # The images of these towers lie up to 20 days around.
    for year in ("2018", "2019", "2020"):
        season = seen.loc[year][seen.loc[year].index.dayofyear <= 345]
        np.testing.assert_allclose(own.loc[year], season["e0"].mean())


def test_experiments_by_weather_and_indices(gpp):
    every = experiments(gpp.windows, weather=True, indices=True)
    assert len({one.file for one in every}) == len(every) == 7 + 1 + 14
    lengths = [one.file for one in every if one.schemes != SCHEMES]
    assert lengths == ["transformer/embedding-60.csv", "transformer/bands-60.csv"]
    optional = {"weather", "NIRv", "kNDVI"}
    fewer = [one for one in every if not optional & set(one.inputs.split("+"))]
    assert experiments(gpp.windows, weather=False, indices=False) == fewer


def test_the_figures_are_drawn(evaluated, tmp_path):
    for draw in FIGURES:
        draw(folder=evaluated, output=tmp_path / f"{draw.__name__}.png")
    assert all(path.stat().st_size > 15_000 for path in tmp_path.iterdir())


@pytest.mark.slow
def test_equal_inputs_give_figures_of_equal_bytes(evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "copy")
    for draw in FIGURES:
        draw(folder=evaluated, output=tmp_path / "one.png")
        draw(folder=tmp_path / "copy", output=tmp_path / "two.png")
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("methods", {"torch", "pandas", "xarray"}),
        ("targets, fits, baselines, scores", {"torch", "sklearn", "xarray", "matplotlib"}),
    ],
)
def test_jobs_import_no_more_than_they_use(modules, heavy):
    code = f"from pipeline_lib.gpp import {modules}; import sys; "
    code += f"print(*({heavy!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
