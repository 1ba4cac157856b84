"""Probes and maps as tables and figures, from small evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_scores import maps, probes

from pipeline_lib.errors import UserError
from pipeline_lib.files import write_json
from pipeline_lib.report.maps import map_tables, plot_maps
from pipeline_lib.report.probes import plot_probes, probe_tables, shown_split


def test_tables_show_the_test_split_else_validation() -> None:
    content = probes("test", unseen=2)
    sites, test, validation, steps, skipped = probe_tables("made", content)
    assert shown_split(content) == "test" and not test.folded and validation.folded
    assert test.columns[2:4] == ("bands (3)", "2 principal components (2)")
    assert test.rows[0] == (
        "leaf area: change to the next date", "R²", "0.250", "0.500", "-2.000", "0.750",
        "0.000", 60, 1234,
    )  # fmt: skip
    assert sites.columns == ("features", "leaf area, linear (R²)", "leaf area, boosting (R²)")
    assert sites.rows[1] == ("2 principal components (2)", 0.5, 0.5)
    assert sites.caption.endswith("; 80 samples by target.")
    assert steps.rows == (("average of 5 x 5 px", 0.25, 2.0),)
    assert [row[0] for row in test.rows[1:]] == ["land cover, linear", "land cover, k nearest"]
    assert test.rows[1][-3] == "0.333", "chance among three classes"
    assert validation.rows == ()
    assert skipped.rows == (
        ("validation", "all", "it has no cube"),
        ("test", "land cover", "2 classes that the fit has not seen"),
    )
    content = probes("validation", reason="the target has one class only")
    sites, test, validation, steps, skipped = probe_tables("made", content)
    assert shown_split(content) == "validation" and not validation.folded
    assert test.rows == () and len(validation.rows) == 1
    assert ("validation", "land cover", "the target has one class only") in skipped.rows


@pytest.mark.parametrize("content", [probes("test"), probes("test") | {"splits": {}}])
def test_probes_are_drawn_alike_every_time(content: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "probes.json", content)
    for name in ("one", "two"):
        plot_probes(evaluation=tmp_path / "probes.json", output=tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_tables_of_maps_hold_numbers_and_counts() -> None:
    measured, counted, skipped = map_tables(maps(mapped=True))
    assert measured.columns[2:] == (
        "noise in time", "step to the next pixel", "step within a field", "contrast at boundaries",
    )  # fmt: skip
    assert measured.rows[0] == ("test", "bands (3)", 0.5, 0.25, 2.0, 2.0)
    assert counted.rows == (("test", 2, 1, 4, 5, 3, 2),)
    assert skipped.rows == (("validation", "none of its cubes is embedded"),)


@pytest.mark.parametrize("content", [maps(mapped=True), maps(mapped=False), {"splits": {}}])
def test_maps_are_drawn_alike_every_time(content: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "maps.json", content)
    for name in ("one", "two"):
        plot_maps(evaluation=tmp_path / "maps.json", output=tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with pytest.raises(UserError, match=r"none\.json"):
        plot_maps(evaluation=tmp_path / "none.json", output=tmp_path / "x.png")
