"""What makes no sense in a sensor is told at once; the shipped third sensor is a whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.config import Config, parse
from pipeline_lib.errors import UserError


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """One config laid over another, as Snakemake does it."""
    content = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = merged(content[key], value) if both else value
    return content


def overlaid(root: Path, *names: str, **changes: object) -> dict[str, Any]:
    content = Config().model_dump(mode="json")
    for name in names:
        content = merged(content, yaml.safe_load((root / "config" / name).read_text()))
    content["sensors"]["landsat"] = content["sensors"]["landsat"] | changes
    return content


@pytest.mark.parametrize(
    "names", [("landsat.yaml",), ("demo.yaml", "landsat.yaml", "demo-landsat.yaml")]
)
def test_the_third_sensor_joins_the_others_unchanged(
    project_root: Path, names: tuple[str, ...]
) -> None:
    config = parse(overlaid(project_root, *names))
    without = Config().model_dump(mode="json")
    if len(names) > 1:
        without = merged(without, yaml.safe_load((project_root / "config/demo.yaml").read_text()))
    before = parse(without)
    assert set(config.sensors) == {"sentinel-1", "sentinel-2", "landsat"}
    for name, sensor in before.sensors.items():
        assert config.sensors[name] == sensor
    assert config.fusion.centre_weights == before.fusion.centre_weights | {"landsat": 1.75}
    assert config.sensors["landsat"].encoder.width == before.sensors["sentinel-2"].encoder.width
    assert set(Config().sensors) == {"sentinel-1", "sentinel-2"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"clouds": "cloudsen12"}, "landsat-c2-l2 has no cloudsen12; use qa_pixel or none"),
        ({"clouds": "scl"}, "landsat-c2-l2 has no scl; use qa_pixel or none"),
        ({"brdf": True}, "brdf: landsat-c2-l2 is not corrected to nadir view; use false"),
        ({"quantity": "backscatter"}, "quantity: landsat-c2-l2 is reflectance"),
        (
            {"bands": ["blue", "green", "red", "nir08", "swir16", "lwir11"]},
            "bands: landsat-c2-l2 has no reflectance lwir11; use some of coastal, blue, green",
        ),
        ({"loader": "sentinel-2-l2a"}, "clouds: sentinel-2-l2a has no qa_pixel"),
        ({"loader": "landsat"}, "sensors.landsat.loader"),
    ],
)
def test_what_a_loader_cannot_do_is_told(
    project_root: Path, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        parse(overlaid(project_root, "landsat.yaml", **changes))


def test_all_that_a_loader_cannot_do_is_told_at_once(project_root: Path) -> None:
    content = overlaid(project_root, "landsat.yaml", clouds="cloudsen12", brdf=True)
    content["sensors"]["landsat"]["bands"] = ["B02", "B03", "B04", "B08", "B11", "B12"]
    content["sensors"]["sentinel-1"]["brdf"] = True
    with pytest.raises(UserError) as caught:
        parse(content)
    text = str(caught.value)
    first = next(line for line in text.splitlines() if "sensors.landsat: " in line)
    assert all(part in first for part in ("clouds: ", "brdf: ", "has no reflectance B02, B03"))
    assert "sensors.sentinel-1: brdf: " in text
