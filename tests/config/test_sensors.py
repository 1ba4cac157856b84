"""The shipped third sensor, and what a loader cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.config import Config, parse
from pipeline_lib.config.root import merged
from pipeline_lib.errors import UserError


def overlaid(root: Path, *names: str, **changes: object) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name in names:
        content = merged(content, yaml.safe_load((root / "config" / name).read_text()))
    return merged(content, {"sensors": {"landsat": changes}})


@pytest.mark.parametrize(
    "names", [("landsat.yaml",), ("demo.yaml", "landsat.yaml", "demo-landsat.yaml")]
)
def test_the_third_sensor_leaves_the_others_unchanged(
    project_root: Path, names: tuple[str, ...]
) -> None:
    config = parse(overlaid(project_root, *names))
    demo = yaml.safe_load((project_root / "config" / "demo.yaml").read_text())
    before = parse(demo if len(names) > 1 else {})
    assert set(config.sensors) == {"sentinel-1", "sentinel-2", "landsat"}
    assert all(config.sensors[name] == sensor for name, sensor in before.sensors.items())
    assert config.fusion.centre_weights == before.fusion.centre_weights | {"landsat": 1.75}
    assert config.sensors["landsat"].encoder.width == before.sensors["sentinel-2"].encoder.width
    assert set(Config().sensors) == {"sentinel-1", "sentinel-2"}


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"clouds": "scl"}, ["clouds: landsat-c2-l2 has no scl; use qa_pixel or none"]),
        ({"quantity": "backscatter"}, ["quantity: landsat-c2-l2 is reflectance"]),
        ({"loader": "sentinel-2-l2a"}, ["clouds: sentinel-2-l2a has no qa_pixel"]),
        ({"loader": "landsat"}, ["sensors.landsat.loader"]),
        (
            {
                "clouds": "cloudsen12",
                "brdf": True,
                "bands": ["B02", "B03", "B04", "B08", "B11", "B12"],
            },
            ["clouds: ", "brdf: landsat-c2-l2 is not", "no reflectance B02, B03", "use some of"],
        ),
    ],
)
def test_all_that_a_loader_cannot_do_is_reported(
    project_root: Path, changes: dict[str, object], messages: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        parse(overlaid(project_root, "landsat.yaml", **changes))
    assert all(message in str(caught.value) for message in messages)
