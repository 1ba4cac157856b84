"""Servers that misbehave: what is repeated, what is given up, and what the user reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from file_server import BLOB_HOST, TOKEN_PATH, Answer, Fault, FileServer

from pipeline_lib.acquire.reading import AssetReader
from pipeline_lib.acquire.retries import (
    LONGEST_WAIT_S,
    Busy,
    Damaged,
    Missing,
    Rejected,
    check_status,
    seconds_of,
    with_retries,
)
from pipeline_lib.acquire.signing import Signer
from pipeline_lib.config import Catalog
from pipeline_lib.errors import UserError


class Failing:
    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def test_busy_servers_are_asked_again_after_the_time_they_name() -> None:
    waits: list[float] = []
    action = Failing(Busy("HTTP 429", 7), Busy("HTTP 503"), Busy("HTTP 429", 1e6))
    assert with_retries(action, what="x", retries=3, sleep=waits.append) == "done"
    assert waits == [7, 1.0, LONGEST_WAIT_S]


def test_a_server_that_stays_busy_is_no_reason_to_record_a_loss() -> None:
    action = Failing(*[Busy("HTTP 503")] * 9)
    with pytest.raises(UserError, match=r"item x: no proper answer after 3 tries \(HTTP 503\)"):
        with_retries(action, what="item x", retries=2, sleep=lambda _: None)
    assert action.calls == 3


def test_rejected_requests_are_signed_again_and_end_as_missing() -> None:
    fresh: list[int] = []
    action = Failing(Rejected("HTTP 403"))
    more: Any = {"what": "x", "retries": 2, "sleep": lambda _: None}
    assert with_retries(action, refresh=lambda: fresh.append(1), **more) == "done"
    assert fresh == [1]
    with pytest.raises(Missing, match="rejected"):
        with_retries(Failing(*[Rejected("HTTP 403")] * 9), **more)


def test_what_is_gone_is_not_asked_for_again() -> None:
    action = Failing(Missing("gone"))
    with pytest.raises(Missing):
        with_retries(action, what="x", retries=5, sleep=lambda _: None)
    assert action.calls == 1
    with pytest.raises(Missing, match="unreadable"):
        with_retries(Failing(*[Damaged("cut")] * 9), what="x", retries=1, sleep=lambda _: None)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (404, Missing),
        (410, Missing),
        (403, Rejected),
        (429, Busy),
        (503, Busy),
        (500, Busy),
        (400, Missing),
    ],
)
def test_statuses(status: int, meaning: type[Exception]) -> None:
    check_status(200)
    with pytest.raises(meaning):
        check_status(status, "3")


def test_retry_after_is_a_number_or_a_date() -> None:
    assert seconds_of("12") == 12
    assert seconds_of(None) is None
    assert seconds_of("soon") is None
    soon = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert seconds_of(soon) == pytest.approx(30, abs=2)


def test_missing_scenes_are_recorded_or_fatal(tmp_path: Path) -> None:
    items = [{"id": name, "assets": {}} for name in "abc"]

    def load(item: dict[str, Any]) -> str:
        if item["id"] == "b":
            raise Missing("B02: gone")
        return item["id"].upper()

    reader = AssetReader(Catalog(source=str(tmp_path), signing="none"))
    assert [(i["id"], result) for i, result in reader.each(items, load)] == [("a", "A"), ("c", "C")]
    assert reader.missing == ["item b: B02: gone"]
    strict = AssetReader(Catalog(source=str(tmp_path), signing="none", missing_asset="fail"))
    with pytest.raises(UserError, match="item b: B02: gone"):
        list(strict.each(items, load))


BLOB = f"http://{BLOB_HOST}/sentinel2-l2/32/T/PS/B02.tif"
SIGNING = Catalog(source="https://stac.example.org", timeout_s=5, retries=0)


@pytest.fixture
def server(tmp_path: Path, token_endpoint: Callable[[str], None]) -> Iterator[FileServer]:
    with FileServer(tmp_path) as server:
        token_endpoint(server.sas_url)
        yield server


def test_only_unsigned_blobs_are_signed(server: FileServer) -> None:
    signer = Signer(SIGNING)
    for href in ("https://example.org/a.tif", "/local/a.tif", BLOB + "?sig=old"):
        assert signer.sign(href) == href
    assert Signer(SIGNING.model_copy(update={"signing": "none"})).sign(BLOB) == BLOB
    assert server.requests == []
    assert signer.sign(BLOB) == BLOB + "?sig=1"
    assert server.requests == [f"GET {TOKEN_PATH}archive/sentinel2-l2"]


def test_many_threads_ask_once_and_a_rejected_token_is_renewed(server: FileServer) -> None:
    signer = Signer(SIGNING)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(signer.sign, [BLOB] * 64)) == {BLOB + "?sig=1"}
    assert len(server.requests) == 1
    signer.forget(BLOB + "?sig=1")
    assert signer.sign(BLOB) == BLOB + "?sig=2"
    # Another thread was refused with the old token only now: the new one is still good.
    signer.forget(BLOB + "?sig=1")
    assert signer.sign(BLOB) == BLOB + "?sig=2"


def test_a_silent_token_endpoint_is_given_up(server: FileServer) -> None:
    server.faults = [Fault(TOKEN_PATH, Answer.silence)]
    with pytest.raises(UserError, match=r"token endpoint .* after 1 tries \(ReadTimeout\)"):
        Signer(SIGNING.model_copy(update={"timeout_s": 0.3})).sign(BLOB)
