"""Broken configs: each mistake is told with its key, and no job starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from broken_configs import FILES, Broken, broken_configs, told
from real_runs import run

from pipeline_lib.config import Config, parse
from pipeline_lib.config.check import check
from pipeline_lib.config.keys import keys_of
from pipeline_lib.config.mistakes import FORMER, PATTERNS
from pipeline_lib.errors import UserError

FORTY = broken_configs()


def mistakes(content: dict[str, object]) -> list[str]:
    with pytest.raises(UserError) as raised:
        parse(content)
    return told(str(raised.value))


def test_there_are_forty() -> None:
    assert len({broken.what for broken in FORTY}) == 40


@pytest.mark.parametrize("broken", FORTY, ids=lambda broken: broken.what)
def test_the_key_of_a_mistake_is_named(broken: Broken) -> None:
    lines = mistakes(broken.merged())
    assert any(line.startswith(broken.key) for line in lines), lines
    assert not any(word in line for line in lines for word in ("Input should", "Field required"))


@pytest.mark.workflow
@pytest.mark.parametrize("broken", FORTY[::16], ids=lambda broken: broken.what)
def test_a_broken_config_starts_no_job(broken: Broken, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(yaml.safe_dump(broken.content))
    ended = run(tmp_path / "run", "--configfile", str(file))
    assert ended.status == 1 and not ended.traceback
    assert told(ended.text) == mistakes(broken.merged())
    assert not (tmp_path / "run" / "results").exists()


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ({"latent_dim": 3}, "latent_dim: unknown key; did you mean `sensors.<name>.latent_dim`?"),
        ({"seeds": 3}, "seeds: unknown key; did you mean `seed` or `gpp.regressor.seeds`?"),
        ({"Seed": 3}, "Seed: unknown key; did you mean `seed`?"),
        ({"lens": 3}, "lens: unknown key; see config/README.md for the known ones"),
        (
            {"sensors": {"sentinel-2": {"width": 32}}},
            "sensors.sentinel-2.width: unknown key; did you mean "
            "`sensors.sentinel-2.encoder.width`?",
        ),
        (
            {"gpp": {"towers": [{"name": "DE-Hai", "lat": 51, "vegetation": "DBF", "lno": 10}]}},
            "gpp.towers.0.lno: unknown key; did you mean `gpp.towers.0.lon`?",
        ),
        (
            {"sensors": {"sentinel-1": {"loss": {"fusion_centre": 2}}}},
            "sensors.sentinel-1.loss.fusion_centre: unknown key; was renamed to "
            "`fusion.centre_weights.sentinel-1`",
        ),
        ({"embed": {"dtype": "Float-16"}}, "'Float-16' is no choice; did you mean `float16`?"),
        ({"embed": {"dtype": "double"}}, "'double' is no choice; use int8 or float16 or float32"),
        ({"sites": {"bounds": [1, 2, 3]}}, "sites.bounds: has 3 entries, which are too few; it"),
        ({"sites": {"bounds": [1, 2, 3, 4, 5]}}, "sites.bounds: has 5 entries, which are too many"),
        ({"areas": {"a": {"start": "2021-01-01"}}}, "areas.a: lacks end, bounds; add them"),
        ({"fusion": {"reference": "sentinel2"}}, "'sentinel2'; did you mean `sentinel-2`?"),
    ],
)
def test_a_mistake_comes_with_advice(content: dict[str, object], advice: str) -> None:
    assert any(advice in line for line in mistakes(Broken("", "", "", content).merged()))


def test_what_the_outermost_block_finds_is_told_line_by_line() -> None:
    content = {
        "split": {},
        "fusion": {"reference": "x"},
        "gpp": {"fluxes": {"weather": ["TA_F"] * 2}},
    }
    starts = [line.split(":")[0] for line in mistakes(Broken("", "", "", content).merged())]
    assert starts == ["fusion.reference", "gpp.fluxes.weather"]


def test_former_keys_are_none_of_todays_and_patterns_have_words() -> None:
    assert not FORMER.keys() & {key.name for key in keys_of(Config)}
    found = set()

    def search(node: object) -> None:
        if isinstance(node, dict):
            found.update(node[key] for key in ("pattern",) if isinstance(node.get(key), str))
            found.update(node.get("patternProperties", {}))
        for inner in (
            node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        ):
            search(inner)

    search(Config.model_json_schema())
    assert found == PATTERNS.keys()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a key twice", "seed: stands twice in my.yaml, lines 2 and 3; keep one"),
        ("a bracket that is not closed", "my.yaml, line 3: no YAML"),
        ("a tab", r"my.yaml, line 3: no YAML: .*; indent with spaces"),
        ("a list", "my.yaml: holds no keys"),
        ("nothing", "my.yaml: holds no keys"),
        ("a day that is in no calendar", "line 2: no YAML: 2019-02-30 is in no calendar"),
        ("text in UTF-16", "my.yaml: is no text in UTF-8"),
        ("a key that is a number", "1: unknown key"),
        ("(there is no such file)", "my.yaml: cannot be read"),
    ],
)
def test_a_file_that_is_no_config_is_told_with_the_line(
    what: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if (content := FILES[what]) is not None:
        Path("my.yaml").write_text(content, "utf-16" if "UTF-16" in what else "utf-8")
    with pytest.raises(UserError, match=said):
        check([Path("my.yaml")])


@pytest.mark.workflow
def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("run: small\nsplit:\n  test: 0.08\n  test: 0.9\n")
    ended = run(tmp_path / "run", "--configfile", str(file), "--dry-run")
    assert ended.status == 1 and not ended.traceback
    assert told(ended.text) == [f"split.test: stands twice in {file}, lines 3 and 4; keep one"]
