"""The config is checked whole; what is generated from it is in step with it."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline_lib.config import Config, parse, parse_before_models
from pipeline_lib.config.generate import generated_files
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json, write_json

TOWER = {"name": "XX-Abc", "lon": 10, "lat": 50, "vegetation": "DBF"}


def test_generated_files_are_in_step_with_the_blocks(project_root: Path) -> None:
    for path, content in generated_files(project_root).items():
        assert path.read_text() == content, f"{path.name} is out of step: run `make generate`"


def test_the_defaults_file_is_the_default(project_root: Path) -> None:
    content = yaml.safe_load((project_root / "config" / "config.yaml").read_text())
    assert parse(content) == Config()


def test_five_mistakes_are_told_at_once(tmp_path: Path) -> None:
    content = Config().model_dump(mode="json")
    content["sampling"] = {}
    content["seed"] = "many"
    content["sensors"]["sentinel-2"]["sequence"]["stride_space"] = -9
    content["sensors"]["sentinel-1"]["latent_dim"] = 0
    content["gpp"]["fluxnet"] = str(tmp_path / "nowhere")
    with pytest.raises(UserError) as caught:
        parse(content)
    text = str(caught.value)
    assert "5 mistake(s)" in text
    for part in (
        "sampling: unknown key",
        "seed: ",
        "sensors.sentinel-2.sequence.stride_space",
        "sensors.sentinel-1.latent_dim",
        f"gpp.fluxnet: there is no file {tmp_path / 'nowhere'}",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"split": {"training": 0.9, "validation": 0.2, "test": 0.1}}, "add up to 1.2"),
        ({"sites": None}, "nothing to train on"),
        ({"fusion": {"reference": "landsat"}}, "no sensor 'landsat'"),
        ({"fusion": {"reference": "sentinel-1"}}, "sentinel-1.rgb: names no bands"),
        ({"context": {"patch_px": 14}}, "must be odd"),
        ({"run": "../elsewhere"}, "run: "),
        ({"sites": {"bounds": [30, 42, 0, 62]}}, "in this order"),
        ({"sites": {"periods": {"count": 6}}}, "do not fit"),
        ({"gpp": {"windows": {"validation_years": [2031]}}}, "outside gpp.period"),
        ({"gpp": {"windows": {"length_days": 60}}}, "other_lengths_days: repeats a length"),
        ({"gpp": {"windows": {"length_days": 2}}}, "greater than or equal to 3"),
        ({"gpp": {"series": {"smoothing": {"window_days": 61}}}}, "longer than a window"),
        ({"gpp": {"series": {"smoothing": {"window_days": 20}}}}, "must be odd"),
        ({"gpp": {"fluxes": {"weather": ["TA_F", "TA_F"]}}}, "names a column twice"),
        ({"gpp": {"towers": [TOWER, TOWER]}}, "two towers have the same name"),
        ({"gpp": {"towers": [TOWER | {"footprint": "gone.tif"}]}}, "there is no file gone.tif"),
    ],
)
def test_contradictions_are_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(change)


def test_all_simulated_scenes_that_are_too_small_are_told_at_once() -> None:
    small = {"demo": {"tile_px": 48, "radar_tile_px": 24}, "cube": {"size_px": 40}}
    with pytest.raises(UserError, match="2 mistake") as raised:
        parse(small)
    assert re.search(r"demo\.tile_px: .* use 168 or more", str(raised.value))
    assert re.search(r"demo\.radar_tile_px: .* use 42 or more", str(raised.value))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("encoder", {"components": 9}, "components must be fewer than the bands"),
        ("loss", {"mae": 0, "sam": 0}, "loss: at least one weight must be above 0"),
    ],
)
def test_contradictions_of_a_sensor_are_told(key: str, value: dict[str, object], told: str) -> None:
    content = Config().model_dump(mode="json")
    content["sensors"]["sentinel-2"][key] = value
    with pytest.raises(UserError, match=told):
        parse(content)


def test_own_cubes_must_name_every_band() -> None:
    cube = {"site": "a", "files": {"sentinel-1": {"file": ".", "bands": {"vv": "VV"}}}}
    with pytest.raises(UserError, match=r"own_cubes.a.files.sentinel-1.bands: not named: vh"):
        parse({"own_cubes": {"a": cube}})


def test_the_keys_of_learning_do_not_decide_cubes() -> None:
    sensor = Config().sensors["sentinel-2"]
    other = sensor.model_copy(update={"latent_dim": 3, "rgb": None})
    assert sensor.source() == other.source()


ONE = {"variable": "reflectance"}
AREA = {"bounds": [11.0, 48.0, 11.2, 48.1], "start": "2021-03-01", "end": "2021-10-31"}

OPTICAL = {"site": "a", "files": {"optical": {"file": ".", "variable": "reflectance"}}}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """What trained models say of themselves, by another choice of sensors than the default."""
    folder = tmp_path / "results" / "paper" / "models"
    sensors = Config().sensors
    names = {"optical": sensors["sentinel-2"], "sentinel-1": sensors["sentinel-1"]}
    for name, sensor in names.items():
        told = {"kind": "encoder", "sensor_name": name, "digest": f"digest of {name}"}
        told |= {"sensor": sensor.model_dump(mode="json"), "context": {"frames": 7}}
        write_json(folder / name / "model.json", told)
    told = {"kind": "fusion", "digest": "of the fusion", "fusion": {"reference": "optical"}}
    encoders = {name: f"digest of {name}" for name in names}
    write_json(folder / "fusion" / "model.json", told | {"encoders": encoders})
    return folder


def use(models: Path, **more: object) -> Config:
    """A user's few lines, merged with the defaults as Snakemake merges them."""
    content = Config().model_dump(mode="json") | {"run": "mine", "models": str(models)}
    return parse(content | more, models.parents[2])


def test_a_run_with_trained_models_takes_their_sensors(models: Path) -> None:
    config = use(models, areas={"valley": AREA})
    assert list(config.sensors) == ["optical", "sentinel-1"]
    assert config.sensors["optical"] == Config().sensors["sentinel-2"]
    assert config.fusion.reference == "optical" and config.context.frames == 7
    assert config.sites is None and config.gpp is None
    width, height = config.areas["valley"].sides_km
    assert width == pytest.approx(14.9, rel=0.01) and height == pytest.approx(11.1, rel=0.01)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "models: there is nothing to embed with them; name `areas` or `own_cubes`"),
        ({"areas": {"a": AREA | {"bounds": [12, 48, 11, 49]}}}, "areas.a.bounds: bounds must be"),
        ({"areas": {"a": AREA | {"end": "2021-02-28"}}}, "areas.a: end lies before start"),
        (
            {"areas": {"a": AREA | {"bounds": [11, 83, 12, 85]}}},
            "areas.a.bounds.3: must be",
        ),
        (
            {"areas": {"a": AREA | {"bounds": [11, 48, 12, 48.1]}, "a-r00-c01": AREA}},
            "areas.a: its part a-r00-c01 has the name of another cube",
        ),
        (
            {
                "areas": {"a": AREA | {"bounds": [11, -1, 11.1, 1]}},
                "own_cubes": {
                    "a-r04-c00": {"site": "a", "files": {"optical": {"file": ".", **ONE}}}
                },
            },
            "areas.a: its part a-r04-c00 has the name of another cube",
        ),
        ({"areas": {"a": AREA | {"outline": "gone.geojson"}}}, "a.outline: there is no file gone"),
        (
            {"areas": {"a": {"bounds": AREA["bounds"], "end": "2021-10-31"}}},
            r"a.start: is missing; add it \(First day\)",
        ),
        ({"areas": {"a/b": AREA}}, "areas.a/b"),
        ({"areas": {"a": AREA}, "run": "paper"}, "run: 'paper' is the run of the models"),
        ({"areas": {"a": AREA}, "sensors": {}}, "sensors: comes with the models; leave it out"),
        ({"areas": {"a": AREA}, "fusion": {"features": 5}}, "fusion: comes with the models"),
        ({"areas": {"a": AREA}, "context": {"frames": 9}}, "context: comes with the models"),
        ({"areas": {"a": AREA}, "own_cubes": {"a": OPTICAL}}, "areas.a: also a"),
        ({"own_cubes": {"a": {"site": "a", "files": {}}}}, "own_cubes.a.files: lacks optical"),
    ],
)
def test_mistakes_in_the_use_of_models_are_told(
    models: Path, more: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told) as raised:
        use(models, **more)
    assert "1 mistake(s)" in str(raised.value)


def test_all_mistakes_of_a_use_are_told_at_once(models: Path) -> None:
    wrong = {"a": AREA | {"bounds": [12, 48, 11, 49]}, "b": AREA | {"start": "2022-01-01"}}
    with pytest.raises(UserError) as raised:
        use(models.with_name("nowhere"), areas=wrong, run="../mine")
    text = str(raised.value)
    for part in ("4 mistake(s)", "models: there is no folder", "areas.a", "areas.b", "run: "):
        assert part in text


def test_a_config_can_be_read_before_its_models_are_trained(models: Path) -> None:
    content = {"run": "mine", "models": str(models), "areas": {"valley": AREA}}
    assert "optical" in parse_before_models(content).sensors
    elsewhere = content | {"models": str(models.with_name("nowhere"))}
    config = parse_before_models(elsewhere)
    assert config.sensors == Config().sensors and config.sites is None and config.gpp is None
    with pytest.raises(UserError, match=r"areas.a: end lies before start"):
        parse_before_models(elsewhere | {"areas": {"a": AREA | {"end": "2021-02-28"}}})


def test_areas_need_trained_models() -> None:
    with pytest.raises(UserError, match="areas: are embedded with trained models; name"):
        parse({"areas": {"a": AREA}})


@pytest.mark.parametrize(
    ("sensor", "change", "told"),
    [
        ("fusion", None, "there is no .*fusion/model.json; name the folder `models`"),
        ("optical", None, "there is no .*optical/model.json; name the folder `models`"),
        ("optical", {"digest": "another"}, "optical: not the encoder that the fusion was trained"),
        ("optical", {"kind": "fusion"}, r"not written by this version of the library \(kind\)"),
        ("optical", {"sensor": {"lens": 1}}, r"not written by this version .* \(sensor"),
        ("fusion", {"fusion": {"reference": "x"}}, "names no encoder of its reference sensor"),
        ("fusion", {"encoders": {"../optical": "d"}}, r"\(encoders.../optical"),
    ],
)
def test_models_that_are_none_are_told(
    models: Path, sensor: str, change: dict[str, object] | None, told: str
) -> None:
    path = models / sensor / "model.json"
    if change is None:
        path.unlink()
    else:
        write_json(path, read_json(path) | change)
    with pytest.raises(UserError, match=f"models: .*{told}"):
        use(models, areas={"valley": AREA})


def test_the_examples_of_areas_are_valid(project_root: Path, models: Path) -> None:
    for name in ("area.yaml", "demo-area.yaml", "germany.yaml", "europe.yaml"):
        content = yaml.safe_load((project_root / "config" / name).read_text())
        config = parse(content | {"models": str(models)}, project_root)
        assert config.areas and bool(config.demo) == name.startswith("demo")


def test_a_sensor_that_is_null_is_left_out() -> None:
    content = Config().model_dump(mode="json")
    content["sensors"]["sentinel-1"] = None
    assert list(parse(content).sensors) == ["sentinel-2"]


def test_each_sensor_needs_cubes() -> None:
    cube = {"site": "a", "files": {"sentinel-2": {"file": ".", "variable": "all"}}}
    content = Config().model_dump(mode="json") | {"sites": None, "own_cubes": {"a": cube}}
    with pytest.raises(UserError, match=r"sensors.sentinel-1: no cube .*: `sentinel-1: null`"):
        parse(content)
    content["sensors"]["sentinel-1"] = None
    parse(content)
