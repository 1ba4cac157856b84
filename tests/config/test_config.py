"""The config is checked whole; what is generated from it is in step with it."""

from pathlib import Path

import pytest
import yaml

from pipeline_lib.config import Config, parse
from pipeline_lib.config.generate import generated_files
from pipeline_lib.errors import UserError


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
    content["sensors"]["sentinel-1"]["latent"] = 0
    content["gpp"]["fluxnet"] = str(tmp_path / "nowhere")
    with pytest.raises(UserError) as caught:
        parse(content)
    text = str(caught.value)
    assert "5 mistake(s)" in text
    for part in (
        "sampling: unknown key",
        "seed: ",
        "sensors.sentinel-2.sequence.stride_space",
        "sensors.sentinel-1.latent",
        f"gpp.fluxnet: there is no file {tmp_path / 'nowhere'}",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"split": {"training": 0.9, "validation": 0.2, "test": 0.1}}, "add up to 1.2"),
        ({"sites": None}, "nothing to train on"),
        ({"fusion": {"reference": "landsat"}}, "no sensor 'landsat'"),
        ({"context": {"patch_px": 14}}, "must be odd"),
        ({"run": "../elsewhere"}, "run: "),
        ({"sites": {"bounds": [30, 42, 0, 62]}}, "in this order"),
        ({"sites": {"periods": {"count": 6}}}, "do not fit"),
        ({"gpp": {"validation_years": [2031]}}, "outside the period"),
    ],
)
def test_contradictions_are_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(change)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("encoder", {"components": 9}, "components must be fewer than the bands and than latent"),
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
    other = sensor.model_copy(update={"latent": 3, "rgb": None})
    assert sensor.source() == other.source()
