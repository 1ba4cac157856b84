import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline_lib.config import Gpp, Regressor
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.gpp import evaluate_gpp, plot_gpp
from pipeline_lib.gpp.regressor import Scaling, WindowTransformer, fit_regressor

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
        "window_days": 30,
        "regressor": SMALL.model_dump(),
    }
    return Gpp.model_validate(settings | changes)


def write_tower(folder, number, name, gpp, *, bad_share=0.1):
    """A tower whose GPP follows from its embeddings, with weather that no calendar knows."""
    rng = np.random.default_rng(number)
    days = pd.date_range(gpp.period.start, gpp.period.end, name="date")
    season = 0.5 - 0.5 * np.cos(2 * np.pi * (days.dayofyear - 20 + 15 * number) / 365.25)
    weather = np.convolve(rng.normal(size=len(days)), np.full(25, 0.1), mode="same")
    green = np.clip(season.to_numpy() + 0.5 * weather, 0, None)
    noise = rng.normal(0, 0.03, (3, len(days)))
    series = pd.DataFrame(
        {"e0": green + noise[0], "e1": season + noise[1], "e2": 0.5 - green + noise[2]}, index=days
    )
    series["observed"] = np.arange(len(days)) % 5 == 0
    targets = pd.DataFrame(
        {"gpp": 10 * green + rng.normal(0, 0.3, len(days)), "quality": 0.9}, index=days
    )
    targets.loc[rng.random(len(days)) < bad_share, "quality"] = 0.2
    targets["kept"] = (targets["quality"] >= 0.7) & (targets["gpp"] >= 0)
    paths = folder / f"targets-{name}.csv", folder / f"series-{name}.csv"
    for table, path in zip((targets, series), paths, strict=True):
        table.to_csv(path)
    return paths


def towers(folder, gpp, **bad):
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        name: write_tower(folder, number, name, gpp, bad_share=bad.get(name[-3:], 0.1))
        for number, name in enumerate(TOWERS)
    }
    return {n: p[0] for n, p in paths.items()}, {n: p[1] for n, p in paths.items()}


def evaluate(folder, gpp, targets, series, seed=1):
    out = {"metrics": folder / "metrics.json", "predictions": folder / "predictions.csv"}
    evaluate_gpp(gpp=gpp, seed=seed, targets=targets, series=series, **out)
    return read_json(out["metrics"]), pd.read_csv(out["predictions"], parse_dates=["date"])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpp")
    gpp = gpp_of()
    targets, series = towers(folder, gpp, Enf=0.6)
    metrics, predictions = evaluate(folder, gpp, targets, series)
    return folder, gpp, targets, series, metrics, predictions


def test_it_learns_what_a_calendar_does_not_know(evaluated):
    *_, metrics, _ = evaluated
    scores = metrics["by_year"]
    learned = scores["regressor"]["validation"]["overall"]
    assert learned["r2"] > 0.8
    assert learned["rmse"] < scores["climatology"]["validation"]["overall"]["rmse"]
    assert scores["regressor"]["validation"]["overall"]["n"] == metrics["windows"]["validation"]
    assert set(scores["regressor"]["validation"]["per_vegetation"]) == {"DBF", "GRA"}
    assert len(scores["regressor_by_seed"]) == 2
    assert metrics["leave_one_site_out"]["regressor"]["overall"]["r2"] > 0.5
    assert metrics["paper"]["validation"] == {"nrmse": 0.0958, "rmse": 4.40}


def test_a_site_of_few_good_days_is_left_out_and_named(evaluated):
    *_, metrics, predictions = evaluated
    site = metrics["sites"]["XX-Enf"]
    assert not site["used"] and "good days" in site["reason"]
    assert site["windows"] == {"training": 0, "validation": 0, "spanning": 0}
    assert metrics["sites"]["XX-Gra"]["used"]
    assert set(predictions["site"]) == {"XX-Dbf", "XX-Gra"}


def test_predictions_are_those_that_were_scored(evaluated):
    *_, metrics, predictions = evaluated
    assert set(predictions["split"]) == {"training", "validation", "spanning"}
    years = predictions.groupby("split")["date"].agg(lambda d: set(d.dt.year))
    assert years["validation"] == {2020} and years["training"] == {2018, 2019}
    scored = predictions[predictions["split"] == "validation"]
    assert scored["date"].min() >= pd.Timestamp("2020-01-30")
    error = scored["predicted"] - scored["observed"]
    rmse = metrics["by_year"]["regressor"]["validation"]["overall"]["rmse"]
    assert np.sqrt((error**2).mean()) == pytest.approx(rmse, rel=1e-4)
    assert (predictions["spread"] > 0).all()
    assert predictions.drop(columns=["site"]).notna().all(axis=None)


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(evaluated):
    folder, gpp, targets, series, *_ = evaluated
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    again = folder / "again"
    try:
        torch.set_num_threads(2)
        evaluate(again, gpp, targets, series)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    for name in ("metrics.json", "predictions.csv"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_years_change_nothing_that_is_learned(evaluated):
    folder, gpp, targets, series, _, before = evaluated
    changed = folder / "changed"
    changed.mkdir()
    new_targets, new_series = {}, {}
    for name in TOWERS:
        table = pd.read_csv(targets[name], parse_dates=["date"], index_col="date")
        late = table.index.year == 2020
        table.loc[late, "gpp"] = table.loc[late, "gpp"].to_numpy()[::-1] * 3 + 1
        new_targets[name] = changed / targets[name].name
        table.to_csv(new_targets[name])
        table = pd.read_csv(series[name], parse_dates=["date"], index_col="date")
        table.loc[late, ["e0", "e1", "e2"]] += 5
        new_series[name] = changed / series[name].name
        table.to_csv(new_series[name])
    _, after = evaluate(changed, gpp, new_targets, new_series)
    columns = ["site", "date", "observed", "predicted", "spread", "climatology"]
    pd.testing.assert_frame_equal(
        before.loc[before["split"] == "training", columns].reset_index(drop=True),
        after.loc[after["split"] == "training", columns].reset_index(drop=True),
    )


def test_targets_shuffled_in_time_cannot_be_predicted(tmp_path):
    gpp = gpp_of(regressor=SMALL.model_copy(update={"seeds": 1}).model_dump())
    targets, series = towers(tmp_path, gpp)
    rng = np.random.default_rng(5)
    for path in targets.values():
        table = pd.read_csv(path)
        table["gpp"] = rng.permutation(table["gpp"])
        table["kept"] = (table["quality"] >= 0.7) & (table["gpp"] >= 0)
        table.to_csv(path, index=False)
    metrics, _ = evaluate(tmp_path, gpp, targets, series)
    assert metrics["by_year"]["regressor"]["validation"]["overall"]["r2"] < 0.1
    assert metrics["leave_one_site_out"]["regressor"]["overall"]["r2"] < 0.1


def test_one_site_and_one_seed_leave_empty_what_they_cannot_tell(tmp_path):
    regressor = SMALL.model_copy(update={"seeds": 1, "max_epochs": 1}).model_dump()
    gpp = gpp_of(regressor=regressor)
    targets, series = towers(tmp_path, gpp, Dbf=0.9, Enf=0.9)
    metrics, predictions = evaluate(tmp_path, gpp, targets, series)
    assert predictions[["spread", "left_out", "left_out_climatology"]].isna().all(axis=None)
    assert metrics["leave_one_site_out"]["regressor"]["overall"]["n"] == 0


def test_too_little_data_is_told(tmp_path):
    gpp = gpp_of()
    targets, series = towers(tmp_path, gpp)
    with pytest.raises(UserError, match="validation years"):
        evaluate(tmp_path, gpp_of(window_days=400), targets, series)
    targets, series = towers(tmp_path, gpp, Dbf=0.9, Enf=0.9, Gra=0.0)
    with pytest.raises(UserError, match="only 1 windows to learn from"):
        evaluate(tmp_path, gpp_of(window_days=360, validation_years=(2019, 2020)), targets, series)
    targets, series = towers(tmp_path, gpp, Dbf=0.9, Enf=0.9, Gra=0.9)
    with pytest.raises(UserError, match="no tower has enough good days"):
        evaluate(tmp_path, gpp, targets, series)
    assert not (tmp_path / "metrics.json").exists()


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


def test_the_figure_is_drawn_for_used_and_unused_sites(evaluated, tmp_path):
    folder, gpp, targets, *_ = evaluated
    for name in ("a.png", "b.png"):
        plot_gpp(
            predictions=folder / "predictions.csv",
            targets=targets,
            gpp=gpp,
            output=tmp_path / name,
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 20_000


def test_importing_the_package_loads_no_torch():
    code = "import pipeline_lib.gpp, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
