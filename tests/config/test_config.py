"""The config is checked whole, and all mistakes are reported at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.config import Config, parse, with_defaults
from pipeline_lib.config.check import check, check_yaml
from pipeline_lib.config.generate import generated_files
from pipeline_lib.config.root import merged
from pipeline_lib.errors import UserError

ROOT = Path(__file__).parents[2]
DEMO = {"tile_px": 222, "radar_tile_px": 90}
TABLE = {"file": ".", "variable": "all"}
BANDS = ["B02", "B03", "B04", "B08", "B11", "B12"]
AREA = {"bounds": [11, 48, 12, 49], "start": "2021-03-01", "end": "2021-10-31"}
RADAR = Config().sensors["sentinel-1"].model_dump(mode="json")
TOWER = {"name": "XX-Abc", "lon": 10, "lat": 50, "vegetation": "DBF"}


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


RADAR_FILE: dict[str, Any] = {"file": ".", "bands": {"vv": "VV"}}
MASK: dict[str, Any] = {"mask": "SCL", "mask_clear": [4, 5]}
LANDSAT = yaml.safe_load((ROOT / "config" / "landsat.yaml").read_text())


def landsat(**changes: object) -> dict[str, Any]:
    return merged(LANDSAT, {"sensors": {"landsat": changes}})


def own(files: dict[str, object], cube: str = "a") -> dict[str, Any]:
    return {"own_cubes": {cube: {"site": cube, "files": files}}}


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ({"latent_dim": 3}, ["latent_dim: unknown key; did you mean `sensors.<name>.latent_dim`?"]),
        ({"Seed": 3}, ["Seed: unknown key; did you mean `seed`?"]),
        ({1: 2}, ["1: unknown key; see config/README.md"]),
        (
            {"sites": {"collection": "x"}},
            ["sites.collection: unknown key; did you mean `sites.land_cover.collection`?"],
        ),
        (
            {"gpp": {"towers": [TOWER | {"lno": 10}]}},
            ["gpp.towers.0.lno: unknown key; did you mean `gpp.towers.0.lon`?"],
        ),
        ({"embed": {"dtype": "Float-16"}}, ["embed.dtype: .*; did you mean `float16`?"]),
        ({"sites": {"bounds": [1, 2, 3]}}, ["sites.bounds: missing entry 3"]),
        ({"sensors": {"sentinel2": {}}}, ["sensors.sentinel2: missing .*`sensors.sentinel-2`?"]),
        ({"fusion": {"reference": "sentinel2"}}, [".*'sentinel2'; did you mean `sentinel-2`?"]),
        ({"run": "../elsewhere"}, ["run: string should match pattern .*"]),
        ({"sites": {"bounds": [30, 42, 0, 62]}}, ["sites.bounds: .* in this order"]),
        ({"sites": {"periods": {"count": 6}}}, ["sites.periods: .* do not fit .*"]),
        ({"sites": None}, [".*nothing to train on.*"]),
        ({"split": {"training": 0.9}}, ["split: .* add up to 1.15, not to 1"]),
        ({"context": {"patch_px": 14}}, ["context.patch_px: must be odd .*"]),
        ({"context": {"patch_px": 91}}, ["cube.size_px: 90 < 91, those of context.patch_px"]),
        (
            {"training": {"max_samples": 300, "max_epochs": 3}},
            ["training.warmup_steps: 500, .* have at most 6 steps: the warm-up never ends.*"],
        ),
        ({"fusion": {"reference": "sentinel-1"}}, ["sensors.sentinel-1.rgb: .*"]),
        ({"sensors": {"sentinel-2": {"encoder": {"components": 9}}}}, [".*fewer than the bands.*"]),
        (
            {"sensors": {"sentinel-1": {"latent_dim": 2}}},
            [".*encoder.blind needs .*latent_dim: 4.*"],
        ),
        ({"sensors": {"sentinel-1": {"scale": "square-root"}}}, [".*not for backscatter.*"]),
        ({"sensors": {"sentinel-1": {"loss": {"mae": 0}}}}, [".*at least one weight.*"]),
        ({"gpp": {"towers": [TOWER | {"footprint": "gone"}]}}, [".*file not found: gone"]),
        ({"run": "r" * 101}, ["run: string should have at most 100 characters .*"]),
        ({"gpp": {"towers": [TOWER, TOWER]}}, ["gpp.towers: duplicate XX-Abc"]),
        ({"areas": {"a": {}}}, ["areas.a: missing .*"]),
        ({"areas": {"a": AREA}}, ["areas: are embedded with trained models; set .*`models`"]),
        (own({"sentinel-2": TABLE}, "site-000-a"), ["sites: site-000-a is also the name of .*"]),
        (
            own({"sentinel-2": TABLE}, "DE-HoH") | {"gpp": {"fluxnet": "."}},
            ["gpp.towers: DE-HoH is also the name of a cube of own_cubes.*"],
        ),
        (
            own({"sentinel-1": {"file": "gone", "bnads": {}}}),
            [
                "own_cubes.a.files.sentinel-1.file: file not found: gone",
                "own_cubes.a.files.sentinel-1.bnads: unknown key; did you mean .*.bands`?",
            ],
        ),
        (
            own({"sentinel-1": [RADAR_FILE, RADAR_FILE | {"file": "gone"}]}),
            ["own_cubes.a.files.sentinel-1.1.file: file not found: gone"],
        ),
        (
            own({"sentinel-1": [RADAR_FILE | MASK, RADAR_FILE | MASK]}),
            [
                "own_cubes.a.files.sentinel-1.bands: missing vh",
                "own_cubes.a.files.sentinel-1: vv in two files; .*",
                "own_cubes.a.files.sentinel-1: two masks; .*",
            ],
        ),
        (
            own({name: {"file": ".", "bands": {"vv": "VV"}} for name in ("sentinel-1", "radar")}),
            [
                "own_cubes.a.files.sentinel-1.bands: missing vh",
                "own_cubes.a.files: no sensor 'radar'; use sentinel-1 or sentinel-2",
            ],
        ),
        (
            {"sites": None, "gpp": None} | own({"sentinel-2": TABLE}),
            ["sensors.sentinel-1: .*`sentinel-1: null`.*"],
        ),
        (
            {"demo": {"tile_px": 48, "radar_tile_px": 24}, "cube": {"size_px": 40}},
            ["demo.tile_px: .*; use 168 or more", "demo.radar_tile_px: .*; use 42 or more"],
        ),
        (
            {"areas": {"a": AREA | {"bounds": [11, 48, 13, 49]}}}
            | own({"sentinel-2": TABLE}, "a-r00-c01"),
            ["areas: are embedded .*", "areas.a: a-r00-c01 is also the name of .*own_cubes.*"],
        ),
        (
            {"sensors": {"gpp": RADAR, "weather": RADAR}},
            ["sensors.gpp: a reserved name.*", "sensors.weather: a reserved name.*"],
        ),
        ({"fusion": {"weights": {"sentinel2": 2}}}, [".*weights: no .*`sentinel-2`?"]),
        ({"seed": 2**32}, ["seed: should be less than 4294967296 .*"]),
        (
            {"training": {"plateau_factor": 1}},
            ["training.plateau_factor: should be less than 1 .*"],
        ),
        (
            {"seed": False, "sites": {"bounds": [False, 42, 30, 62]}},
            ["seed: must not be false, .* no and off.*", "sites.bounds: must not be false.*"],
        ),
        (
            {"embed": {"geotiff_dates": [20210630, "20210630"]}},
            [rf"embed.geotiff_dates.{n}: write a date as 2021-06-30 .*" for n in (0, 1)],
        ),
        ({"cube": {"resolution_m": 20}}, ["cube.resolution_m: .* pixels of 10 m; .*"]),
        (landsat(clouds="scl"), [".*clouds: landsat-c2-l2 has no scl; use qa_pixel or none"]),
        (landsat(quantity="backscatter"), [".*quantity: landsat-c2-l2 is reflectance.*"]),
        (landsat(loader="sentinel-2-l2a"), [".*clouds: sentinel-2-l2a has no qa_pixel.*"]),
        (landsat(loader="landsat"), ["sensors.landsat.loader.*"]),
        (
            landsat(clouds="cloudsen12", brdf=True, bands=BANDS),
            [".*clouds: .*brdf: landsat-c2-l2 is not.*no reflectance B02, B03.*use some of.*"],
        ),
        (
            {
                "sampling": {},
                "seed": "many",
                "sensors": {
                    "sentinel-2": {"sequence": {"stride_space": -9}},
                    "sentinel-1": {"latent_dim": 0},
                },
                "gpp": {"fluxnet": "nowhere"},
            },
            [
                "sampling: unknown key.*",
                "seed: should be a valid integer.*",
                "sensors.sentinel-1.latent_dim: .*",
                "sensors.sentinel-2.sequence.stride_space: should be greater than or equal to 1.*",
                "gpp.fluxnet: file not found: nowhere",
            ],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "config",
)
def test_all_mistakes_are_reported_each_in_one_line_with_its_key(
    content: dict[Any, Any], lines: list[str]
) -> None:
    with pytest.raises(UserError) as raised:
        parse(content)
    head, *found = str(raised.value).splitlines()
    assert head == f"the config has {len(lines)} mistake(s):"
    for shown, line in zip(sorted(found), sorted(lines), strict=True):
        shown = shown.strip()
        assert shown == line or re.fullmatch(line.replace("?", r"\?"), shown), shown


def test_a_sensor_without_cubes_is_dropped_by_null() -> None:
    content = {"sites": None, "gpp": None, "sensors": {"sentinel-1": None}}
    assert list(parse(content | own({"sentinel-2": TABLE})).sensors) == ["sentinel-2"]


def test_one_cube_is_enough_to_look_at() -> None:
    """A split that cannot be trained on is refused by its own rule: cubes alone can be made."""
    alone = {"sites": None, "gpp": None} | own({"sentinel-1": TABLE, "sentinel-2": TABLE})
    assert list(parse(alone).own_cubes) == ["a"]


def test_the_keys_of_learning_do_not_decide_cubes() -> None:
    sensor = Config().sensors["sentinel-2"]
    other = sensor.model_copy(update={"latent_dim": 3, "rgb": None})
    assert sensor.source() == other.source()


def test_user_supplied_cubes_alone_may_have_another_pixel_size() -> None:
    alone = {"sites": None, "sensors": {"sentinel-1": None}, "cube": {"resolution_m": 20}}
    assert parse(alone | own({"sentinel-2": TABLE})).cube.resolution_m == 20


@pytest.mark.parametrize("link", [False, True])
def test_a_product_of_the_run_is_no_input_of_it(link: bool, tmp_path: Path) -> None:
    """Such as the sites that it drew: the rule would read what it writes."""
    table = tmp_path / "results" / "mine" / "sites.csv"
    table.parent.mkdir(parents=True)
    rows = [f"{name},{name},x,1,50,2020-01-01,2020-12-31" for name in "abc"]
    table.write_text("\n".join(["cube,site,land_cover,lon,lat,start,end", *rows]))
    named = tmp_path / "mine.csv" if link else table
    if link:
        named.symlink_to(table)
    sites = {"file": str(named.relative_to(tmp_path))}
    assert parse({"run": "other", "sites": sites}, tmp_path).sites
    with pytest.raises(UserError, match=r"sites.file: .* is a product of this run.*copy it"):
        parse({"run": "mine", "sites": sites}, tmp_path)


def test_products_need_a_folder(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match=r"run: .*results is not a folder, or a link to none"):
        parse({"run": "mine"}, tmp_path)
    results.unlink()
    results.mkdir()
    (results / "mine").touch()
    assert parse({"run": "other"}, tmp_path)
    with pytest.raises(UserError, match=r"run: .*results/mine is not a folder"):
        parse({"run": "mine"}, tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 042", "seed: 042 in .*my.yaml, line 1, is 34 in YAML; write that, or quote"),
        ("gpp: {series: {footprint_radius_m: 1:30}}", "gpp.*: 1:30 in .* is 90 in YAML"),
        ("sites: {bounds: [0, 42, 1:10.5, 62]}", "sites.bounds.2: 1:10.5 in .* is 70.5 in"),
        ("own_cubes: {a: {site: 010}}", "own_cubes.a.site: 010 in .*"),
    ],
)
def test_numbers_that_yaml_reads_as_others_are_refused(
    text: str, line: str, tmp_path: Path
) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=line):
        check_yaml([file])
    file.write_text("seed: '042'\nmodels: 1_000\nrun: 0x1F\nkey: 0\ntime: 2020-01-01 10:20:30\n")
    check_yaml([file])


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("a: &anchor {b: 1}\nsplit:\n  <<: *anchor\n  test: 0.08\n  test: 0.9\n")
    with pytest.raises(UserError, match=r"split.test: duplicate key in .*my.yaml, lines 4 and 5"):
        check_yaml([file])


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


@pytest.mark.parametrize("names", [[], ["demo.yaml", "demo-landsat.yaml"]])
def test_the_third_sensor_leaves_the_others_unchanged(names: list[str]) -> None:
    demo, changes = [yaml.safe_load((ROOT / "config" / name).read_text()) for name in names] or [
        {},
        {},
    ]
    before, config = parse(demo), parse(merged(merged(demo, LANDSAT), changes))
    assert set(config.sensors) == {"sentinel-1", "sentinel-2", "landsat"}
    assert all(config.sensors[name] == sensor for name, sensor in before.sensors.items())
    assert config.fusion.weights == before.fusion.weights
    assert config.sensors["landsat"].encoder.width == before.sensors["sentinel-2"].encoder.width
    assert set(Config().sensors) == {"sentinel-1", "sentinel-2"}


def test_the_papers_objective_hides_nothing_and_learns_everything() -> None:
    names = ("demo.yaml", "paper-objective.yaml")
    demo, paper = (yaml.safe_load((ROOT / "config" / name).read_text()) for name in names)
    for sensor in parse(merged(demo, paper)).sensors.values():
        assert (sensor.scale, sensor.encoder.kind) == ("linear", "patch")
        assert not sensor.encoder.blind and not sensor.encoder.components
        assert sensor.loss.neighbourhood == sensor.loss.centre == 0


def test_one_file_of_a_sensor_is_a_list_of_one() -> None:
    configs = [parse(own({"sentinel-2": files})) for files in (TABLE, [TABLE])]
    assert configs[0] == configs[1]
    assert parse(configs[0].model_dump(mode="json")) == configs[0]


def test_one_word_sets_all_devices() -> None:
    assert set(parse({"devices": "cpu"}).devices.model_dump().values()) == {"cpu"}
    assert Config().devices.clouds == "cpu" and Config().devices.training == "gpu"


def test_keys_of_the_trained_fusion_are_accepted_and_have_no_effect(caplog) -> None:
    old = {"width": 32, "layers": 1, "training": {"learning_rate": 0.1}, "embedding_dim": 5}
    assert parse({"fusion": old}) == parse({"fusion": {"embedding_dim": 5}})
    assert "fusion: layers, training, width: no effect any more" in caplog.text
