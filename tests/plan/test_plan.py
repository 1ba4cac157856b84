"""A plan grows with what is planned, and says what it rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from pipeline_lib.config import Area, Config, parse_before_models, parts_of
from pipeline_lib.files import read_json
from pipeline_lib.plan import (
    RATES,
    Job,
    Machine,
    Plan,
    Rates,
    Work,
    as_markdown,
    summarise,
    work_of,
    write_plan,
)
from pipeline_lib.plan.cubes import cubes_of, samples_of
from pipeline_lib.plan.figure import draw_plans
from pipeline_lib.plan.memory import learning_mb

VALLEY = {"bounds": [11.0, 48.0, 11.6, 48.4], "start": "2021-01-01", "end": "2021-12-31"}


@pytest.fixture(scope="module")
def rates() -> Rates:
    return Rates.read(RATES)


def use(areas: Mapping[str, object], **more: object) -> Config:
    return parse_before_models({"run": "mine", "models": "nowhere", "areas": areas, **more})


def work(config: Config, rates: Rates) -> dict[str, Work]:
    return {row.rule: row for row in work_of(config, parts_of(config.areas), rates)}


def test_every_rate_has_a_unit_and_an_origin(rates: Rates) -> None:
    for name, rate in rates.rates.items():
        assert set(rate) == {"value", "unit", "by"} and rate["unit"] and rate["by"], name
    assert {"gpu.speedup", "passes.sentinel-2-l2a"} <= set(rates.assumed())


def test_satellites_pass_more_often_in_the_north(rates: Rates) -> None:
    def passes(south: float) -> dict[str, float]:
        area = Area.model_validate(VALLEY | {"bounds": [11.0, south, 11.01, south + 0.01]})
        cubes = cubes_of(use({"a": VALLEY}), {"a": area}, rates)
        return {kind.sensor: kind.passes for kind in cubes}

    near, far = passes(0.0), passes(60.0)
    # Sentinel-2: swaths of 290 km every 280 km at the equator, every 5 days.
    assert near["sentinel-2"] == pytest.approx(73 * 290 / 280, rel=0.02)
    assert far["sentinel-2"] == pytest.approx(2 * near["sentinel-2"], rel=0.02)


def test_an_area_costs_as_much_as_its_parts(rates: Rates) -> None:
    west, south, east, north = VALLEY["bounds"]
    one = work(use({"a": VALLEY}), rates)
    half = VALLEY | {"bounds": [west, south, (west + east) / 2, north]}
    two = work(use({"a": half, "b": half}), rates)
    assert one["embed_cube"].jobs == 1 and two["embed_cube"].jobs == 2
    for rule in ("build_cube", "embed_cube"):
        assert two[rule].core_seconds == pytest.approx(one[rule].core_seconds, rel=0.1)
        assert two[rule].kept == pytest.approx(one[rule].kept, rel=0.01)
    longer = work(use({"a": VALLEY | {"start": "2020-01-01"}}), rates)
    assert longer["embed_cube"].kept == pytest.approx(2 * one["embed_cube"].kept, rel=0.01)


def test_a_small_cube_reads_whole_blocks_and_the_margin_of_the_cloud_model(rates: Rates) -> None:
    small = VALLEY | {"bounds": [11.0, 48.0, 11.012, 48.008]}
    rows = [work(use({"a": area}), rates)["build_cube"] for area in (small, VALLEY)]
    assert rows[0].read / rows[0].kept > 5 * rows[1].read / rows[1].kept


def test_choices_of_the_config_change_the_plan(rates: Rates) -> None:
    usual = work(use({"a": VALLEY}), rates)
    small = work(use({"a": VALLEY}, embed={"dtype": "int8"}), rates)
    assert small["embed_cube"].kept == pytest.approx(usual["embed_cube"].kept * 7.4 / 16.1)
    sensors = Config().model_dump(mode="json")["sensors"]
    sensors["sentinel-2"] |= {"clouds": "scl"}
    cheap = work(use({"a": VALLEY}, sensors=sensors), rates)
    assert cheap["build_cube"].core_seconds < 0.5 * usual["build_cube"].core_seconds
    assert usual["embed_cube"].gpu_seconds and not usual["build_cube"].gpu_seconds


def test_trainings_grow_with_epochs_up_to_their_samples(rates: Rates) -> None:
    def trained(**training: object) -> float:
        config = Config.model_validate({"training": training})
        return work(config, rates)["train_encoder"].core_seconds

    assert trained(max_epochs=100) == pytest.approx(trained() / 2, rel=0.05)
    assert trained(max_samples=1000) < trained() / 20
    config = Config()
    (cubes,) = (kind for kind in cubes_of(config, {}, rates) if kind.sensor == "sentinel-2")
    starts = (int(cubes.frames) - 20) // 17 + 1
    # 90 pixels hold patches of 15 at nine places, every 9 pixels.
    samples = samples_of(cubes, config.sensors["sentinel-2"], config.context)
    assert samples == cubes.count * starts * 81


def test_a_plan_adds_its_rules_up_by_stage() -> None:
    rows = [
        Work("pin_items", "cubes", 4, 3600.0, 0.0, 1.0, 3.0),
        Work("build_cube", "cubes", 4, 7200.0, 0.0, 10.0, 30.0),
        Work("embed_cube", "embeddings", 2, 36000.0, 360.0, 0.0, 5e9),
    ]
    largest = {"build_cube": Job(4000), "embed_cube": Job(6000, 2)}
    plan = summarise("mine", rows, largest, Machine(cores=4, memory_mb=10_000), ["A note."])
    cubes, embeddings = plan.stages
    assert (cubes.jobs, cubes.core_hours, cubes.gpu_hours) == (8, 3.0, 0.0)
    assert (cubes.read, cubes.kept, cubes.memory_mb) == (11.0, 33.0, 4000)
    assert embeddings.gpu_hours == 0.1
    assert plan.total.jobs == 10 and plan.total.core_hours == 13 and plan.total.memory_mb == 6000
    page = as_markdown(plan)
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len({len(line) for line in table}) == 1 and len(table) == 5
    assert "| embeddings |    2 |         10 |       0.1 |" in page
    assert "Here: 4 cores, 10 GB of memory, no GPU" in page
    assert "pin_items 4, build_cube 4, embed_cube 2" in page and "* A note." in page


@pytest.mark.parametrize(
    ("machine", "side_by_side", "hours"),
    [
        # Ten jobs of an hour on two cores, or of a tenth of one on a GPU.
        (Machine(cores=8, memory_mb=64_000), 4, 3 * 1),
        (Machine(cores=8, memory_mb=13_000), 2, 5 * 1),
        (Machine(cores=1, memory_mb=64_000), 1, 10 * 2),
        (Machine(cores=8, memory_mb=1000), 1, 10 * 1),
        (Machine(cores=8, memory_mb=64_000, gpus=1), 1, 10 * 0.1),
        (Machine(cores=64, memory_mb=64_000, gpus=16), 10, 1 * 0.1),
    ],
)
def test_cores_memory_and_gpus_bound_what_runs_side_by_side(
    machine: Machine, side_by_side: int, hours: float
) -> None:
    rows = [Work("embed_cube", "embeddings", 10, 72_000.0, 3600.0)]
    plan = summarise("mine", rows, {"embed_cube": Job(6000, 2)}, machine, [])
    assert plan.stages[0].side_by_side == side_by_side
    assert plan.stages[0].wall_hours == pytest.approx(hours) == plan.total.wall_hours


def test_the_memory_of_a_training_grows_with_cubes_and_batches(tmp_path: Path) -> None:
    def memory(sensors: Sequence[str] = ("sentinel-2",), batch: int = 256, **keys: object) -> int:
        return learning_mb(Config.model_validate(keys), sensors, batch)

    # 500 cubes of 90 pixels and 38 dates, ten bands of two bytes; 634 kB a sample and layer.
    assert memory() == pytest.approx(3000 + 3080 + 256 * 16 * 0.634, rel=0.02)
    assert memory(batch=512) - memory() == pytest.approx(256 * 16 * 0.634, rel=0.01)
    assert memory(["sentinel-1", "sentinel-2"]) > memory() + 5000
    assert memory(batch=1, sites={"count": 4}) < 3100
    (tmp_path / "own.nc").write_bytes(bytes(10**7))
    own = {"site": "a", "files": {"sentinel-2": {"file": tmp_path / "own.nc", "variable": "r"}}}
    few = {"sites": {"count": 3}}
    assert memory(own_cubes={"a": own, "b": own}, **few) == memory(**few) + 10


def test_a_plan_is_written_with_a_picture_before_its_models_exist(tmp_path: Path) -> None:
    outline = tmp_path / "outline.geojson"
    ring = [[11, 48], [11.3, 48], [11.3, 48.3], [11, 48]]
    outline.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    large = VALLEY | {"bounds": [11.0, 48.0, 13.0, 49.0], "outline": str(outline)}
    write_plan(
        config=use({"valley": large}, embed={"geotiff_dates": ["2021-06-01"]}),
        largest={"build_cube": Job(79000)},
        machine=Machine(cores=2, memory_mb=16000),
        json=tmp_path / "plan.json",
        page=tmp_path / "plan.md",
        figure=tmp_path / "plan.png",
    )
    plan = Plan.model_validate(read_json(tmp_path / "plan.json"))
    notes = "\n".join(plan.notes)
    assert "No models at nowhere yet" in notes and "over 50 km are cut: 1 parts" in notes
    assert "gpu.speedup" in notes and "GeoTIFFs, up to 1 of each" in notes
    assert plan.total.memory_mb == 79000 and plan.jobs["build_cube"] == 2
    draw_plans([plan, plan], tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > (tmp_path / "plan.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["germany", "europe"])
def test_whole_countries_are_planned_in_parts(
    project_root: Path, rates: Rates, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    content = yaml.safe_load((project_root / "config" / f"{name}.yaml").read_text())
    config = parse_before_models(content)
    rows = work(config, rates)
    assert rows["embed_cube"].jobs > 100 and rows["build_cube"].read > 1e12
