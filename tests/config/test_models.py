"""A run that uses trained models takes their sensors, context and fusion."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline_lib.config import Config, parse, parse_before_models
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json, write_json

AREA = {"bounds": [11.0, 48.0, 11.2, 48.1], "start": "2021-03-01", "end": "2021-10-31"}
WIDE = AREA | {"bounds": [11, 48, 12, 48.1]}
OPTICAL = {"site": "a", "files": {"optical": {"file": ".", "variable": "reflectance"}}}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The files of trained models, with other names of sensors than the default."""
    folder = tmp_path / "results" / "paper" / "models"
    sensors = Config().sensors
    names = {"optical": sensors["sentinel-2"], "sentinel-1": sensors["sentinel-1"]}
    for name, sensor in names.items():
        content = {"kind": "encoder", "sensor_name": name, "digest": f"digest of {name}"}
        content |= {"sensor": sensor.model_dump(mode="json"), "context": {"frames": 7}}
        write_json(folder / name / "model.json", content)
    content = {"kind": "fusion", "digest": "of the fusion", "fusion": {"reference": "optical"}}
    encoders = {name: f"digest of {name}" for name in names}
    write_json(folder / "fusion" / "model.json", content | {"encoders": encoders})
    return folder


def test_areas_need_models_of_the_pixels_of_the_catalog(models: Path) -> None:
    path = models / "optical" / "model.json"
    for sizes, fits in (([10.0], True), ([20.0], False), ([20.0, 10.0], True)):
        record = {"training": {"inputs": {"resolution_m": sizes}}}
        write_json(path, read_json(path) | record)
        if fits:
            use(models, areas={"valley": AREA})
        else:
            with pytest.raises(UserError, match=r"areas: the catalog's scenes .* on 20 m; use"):
                use(models, areas={"valley": AREA})


def use(models: Path, **more: object) -> Config:
    return parse({"run": "mine", "models": str(models)} | more, models.parents[2])


def test_a_run_with_trained_models_takes_their_sensors(models: Path) -> None:
    config = use(models, areas={"valley": AREA})
    assert list(config.sensors) == ["optical", "sentinel-1"]
    assert config.sensors["optical"] == Config().sensors["sentinel-2"]
    assert config.fusion.reference == "optical" and config.context.frames == 7
    assert config.sites is None and config.gpp is None
    width, height = config.areas["valley"].sides_km
    assert width == pytest.approx(14.9, rel=0.01) and height == pytest.approx(11.1, rel=0.01)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "models: there is nothing to embed with them; set `areas` or `own_cubes`"),
        ({"areas": {"a": AREA | {"bounds": [12, 48, 11, 49]}}}, "areas.a.bounds: bounds must be"),
        ({"areas": {"a": AREA | {"end": "2021-02-28"}}}, "areas.a: end is before start"),
        ({"areas": {"a": AREA | {"bounds": [11, 83, 12, 85]}}}, "areas.a.bounds.3: should be"),
        ({"areas": {"a": WIDE, "a-r00-c01": AREA}}, "a-r00-c01 is also the .* cube of areas.a;"),
        (
            {"areas": {"a": WIDE}, "own_cubes": {"a-r00-c01": OPTICAL}},
            "areas.a: a-r00-c01 is also the name of a cube of own_cubes;",
        ),
        ({"areas": {"a": AREA | {"outline": "gone"}}}, "a.outline: file not found: gone"),
        ({"areas": {"a": {"bounds": AREA["bounds"]}}}, "areas.a: missing start, end"),
        ({"areas": {"a/b": AREA}}, "areas.a/b"),
        ({"areas": {"a": AREA}, "run": "paper"}, "run: 'paper' is the run of the models"),
        ({"areas": {"a": AREA}, "sensors": {"optical": {}}}, "sensors: is that of the models"),
        ({"areas": {"a": AREA}, "fusion": {"features": 5}}, "fusion: is that of the models"),
        ({"areas": {"a": AREA}, "context": {"frames": 9}}, "context: is that of the models"),
        ({"areas": {"a": AREA}, "own_cubes": {"a": OPTICAL}}, "areas.a: a is also the"),
        ({"own_cubes": {"a": {"site": "a", "files": {}}}}, "own_cubes.a.files: no optical"),
    ],
)
def test_mistakes_in_the_use_of_models(models: Path, more: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        use(models, **more)
    assert "1 mistake(s)" in str(raised.value)


def test_all_mistakes_of_a_use_are_reported_at_once(models: Path) -> None:
    wrong = {"a": AREA | {"bounds": [12, 48, 11, 49]}, "b": AREA | {"start": "2022-01-01"}}
    with pytest.raises(UserError, match=r"4 mistake\(s\)") as raised:
        use(models.with_name("nowhere"), areas=wrong, run="../mine")
    parts = ("models: folder not found", "areas.a", "areas.b", "run: ")
    assert all(part in str(raised.value) for part in parts)


def test_a_config_can_be_read_before_its_models_are_trained(models: Path) -> None:
    content = {"run": "mine", "models": str(models), "areas": {"valley": AREA}}
    assert "optical" in parse_before_models(content).sensors
    elsewhere = content | {"models": str(models.with_name("nowhere"))}
    config = parse_before_models(elsewhere)
    assert config.sensors == Config().sensors and config.sites is None and config.gpp is None
    with pytest.raises(UserError, match=r"areas.a: end is before start"):
        parse_before_models(elsewhere | {"areas": {"a": AREA | {"end": "2021-02-28"}}})


@pytest.mark.parametrize(
    ("sensor", "change", "message"),
    [
        ("fusion", None, "file not found: .*fusion/model.json; set it to the folder `models`"),
        ("optical", None, "file not found: .*optical/model.json; set it to the folder `models`"),
        ("optical", {"digest": "another"}, "optical: not the encoder that the fusion was trained"),
        ("optical", {"kind": "fusion"}, r"not written by this version of the library \(kind\)"),
        ("optical", {"sensor": {"lens": 1}}, r"not written by this version .* \(sensor"),
        ("fusion", {"fusion": {"reference": "x"}}, "no encoder of its reference sensor"),
        ("fusion", {"encoders": {"../optical": "d"}}, r"\(encoders.../optical"),
    ],
)
def test_broken_models_are_refused(
    models: Path, sensor: str, change: dict[str, object] | None, message: str
) -> None:
    path = models / sensor / "model.json"
    if change is None:
        path.unlink()
    else:
        write_json(path, read_json(path) | change)
    with pytest.raises(UserError, match=f"models: .*{message}"):
        use(models, areas={"valley": AREA})


def test_the_examples_of_areas_are_valid(project_root: Path, models: Path) -> None:
    for name in ("area.yaml", "demo-area.yaml", "germany.yaml", "europe.yaml"):
        content = yaml.safe_load((project_root / "config" / name).read_text())
        config = parse(content | {"models": str(models)}, project_root)
        assert config.areas and bool(config.demo) == name.startswith("demo")
