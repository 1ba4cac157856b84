import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_cubes import CONTEXT, FUSION, small_sensors, write_made_cube
from untrained import save_all_untrained, scaled_by

from pipeline_lib.config import Sensor, Sequence
from pipeline_lib.cubes import CLEAR, THICK_CLOUD
from pipeline_lib.errors import UserError
from pipeline_lib.evaluate.reconstruction import (
    ABSENCES,
    _absences,
    evaluate_encoder,
    evaluate_fusion,
    hidden_dates,
)
from pipeline_lib.files import write_csv
from pipeline_lib.models import load_encoder, load_fusion
from pipeline_lib.report.tables import encoder_tables, fusion_tables
from pipeline_lib.seeds import generator
from pipeline_lib.training.data import FusionDataset, SensorDataset
from pipeline_lib.training.groups import group_metrics, land_cover_of
from pipeline_lib.training.tasks import METRICS, EncoderTask, FusionTask

SENSORS = small_sensors(Sequence(frames=4, stride_time=3, stride_space=2))
FOUR = {"bands": ("B03", "B04", "B08", "B11"), "latent_dim": 3}
SENSORS["optical"] = SENSORS["optical"].model_copy(update=FOUR)
SITES = {
    "a": ("training", "grassland"),
    "b": ("training", "urban"),
    "c": ("validation", "urban"),
    "d": ("test", "grassland"),
    "e": ("training", "others"),
}
CLOUDY = ("d", "e")


def _write_cube(path: Path, sensor: Sensor, number: int, clouds: float) -> Path:
    """A smooth field over winter and spring; some cubes are too cloudy to give a sample."""
    rng = np.random.default_rng(number)
    size, count = 13, 8
    days = np.arange(count) * 6
    field = 0.3 + 0.1 * np.sin(np.arange(size) / 3 + number)[:, None] * np.ones(size)
    gains = np.linspace(0.6, 1.4, len(sensor.bands))[None, :, None, None]
    values = (1 + 0.3 * np.sin(days / 40))[:, None, None, None] * gains * field
    values = values + 0.02 * rng.standard_normal(values.shape)
    mask = np.where(rng.random((count, size, size)) < clouds, THICK_CLOUD, CLEAR)
    return write_made_cube(path, values, mask, sensor, start="2021-02-10")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("world")
    torch.manual_seed(3)
    cubes: dict[str, list[Path]] = {name: [] for name in SENSORS}
    for number, site in enumerate(SITES):
        for name, sensor in SENSORS.items():
            if (site, name) == ("c", "radar"):
                continue
            path = root / name / f"{site}.zarr.zip"
            _write_cube(path, sensor, number, 1.0 if site in CLOUDY else 0.2)
            cubes[name].append(path)
    rows = [
        {"cube": site, "site": site, "land_cover": land_cover, "split": split}
        for site, (split, land_cover) in SITES.items()
    ]
    write_csv(root / "split.csv", rows)
    save_all_untrained(root / "models", SENSORS, CONTEXT, FUSION, scaled_by(0.05, 0.85))

    models = {name: root / "models" / name for name in (*SENSORS, "fusion")}
    shared = {"split_table": root / "split.csv", "max_samples": 40}

    def encoder(output: Path, *, seed: int = 5) -> dict:
        given = {"model": models["optical"], "cubes": cubes["optical"]}
        evaluate_encoder(**given, **shared, seed=seed, output=output)
        return json.loads(output.read_text())

    def fusion(output: Path, **changed: dict[str, Path]) -> dict:
        encoders = {name: models[name] for name in SENSORS}
        given = {"fusion": models["fusion"], "encoders": encoders, "cubes": cubes} | changed
        evaluate_fusion(**given, **shared, seed=5, output=output)
        return json.loads(output.read_text())

    return SimpleNamespace(root=root, cubes=cubes, encoder=encoder, fusion=fusion)


@pytest.fixture(scope="module")
def encoder(world: SimpleNamespace) -> dict:
    return world.encoder(world.root / "optical.json")


@pytest.fixture(scope="module")
def fusion(world: SimpleNamespace) -> dict:
    return world.fusion(world.root / "fusion.json")


def test_an_encoder_stands_beside_its_baselines(encoder: dict) -> None:
    assert set(encoder["splits"]) == {"training", "validation"}
    assert "without a clear target pixel" in encoder["skipped"]["test"]
    assert "no sample can be drawn" in encoder["skipped"]["training, others"]
    part = encoder["splits"]["training"]
    assert set(part["baselines"]) == {"nearest_date", "adjacent_pixel", "pca_2", "pca_3"}
    assert list(part["land_cover"]) == ["grassland", "urban"]
    assert list(part["seasons"]) == ["DJF", "MAM"]
    errors = part["model"]
    for own in (part, *part["land_cover"].values(), *part["seasons"].values()):
        assert set(own["baselines"]) == set(part["baselines"])
        for found in (own["model"], *own["baselines"].values()):
            assert set(found) == {"loss", *METRICS, "samples"}
            assert None not in found.values()
    assert errors["centre_mae"] == pytest.approx(0.8 * errors["centre_mae_scaled"], rel=1e-5)
    assert part["baselines"]["pca_3"]["centre_mae"] < part["baselines"]["pca_2"]["centre_mae"]
    # Each class gets its share of the samples.
    assert errors["samples"] == 40
    assert all(own["model"]["samples"] >= 20 for own in part["land_cover"].values())


def test_equal_seeds_give_equal_files_and_other_seeds_other_samples(
    world: SimpleNamespace, encoder: dict, tmp_path: Path
) -> None:
    world.encoder(tmp_path / "two.json")
    assert (world.root / "optical.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    other = world.encoder(tmp_path / "three.json", seed=6)
    assert encoder["splits"]["training"]["model"] != other["splits"]["training"]["model"]


def weighted(parts: list[dict], name: str) -> float:
    """Mean of a metric over groups that share no sample."""
    samples = [part["samples"] for part in parts]
    return float(np.average([part[name] for part in parts], weights=samples))


def test_classes_and_seasons_hold_the_samples_of_the_whole(encoder: dict) -> None:
    """Of the validation all samples are measured, and they are of one class."""
    part = encoder["splits"]["validation"]
    assert part["land_cover"] == {"urban": {k: part[k] for k in ("model", "baselines")}}
    seasons = list(part["seasons"].values())
    assert len(seasons) == 2
    for name, whole in {"model": part["model"], **part["baselines"]}.items():
        found = [own["model"] if name == "model" else own["baselines"][name] for own in seasons]
        assert sum(own["samples"] for own in found) == whole["samples"]
        for metric in METRICS:
            assert weighted(found, metric) == pytest.approx(whole[metric], rel=1e-9)


def test_groups_of_a_card_are_those_of_the_evaluation(
    world: SimpleNamespace, encoder: dict
) -> None:
    trained = load_encoder(world.root / "models" / "optical")
    task = EncoderTask(trained.autoencoder, trained.sensor, trained.context, trained.normalisation)
    cube = [path for path in world.cubes["optical"] if path.name.startswith("c")]
    dataset = SensorDataset.of(trained, cube)
    drawn = dataset.draw(generator(5, "evaluation"), None, "test")
    land_cover = land_cover_of(world.root / "split.csv")
    _, found = group_metrics(task, dataset, drawn, land_cover)
    part = encoder["splits"]["validation"]
    for kind in ("land_cover", "seasons"):
        assert list(found[kind]) == list(part[kind])
        for name, own in part[kind].items():
            assert found[kind][name] == pytest.approx(own["model"])


def test_the_groups_of_a_fusion_leave_out_sensors_that_are_absent(world: SimpleNamespace) -> None:
    trained = {name: load_encoder(world.root / "models" / name) for name in SENSORS}
    joined = load_fusion(world.root / "models" / "fusion")
    cubes = {name: [p for p in world.cubes[name] if p.name[0] in "bc"] for name in SENSORS}
    dataset = FusionDataset(trained, cubes, "optical")
    drawn = dataset.draw(generator(5, "evaluation"), None, "test")
    land_cover = {"b": "with radar", "c": "without"}
    task = FusionTask(joined.fusion, trained)
    classes = group_metrics(task, dataset, drawn, land_cover)[1]["land_cover"]
    assert classes["with radar"]["radar.sam"] > 0
    assert "radar.sam" not in classes["without"] and classes["without"]["radar.samples"] == 0
    assert classes["without"]["optical.sam"] > 0


def test_the_fusion_stands_beside_each_encoder_alone_on_the_same_samples(
    encoder: dict, fusion: dict
) -> None:
    for split in ("training", "validation"):
        beside = fusion["splits"][split]["baselines"]["encoder_alone"]["optical"]
        expected = encoder["splits"][split]["model"]
        assert beside == pytest.approx({key: expected[key] for key in beside}, rel=1e-5)
    part = fusion["splits"]["training"]
    assert set(part["baselines"]) == {"encoder_alone", "pca_4"}
    assert set(part["seasons"]["DJF"]["model"]) == set(SENSORS)
    assert set(part["land_cover"]["urban"]["baselines"]) == {"encoder_alone", "pca_4"}
    for errors in part["baselines"]["pca_4"].values():
        assert set(errors) == {"loss", *METRICS, "samples"}
        assert 0 < errors["centre_mae_scaled"] < 0.02 and 0 < errors["samples"] <= 40
    # The validation site has no radar.
    part = fusion["splits"]["validation"]
    assert part["model"]["radar"]["centre_mae"] is None
    assert part["model"]["optical"]["centre_mae"] > 0
    assert set(part["baselines"]) == {"encoder_alone"}


def test_a_masked_sensor_is_measured_on_the_samples_that_have_it(fusion: dict) -> None:
    part = fusion["splits"]["training"]
    (label, cases), *others = part["absence"].items()
    assert label == "radar" and not others and tuple(cases) == ABSENCES
    assert cases["never"] == part["model"], "all samples of this split have radar"
    samples = {case: by_sensor["optical"]["samples"] for case, by_sensor in cases.items()}
    whole = samples["never"]
    assert (
        samples["half_the_dates"] == samples["always"] == whole == part["model"]["radar"]["samples"]
    )
    assert 0.2 * whole < samples["those_dates"] < 0.8 * whole
    # The reference is embedded all the same, the sensor that is gone is not measured.
    assert cases["half_the_dates"]["radar"]["samples"] == whole - samples["those_dates"]
    assert cases["always"]["radar"] == {**dict.fromkeys(METRICS), "samples": 0}
    errors = {case: by_sensor["optical"]["centre_mae"] for case, by_sensor in cases.items()}
    assert len(set(errors.values())) == len(ABSENCES)
    assert fusion["splits"]["validation"]["absence"] == {}, "no radar that could be masked"
    table = fusion_tables(fusion)[1]
    assert table.columns[:4] == ("split", "masked", "when", "sensor")
    assert {row[:4] for row in table.rows} == {
        ("training", "radar", when, sensor)
        for when, sensors in {
            "never": SENSORS,
            "half of the dates": SENSORS,
            "half of the dates, only these": ("optical",),
            "always": ("optical",),
        }.items()
        for sensor in sensors
    }


def test_half_of_the_dates_of_each_cube_are_hidden_whatever_is_drawn(
    world: SimpleNamespace,
) -> None:
    trained = {name: load_encoder(world.root / "models" / name) for name in SENSORS}
    cubes = {name: [p for p in world.cubes[name] if p.name[0] in "ab"] for name in SENSORS}
    dataset = FusionDataset(trained, cubes, "optical")
    hidden: dict[tuple[int, int], set[bool]] = {}
    for seed in range(20):
        drawn = dataset.draw(generator(seed, "x"), None, "test")
        found = hidden_dates(drawn, dataset, 5)
        for cube, frame, gone in zip(drawn.cube, drawn.frames[:, 1], found, strict=True):
            hidden.setdefault((int(cube), int(frame)), set()).add(bool(gone))
    assert all(len(states) == 1 for states in hidden.values()), (
        "a date is hidden for all its samples"
    )
    for cube in (0, 1):
        # Of eight dates four, less those that are never in the middle of a sample.
        gone = sum(states == {True} for (number, _), states in hidden.items() if number == cube)
        assert 2 <= gone <= 4


def test_the_report_finds_its_rows(encoder: dict, fusion: dict) -> None:
    whole, by_class, by_season, _ = encoder_tables("optical", encoder, "reflectance")
    methods = {"this model", "nearest date", "3 principal components"}
    assert {row[1] for row in whole.rows} >= methods
    assert {row[2] for row in by_class.rows if row[1] == "urban"} >= methods
    assert {row[2] for row in by_season.rows if row[1] == "MAM"} >= methods
    assert not any(None in row for table in (whole, by_class, by_season) for row in table.rows)
    fused, *_ = fusion_tables(fusion)
    assert {row[:2] for row in fused.rows} >= {("training", "optical"), ("training", "radar")}


def test_foreign_encoders_are_an_error(world: SimpleNamespace, tmp_path: Path) -> None:
    swapped = dict.fromkeys(SENSORS, world.root / "models" / "optical")
    with pytest.raises(UserError, match="another encoder of radar"):
        world.fusion(tmp_path / "x.json", encoders=swapped)
    assert not (tmp_path / "x.json").exists()


def test_on_half_of_the_dates_the_errors_are_those_without_the_sensor() -> None:
    whole, missed = ({"a.sam": np.arange(1.0, 5.0) * factor} for factor in (1, 10))
    rows, hidden = np.array([0, 1, 3]), np.array([True, False, True, False])
    found = _absences(whole, missed, rows, hidden)
    values = {case: errors["a.sam"][kept].tolist() for case, (errors, kept) in found.items()}
    assert values == {
        "never": [1, 2, 4],
        "half_the_dates": [10, 2, 4],
        "those_dates": [10],
        "always": [10, 20, 40],
    }
