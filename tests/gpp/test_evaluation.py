import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from made_towers import ALONE, SMALL, gpp_of, write_sites, write_towers

from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.gpp.days import columns_of, read_days
from pipeline_lib.gpp.evaluation import predict_baselines, regress_gpp, score_gpp
from pipeline_lib.gpp.experiments import read_predictions
from pipeline_lib.gpp.figures import (
    plot_days,
    plot_lengths,
    plot_methods,
    plot_points,
    plot_series,
)
from pipeline_lib.gpp.methods import baselines, regressed_inputs, told_method
from pipeline_lib.gpp.regressor import Scaling, WindowTransformer, fit_regressor


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """The GPP block and the towers' files; of the conifers most days are bad."""
    gpp = gpp_of()
    return gpp, write_towers(tmp_path_factory.mktemp("towers"), gpp, Enf=0.6)


def evaluate(folder, gpp, files, seed=1):
    """Everything that the workflow does, in one process."""
    told = {"windowing": gpp.windows, "seed": seed, **files}
    predict_baselines(**told, seeds=gpp.regressor.seeds, folder=folder)
    methods = {name: folder / f"{name}.csv" for name in baselines(indices=True)}
    for inputs in regressed_inputs(weather=bool(gpp.fluxes.weather)):
        methods[f"{inputs}-transformer"] = folder / f"{inputs}-30.csv"
        regress_gpp(
            **told,
            regressor=gpp.regressor,
            inputs=inputs,
            days=30,
            state=folder / "state",
            output=methods[f"{inputs}-transformer"],
        )
    lengths = {}
    for inputs in ("embedding", "bands") if gpp.windows.other_lengths_days else ():
        lengths[inputs] = {days: folder / f"{inputs}-{days}.csv" for days in (30, 60)}
        regress_gpp(
            **told,
            regressor=gpp.regressor,
            inputs=inputs,
            days=60,
            state=folder / "state",
            output=lengths[inputs][60],
        )
    out = {"metrics": folder / "metrics.json", "predictions": folder / "predictions.csv"}
    score_gpp(**told, methods=methods, lengths=lengths, **out)
    return read_json(out["metrics"]), methods


@pytest.fixture(scope="module")
def evaluated(towers, tmp_path_factory):
    gpp, files = towers
    folder = tmp_path_factory.mktemp("evaluated")
    metrics, methods = evaluate(folder, gpp, files)
    return folder, metrics, methods


def validation(metrics, method):
    return metrics["methods"][method]["by_year"]["validation"]


def test_it_learns_what_a_calendar_does_not_know(evaluated):
    _, metrics, _ = evaluated
    learned = validation(metrics, "embedding-transformer")
    assert learned["overall"]["r2"] > 0.8
    assert learned["overall"]["n"] == metrics["days"]["validation"]
    assert set(learned["per_vegetation"]) == {"DBF", "GRA"}
    assert len(learned["by_fit"]) == 2
    for worse in ("climatology", "bands-transformer", "NIRv-ridge", "yearly+season-boosting"):
        assert learned["overall"]["rmse"] < validation(metrics, worse)["overall"]["rmse"]
    assert metrics["methods"]["embedding-transformer"]["left_out"]["overall"]["r2"] > 0.5
    assert metrics["paper"]["validation"] == {"nrmse": 0.0958, "rmse": 4.40}


@pytest.mark.parametrize("reader", ["ridge", "boosting"])
def test_simple_readers_read_what_there_is(evaluated, reader):
    _, metrics, _ = evaluated
    assert validation(metrics, f"embedding-{reader}")["overall"]["r2"] > 0.8
    assert validation(metrics, f"bands-{reader}")["overall"]["r2"] < 0.8


def test_all_methods_are_scored_on_the_same_days(evaluated):
    _, metrics, methods = evaluated
    assert set(metrics["methods"]) == set(methods)
    for design in ("by_year", "left_out"):
        counts = set()
        for about in metrics["methods"].values():
            scores = about[design]["validation"] if design == "by_year" else about[design]
            counts.add(scores["overall"]["n"])
        assert len(counts) == 1
    assert metrics["methods"]["NIRv-ridge"]["features"] == 1
    assert metrics["methods"]["embedding+weather-transformer"]["features"] == 4
    assert metrics["methods"]["bands-ridge"]["features"] == 2


def test_the_difference_from_the_rival_is_beyond_chance(evaluated):
    _, metrics, _ = evaluated
    for design in ("by_year", "left_out"):
        told = metrics["difference"][design]
        assert told["low"] <= told["rmse"] <= told["high"] < 0


def test_lengths_are_compared_on_the_days_that_all_of_them_predict(evaluated):
    _, metrics, _ = evaluated
    counts = {
        one["overall"]["n"] for found in metrics["lengths"].values() for one in found.values()
    }
    assert len(counts) == 1
    assert counts.pop() < metrics["days"]["validation"]
    assert set(metrics["lengths"]["embedding"]) == {"30", "60"}


def test_a_site_of_few_good_days_is_left_out_and_named(evaluated):
    folder, metrics, _ = evaluated
    site = metrics["sites"]["XX-Enf"]
    assert not site["used"] and "good days" in site["reason"]
    assert (site["lon"], site["lat"]) == (10, 50)
    assert metrics["sites"]["XX-Gra"]["used"]
    predictions = pd.read_csv(folder / "predictions.csv")
    assert set(predictions["site"]) == {"XX-Dbf", "XX-Gra"}


def test_every_day_is_predicted_and_those_kept_are_scored(evaluated):
    folder, metrics, methods = evaluated
    days = pd.read_csv(folder / "predictions.csv", parse_dates=["date"])
    assert set(days["part"]) == {"training", "validation", "spanning"}
    years = days.groupby("part")["date"].agg(lambda d: set(d.dt.year))
    assert years["validation"] == {2020} and years["training"] == {2018, 2019}
    scored = days[(days["part"] == "validation") & days["observed"].notna()]
    assert scored["date"].min() >= pd.Timestamp("2020-01-30")
    error = scored["predicted"] - scored["observed"]
    rmse = validation(metrics, "embedding-transformer")["overall"]["rmse"]
    assert np.sqrt((error**2).mean()) == pytest.approx(rmse, rel=1e-4)
    own = days[days["site"] == "XX-Dbf"]
    assert (own["date"].diff().dropna() == pd.Timedelta(days=1)).all()
    assert len(own) == 1096 - 29
    fits = read_predictions(methods["embedding-transformer"])
    for column, design in (("spread", "by_year"), ("left_out_spread", "left_out")):
        expected = fits.filter(regex=rf"^{design}_\d+$").std(axis=1)
        np.testing.assert_allclose(days[column], expected, atol=1e-5)
        # Two fits may agree on a day to all digits that are written.
        assert (days[column] > 0).mean() > 0.99
    assert days.drop(columns="observed").notna().all(axis=None)


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(towers, evaluated, tmp_path):
    gpp, files = towers
    folder, _, methods = evaluated
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again, _ = evaluate(tmp_path, gpp, files)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert again == read_json(folder / "metrics.json")
    for path in (*methods.values(), folder / "predictions.csv"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_years_change_nothing_that_is_learned(towers, evaluated, tmp_path):
    """GPP, embeddings, bands and weather of 2020 are other ones: what was learned stays."""
    gpp, files = towers
    _, _, before = evaluated

    def changed(path, factor):
        table = pd.read_csv(path, parse_dates=["date"], index_col="date")
        late = table.index.year == 2020
        numbers = table.select_dtypes("float").columns.difference(["quality"])
        table.loc[late, numbers] = table.loc[late, numbers].to_numpy()[::-1] * factor + 1
        # Interpolation carries the change into December, which its sources say.
        target = tmp_path / f"{path.parent.name}-{path.name}"
        table.to_csv(target)
        return target

    others = {
        "sites": files["sites"],
        "targets": {name: changed(path, 3) for name, path in files["targets"].items()},
        "series": {
            source: {name: changed(path, 5) for name, path in found.items()}
            for source, found in files["series"].items()
        },
    }
    _, after = evaluate(tmp_path, gpp, others)
    for method, path in before.items():
        one, other = (
            table[table["part"] == "training"].filter(regex="site|date|by_year")
            for table in (read_predictions(path), read_predictions(after[method]))
        )
        assert len(one) > 500, method
        pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True))


def test_a_site_that_is_left_out_changes_nothing_that_is_learned_of_it(towers, evaluated, tmp_path):
    gpp, files = towers
    _, _, before = evaluated
    path = tmp_path / "targets.csv"
    table = pd.read_csv(files["targets"]["XX-Dbf"])
    table["gpp"] = table["gpp"].to_numpy()[::-1] * 2
    table.to_csv(path, index=False)
    others = {**files, "targets": {**files["targets"], "XX-Dbf": path}}
    told = {"windowing": gpp.windows, "seed": 1, **others}
    predict_baselines(**told, seeds=gpp.regressor.seeds, folder=tmp_path)
    regress_gpp(
        **told,
        regressor=gpp.regressor,
        inputs="embedding",
        days=30,
        state=tmp_path / "state",
        output=tmp_path / "embedding-transformer.csv",
    )
    for method in (*baselines(indices=True), "embedding-transformer"):
        one, other = (
            found[found["site"] == "XX-Dbf"].filter(like="left_out")
            for found in (
                read_predictions(before[method]),
                read_predictions(tmp_path / f"{method}.csv"),
            )
        )
        pd.testing.assert_frame_equal(one, other)


def test_a_killed_regression_goes_on_and_ends_as_if_it_had_not_been(
    towers, evaluated, tmp_path, monkeypatch
):
    gpp, files = towers
    folder, *_ = evaluated
    fits = []

    def fit(**told):
        if len(fits) == 3:
            raise KeyboardInterrupt
        fits.append(told)
        return fit_regressor(**told)

    told = {"windowing": gpp.windows, "regressor": gpp.regressor, "seed": 1, **files}
    told |= {"inputs": "embedding", "days": 30}
    told |= {"state": tmp_path / "state", "output": tmp_path / "embedding-30.csv"}
    monkeypatch.setattr("pipeline_lib.gpp.regressor.fit_regressor", fit)
    with pytest.raises(KeyboardInterrupt):
        regress_gpp(**told)
    assert not told["output"].exists()
    assert len(list(told["state"].iterdir())) == 3
    fits[:] = [None] * 10
    regress_gpp(**told)
    # By year and with two sites left out in turn, by two seeds: three of six were done.
    assert len(fits) == 13
    assert told["output"].read_bytes() == (folder / "embedding-30.csv").read_bytes()
    assert not told["state"].exists()


def test_targets_shuffled_in_time_cannot_be_predicted(tmp_path):
    gpp = gpp_of(**ALONE)
    files = write_towers(tmp_path, gpp)
    rng = np.random.default_rng(5)
    for path in files["targets"].values():
        table = pd.read_csv(path)
        table["gpp"] = rng.permutation(table["gpp"])
        table["kept"] = (table["quality"] >= 0.7) & (table["gpp"] >= 0)
        table.to_csv(path, index=False)
    metrics, _ = evaluate(tmp_path, gpp, files)
    for method, about in metrics["methods"].items():
        assert about["by_year"]["validation"]["overall"]["r2"] < 0.1, method
        assert about["left_out"]["overall"]["r2"] < 0.1, method
    assert metrics["lengths"] == {}


def test_one_site_leaves_empty_what_it_cannot_tell(tmp_path):
    regressor = SMALL.model_copy(update={"seeds": 1, "max_epochs": 1}).model_dump()
    gpp = gpp_of(regressor=regressor, **ALONE)
    files = write_towers(tmp_path, gpp, Dbf=0.9, Enf=0.9)
    metrics, methods = evaluate(tmp_path, gpp, files)
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    empty = ["spread", "left_out", "left_out_spread"]
    assert predictions[empty].isna().all(axis=None)
    for about in metrics["methods"].values():
        assert about["left_out"]["overall"]["n"] == 0
    assert set(metrics["difference"]) == {"of", "from", "by_year"}
    plot_methods(metrics=tmp_path / "metrics.json", output=tmp_path / "methods.png")
    plot_points(
        methods=methods,
        predictions=tmp_path / "predictions.csv",
        output=tmp_path / "points.png",
    )


def test_too_little_data_is_told(tmp_path):
    def regress(files, **changes):
        told = gpp_of(windows=changes)
        regress_gpp(
            windowing=told.windows,
            regressor=told.regressor,
            seed=1,
            **files,
            inputs="embedding",
            days=told.windows.length_days,
            state=tmp_path / "state",
            output=tmp_path / "out.csv",
        )

    files = write_towers(tmp_path, gpp_of())
    with pytest.raises(UserError, match="no window of 400 days lies wholly in the validation"):
        regress(files, length_days=400)
    files = write_towers(tmp_path, gpp_of(), Dbf=0.9, Enf=0.9, Gra=0.0)
    with pytest.raises(UserError, match=r"only \d windows of the training years to learn from"):
        regress(files, length_days=345, validation_years=(2019, 2020))
    files = write_towers(tmp_path, gpp_of(), Dbf=0.9, Enf=0.9, Gra=0.9)
    with pytest.raises(UserError, match="no tower has enough good days"):
        regress(files)
    assert not (tmp_path / "out.csv").exists()


def test_a_vegetation_type_that_is_new_in_the_validation_year_is_scored_by_all(tmp_path):
    gpp = gpp_of(**ALONE)
    files = write_towers(tmp_path, gpp)
    path = files["targets"]["XX-Gra"]
    table = pd.read_csv(path)
    table.loc[table["date"] < "2020-01-01", ["kept", "quality"]] = [False, np.nan]
    table.loc[table["date"] < "2020-01-01", "gpp"] = np.nan
    table.to_csv(path, index=False)
    write_sites(files["sites"], files["targets"], gpp)
    metrics, _ = evaluate(tmp_path, gpp, files)
    for name, about in metrics["methods"].items():
        scores = about["by_year"]["validation"]
        assert scores["overall"]["n"] == metrics["days"]["validation"], name
        assert "GRA" in scores["per_vegetation"], name


def test_where_the_other_sites_are_too_few_only_that_design_is_empty(tmp_path):
    gpp = gpp_of(**ALONE)
    files = write_towers(tmp_path, gpp, Enf=0.9)
    path = files["targets"]["XX-Gra"]
    table = pd.read_csv(path)
    unmeasured = (table["date"] < "2019-06-01") | (table["date"] > "2019-06-15")
    table.loc[unmeasured, "gpp"] = np.nan
    table.loc[unmeasured, "kept"] = False
    table.to_csv(path, index=False)
    write_sites(files["sites"], files["targets"], gpp)
    metrics, _ = evaluate(tmp_path, gpp, files)
    told = metrics["methods"]
    assert len({about["left_out"]["overall"]["n"] for about in told.values()}) == 1
    assert set(told["climatology"]["left_out"]["per_site"]) == {"XX-Gra"}
    assert validation(metrics, "embedding-transformer")["overall"]["r2"] > 0.5


def test_the_features_of_a_site_that_is_left_out_scale_nothing(towers, tmp_path):
    gpp, files = towers
    path = tmp_path / "XX-Dbf.csv"
    table = pd.read_csv(files["series"]["embedding"]["XX-Dbf"])
    table.loc[:, ["e0", "e1", "e2"]] *= 100
    table.to_csv(path, index=False)
    series = {**files["series"], "embedding": {**files["series"]["embedding"], "XX-Dbf": path}}
    learned = []

    def fit(**told):
        learned.append(told["inputs"])
        return fit_regressor(**told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline_lib.gpp.regressor.fit_regressor", fit)
        regress_gpp(
            windowing=gpp.windows,
            regressor=gpp.regressor,
            seed=1,
            sites=files["sites"],
            targets=files["targets"],
            series=series,
            inputs="embedding",
            days=30,
            state=tmp_path / "state",
            output=tmp_path / "embedding.csv",
        )
    # Two fits by year and two for each site: those without the changed one saw nothing of it.
    assert sorted(np.abs(inputs).max() > 50 for inputs in learned) == [False, False] + [True] * 4


def test_what_lacks_everywhere_is_named(tmp_path):
    gpp = gpp_of(**ALONE)
    files = write_towers(tmp_path, gpp)
    for path in files["series"]["sentinel-2"].values():
        pd.read_csv(path).assign(B04=np.nan).to_csv(path, index=False)
    with pytest.raises(UserError, match="no tower has any day of sentinel-2"):
        predict_baselines(windowing=gpp.windows, seeds=1, seed=1, **files, folder=tmp_path)


def test_a_yearly_embedding_is_the_mean_of_a_year_and_knows_no_validation_year(towers):
    gpp, files = towers
    table = read_days(**files, validation_years=gpp.windows.validation_years)
    assert columns_of(table, "yearly") == [f"yearly:e{i}" for i in range(3)]
    series = pd.read_csv(
        files["series"]["embedding"]["XX-Gra"], parse_dates=["date"], index_col="date"
    )
    seen = series[series["observed"]]
    own = table[table["site"] == "XX-Gra"].set_index("date")["yearly:e0"]
    # The images of these towers lie up to 20 days around.
    for year in ("2018", "2019", "2020"):
        season = seen.loc[year][seen.loc[year].index.dayofyear <= 345]
        np.testing.assert_allclose(own.loc[year], season["e0"].mean())


def test_inputs_are_told_apart(towers):
    gpp, files = towers
    table = read_days(**files, validation_years=gpp.windows.validation_years)
    assert columns_of(table, "bands") == ["sentinel-2:B04", "sentinel-2:B08"]
    assert columns_of(table, "NIRv") == ["sentinel-2:NIRv"]
    assert columns_of(table, "embedding+weather")[-1] == "weather:TA_F"
    assert columns_of(table, "season") == ["season:sin", "season:cos"]
    assert told_method("embedding+weather-transformer") == ("embeddings + weather", "transformer")
    assert baselines(indices=False) == [
        m for m in baselines(indices=True) if "NIRv" not in m and "kNDVI" not in m
    ]


def test_the_network_knows_the_order_of_days_and_not_its_batch():
    torch.manual_seed(0)
    network = WindowTransformer(3, 20, SMALL).eval()
    windows = torch.randn(5, 20, 3)
    with torch.no_grad():
        together = network(windows)
        alone = torch.cat([network(window[None]) for window in windows])
        reordered = network(windows[:, [*torch.randperm(19).tolist(), 19]])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, reordered, atol=1e-3)


def test_the_last_block_loses_nothing_by_asking_for_the_last_day_alone():
    torch.manual_seed(0)
    block = WindowTransformer(3, 20, SMALL).eval().blocks[0]
    tokens = torch.randn(2, 20, SMALL.width)
    with torch.no_grad():
        torch.testing.assert_close(block(tokens, 20)[:, -1:], block(tokens, 1))


def test_scaling_survives_what_does_not_vary():
    inputs = np.ones((6, 4, 2), np.float32)
    inputs[..., 1] = np.arange(6)[:, None]
    scaling = Scaling.fit(inputs, np.full(6, 2.0, np.float32))
    assert scaling.input_std[0] == 1 and scaling.target_std == 1
    fitted = fit_regressor(
        inputs=inputs,
        target=np.full(6, 2.0, np.float32),
        held_out=np.arange(6) < 2,
        block=SMALL,
        seed=0,
    )
    np.testing.assert_allclose(fitted.predict(inputs), 2, atol=0.5)
    assert fitted.predict(inputs[:0]).shape == (0,)


def test_training_stops_without_progress_and_keeps_the_best_epoch():
    rng = np.random.default_rng(0)
    block = SMALL.model_copy(update={"stop_patience": 2, "max_epochs": 60})
    fitted = fit_regressor(
        inputs=rng.normal(size=(60, 10, 3)).astype(np.float32),
        target=rng.normal(size=60).astype(np.float32),
        held_out=np.arange(60) < 15,
        block=block,
        seed=0,
    )
    assert fitted.epochs < 60
    assert fitted.epochs - fitted.best_epoch == 2


def test_the_figures_are_drawn_and_equal_inputs_give_equal_bytes(towers, evaluated, tmp_path):
    _, files = towers
    folder, _, methods = evaluated
    predictions, metrics = folder / "predictions.csv", folder / "metrics.json"
    targets = files["targets"]
    for run in ("a", "b"):
        out = tmp_path / run
        plot_days(
            predictions=predictions,
            sites=files["sites"],
            targets=targets,
            validation_years=[2020],
            output=out / "days.png",
        )
        plot_series(series=files["series"]["embedding"], targets=targets, output=out / "series.png")
        plot_methods(metrics=metrics, output=out / "methods.png")
        plot_points(methods=methods, predictions=predictions, output=out / "points.png")
        plot_lengths(metrics=metrics, output=out / "lengths.png")
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert path.stat().st_size > 15_000


def test_what_the_workflow_reads_is_light():
    code = (
        "import pipeline_lib.gpp.methods, sys; sys.exit(bool({'torch', 'pandas'} & {*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_jobs_loads_no_torch():
    code = "import pipeline_lib.gpp.evaluation, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
