"""What the docs say of reruns is what Snakemake would do, for every key of the config."""

from __future__ import annotations

import pytest
import reruns

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("reruns")]


def test_the_table_of_reruns_is_in_step_with_the_workflow() -> None:
    told = reruns.PAGE.read_text().split(reruns.BEGIN)[1].split(reruns.END)[0]
    made = reruns.table()
    assert told.splitlines() == made.splitlines(), "run `python tests/workflow/reruns.py`"
    assert len(made.splitlines()) == len(reruns.every_key()) + 2


def test_what_steers_a_run_reruns_nothing_but_the_report() -> None:
    rows = reruns.table(["catalog.timeout_s", "training.devices", "catalog.requests"]).splitlines()
    assert all(row.split(" | ")[1] in ("nothing", "`report`") for row in rows[2:])
