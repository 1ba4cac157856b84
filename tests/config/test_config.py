"""The config is checked whole, and all mistakes are reported at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.config import Config, parse, with_defaults
from pipeline_lib.config.check import check, check_duplicates
from pipeline_lib.config.generate import generated_files
from pipeline_lib.errors import UserError

DEMO = {"tile_px": 222, "radar_tile_px": 90}
AREA = {"bounds": [11, 48, 12, 49], "start": "2021-03-01", "end": "2021-10-31"}
TOWER = {"name": "XX-Abc", "lon": 10, "lat": 50, "vegetation": "DBF"}


def mistakes(content: dict[Any, Any]) -> list[str]:
    with pytest.raises(UserError) as raised:
        parse(content)
    head, *lines = str(raised.value).splitlines()
    assert head == f"the config has {len(lines)} mistake(s):"
    return [line.strip() for line in lines]


def test_generated_files_are_in_step_with_the_blocks(project_root: Path) -> None:
    for path, content in generated_files(project_root).items():
        assert path.read_text() == content, f"{path.name} is out of step: run `make generate`"


def test_the_defaults_file_is_the_default(project_root: Path) -> None:
    content = yaml.safe_load((project_root / "config" / "config.yaml").read_text())
    assert parse(content) == Config() == parse({})


def test_the_defaults_fill_a_partial_config() -> None:
    """As Snakemake merges files; a workflow that imports this one gives its own keys alone."""
    config = parse({"sensors": {"sentinel-1": {"rolling_mean": 1}}, "gpp": None, "demo": DEMO})
    assert config.sensors["sentinel-1"].rolling_mean == 1
    assert config.sensors["sentinel-1"].latent_dim == Config().sensors["sentinel-1"].latent_dim
    assert config.sensors["sentinel-2"] == Config().sensors["sentinel-2"]
    assert config.gpp is None and config.demo is not None
    filled = with_defaults({"catalog": {"retries": 1}})
    assert filled["catalog"]["retries"] == 1 and filled["catalog"]["timeout_s"] == 60


def test_mistakes_of_every_kind_are_reported_at_once(tmp_path: Path) -> None:
    lines = mistakes(
        {
            "sampling": {},
            "seed": "many",
            "sensors": {
                "sentinel-2": {"sequence": {"stride_space": -9}},
                "sentinel-1": {"latent_dim": 0},
            },
            "gpp": {"fluxnet": str(tmp_path / "nowhere")},
        }
    )
    starts = {
        "sampling: unknown key",
        "seed: should be a valid integer",
        "sensors.sentinel-2.sequence.stride_space: should be greater than or equal to 1",
        "sensors.sentinel-1.latent_dim: ",
        f"gpp.fluxnet: file not found: {tmp_path / 'nowhere'}",
    }
    assert len(lines) == 5
    assert all(any(line.startswith(start) for line in lines) for start in starts), lines


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"latent_dim": 3}, "latent_dim: unknown key; did you mean `sensors.<name>.latent_dim`?"),
        ({"Seed": 3}, "Seed: unknown key; did you mean `seed`?"),
        ({1: 2}, "1: unknown key; see config/README.md"),
        (
            {"sites": {"collection": "x"}},
            "sites.collection: unknown key; did you mean `sites.land_cover.collection`?",
        ),
        (
            {"gpp": {"towers": [TOWER | {"lno": 10}]}},
            "gpp.towers.0.lno: unknown key; did you mean `gpp.towers.0.lon`?",
        ),
        ({"embed": {"dtype": "Float-16"}}, "embed.dtype: .*; did you mean `float16`?"),
        ({"sites": {"bounds": [1, 2, 3]}}, "sites.bounds: missing entry 3"),
        ({"sensors": {"sentinel2": {}}}, "sensors.sentinel2: missing .*`sensors.sentinel-2`?"),
        ({"fusion": {"reference": "sentinel2"}}, ".*'sentinel2'; did you mean `sentinel-2`?"),
        ({"run": "../elsewhere"}, "run: string should match pattern .*"),
        ({"sites": {"bounds": [30, 42, 0, 62]}}, "sites.bounds: .* in this order"),
        ({"sites": {"periods": {"count": 6}}}, "sites.periods: .* do not fit .*"),
        ({"sites": None}, ".*nothing to train on.*"),
        ({"split": {"training": 0.9}}, "split: .* add up to 1.15, not to 1"),
        ({"context": {"patch_px": 14}}, "context.patch_px: must be odd .*"),
        ({"fusion": {"reference": "sentinel-1"}}, "sensors.sentinel-1.rgb: .*"),
        ({"sensors": {"sentinel-2": {"encoder": {"components": 9}}}}, ".*fewer than the bands.*"),
        ({"sensors": {"sentinel-1": {"loss": {"mae": 0}}}}, ".*at least one weight.*"),
        ({"gpp": {"towers": [TOWER | {"footprint": "gone"}]}}, ".*file not found: gone"),
        ({"gpp": {"towers": [TOWER, TOWER]}}, "gpp.towers: duplicate XX-Abc"),
        ({"areas": {"a": {}}}, "areas.a: missing .*"),
        ({"areas": {"a": AREA}}, "areas: are embedded with trained models; set .*`models`"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_with_its_key(content: dict[Any, Any], line: str) -> None:
    (found,) = mistakes(content)
    assert found == line or re.fullmatch(line.replace("?", r"\?"), found), found


def test_all_simulated_scenes_that_are_too_small_are_reported() -> None:
    lines = mistakes({"demo": {"tile_px": 48, "radar_tile_px": 24}, "cube": {"size_px": 40}})
    assert [line.split(":")[0] for line in lines] == ["demo.tile_px", "demo.radar_tile_px"]
    assert [line.rpartition("; use ")[2] for line in lines] == ["168 or more", "42 or more"]


def test_own_cubes_must_name_every_band_and_known_sensors() -> None:
    file = {"file": ".", "bands": {"vv": "VV"}}
    cube = {"site": "a", "files": {"sentinel-1": file, "radar": file}}
    assert mistakes({"own_cubes": {"a": cube}}) == [
        "own_cubes.a.files.sentinel-1.bands: missing vh",
        "own_cubes.a.files: no sensor 'radar'; use sentinel-1 or sentinel-2",
    ]


def test_each_sensor_needs_cubes_and_null_drops_one() -> None:
    cube = {"site": "a", "files": {"sentinel-2": {"file": ".", "variable": "all"}}}
    content = {"sites": None, "gpp": None, "own_cubes": {"a": cube}}
    (line,) = mistakes(content)
    assert line.startswith("sensors.sentinel-1: ") and "`sentinel-1: null`" in line
    assert list(parse(content | {"sensors": {"sentinel-1": None}}).sensors) == ["sentinel-2"]


def test_the_keys_of_learning_do_not_decide_cubes() -> None:
    sensor = Config().sensors["sentinel-2"]
    other = sensor.model_copy(update={"latent_dim": 3, "rgb": None})
    assert sensor.source() == other.source()


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("a: &anchor {b: 1}\nsplit:\n  <<: *anchor\n  test: 0.08\n  test: 0.9\n")
    with pytest.raises(UserError, match=r"split.test: duplicate key in .*my.yaml, lines 4 and 5"):
        check_duplicates([file])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"run: small\nsplit:\n\ttraining: 0.8\n", "line 3"),
        (b"- run: small\n", "not a YAML file with keys"),
        (b"gpp: {period: {end: 2019-02-30}}\n", "day is out of range"),
        (b"\xff\xfe", "not a YAML file"),
        (b"seed: many\n", "seed: should be"),
        (None, "No such file"),
    ],
)
def test_files_are_checked_without_snakemake(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "my.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        check([file])
