"""Servers that misbehave: what is repeated, what is given up, and what the user reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from file_server import BLOB_HOST, TOKEN_PATH, Answer, Fault, FileServer

from pipeline_lib.acquire.reading import AssetReader, meaning_of
from pipeline_lib.acquire.retries import (
    LONGEST_WAIT_S,
    Busy,
    Damaged,
    Missing,
    Rejected,
    check_content,
    check_status,
    seconds_of,
    with_retries,
)
from pipeline_lib.acquire.signing import Signer
from pipeline_lib.config import Catalog
from pipeline_lib.errors import UserError


class Failing:
    """An action that fails in the given ways, and then is done."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.waits: list[float] = []
        self.fresh = 0

    def __call__(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    def renew(self) -> None:
        self.fresh += 1

    def run(self, retries: int) -> str:
        more: Any = {"refresh": self.renew, "sleep": self.waits.append}
        return with_retries(self, what="item x", retries=retries, **more)


def test_busy_servers_are_asked_again_after_the_time_they_name() -> None:
    action = Failing(Busy("HTTP 429", 7), Busy("HTTP 503"), Busy("HTTP 429", 1e6))
    assert action.run(3) == "done"
    assert action.waits == [7, 1.0, LONGEST_WAIT_S] and not action.fresh


def test_rejected_requests_are_signed_again() -> None:
    action = Failing(Rejected("HTTP 403"))
    assert action.run(2) == "done" and action.fresh == 1


@pytest.mark.parametrize(
    ("failure", "tries", "error", "message"),
    [
        (Busy("HTTP 503"), 3, UserError, r"item x: no proper answer after 3 tries \(HTTP 503\)"),
        (Rejected("HTTP 403"), 3, Rejected, "rejected: HTTP 403"),
        (Damaged("cut"), 3, Missing, "unreadable"),
        (Missing("gone"), 1, Missing, "gone"),
    ],
)
def test_what_fails_for_ever_is_given_up(
    failure: Exception, tries: int, error: type[Exception], message: str
) -> None:
    action = Failing(*[failure] * 9)
    with pytest.raises(error, match=message):
        action.run(2)
    assert len(action.failures) == 9 - tries


@pytest.mark.parametrize(
    ("meaning", "statuses"),
    [
        (Missing, (404, 410)),
        (Damaged, (416,)),
        (Rejected, (400, 401, 402, 403, 407, 409, 422, 451)),
        (Busy, (408, 429, 500, 503)),
    ],
)
def test_statuses(meaning: type[Exception], statuses: tuple[int, ...]) -> None:
    check_status(200)
    for status in statuses:
        with pytest.raises(meaning):
            check_status(status, "3")


def test_retry_after_is_a_number_or_a_date() -> None:
    assert (seconds_of("12"), seconds_of(None), seconds_of("soon")) == (12, None, None)
    soon = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert seconds_of(soon) == pytest.approx(30, abs=2)


MISSING, REJECTED = Missing("B02: gone"), Rejected("rejected: B02: HTTP 403")


@pytest.mark.parametrize(
    ("missing_asset", "failure", "error"),
    [
        ("record", MISSING, ""),
        ("fail", MISSING, r"item b: B02: gone; set catalog\.missing_asset to record"),
        ("record", REJECTED, "item b: .*HTTP 403; .* access to it is denied"),
        ("fail", REJECTED, "item b: .*HTTP 403; .* access to it is denied"),
        ("record-rejected", REJECTED, ""),
    ],
)
def test_scenes_that_fail_are_recorded_or_fatal(
    missing_asset: Any, failure: Exception, error: str
) -> None:
    def load(item: dict[str, Any]) -> str:
        if item["id"] == "b":
            raise failure
        return item["id"].upper()

    reader = AssetReader(Catalog(source="/a", signing="none", missing_asset=missing_asset))
    found = reader.each([{"id": name, "assets": {}} for name in "abc"], load)
    if error:
        with pytest.raises(UserError, match=error):
            list(found)
    else:
        assert [(item["id"], result) for item, result in found] == [("a", "A"), ("c", "C")]
        assert reader.missing == [f"item b: {failure}"]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML PUBLIC>", "a web page"),
        (b"<html lang='en'>", "a web page"),
        (b'<?xml version="1.0"?><!DOCTYPE html>', "a web page"),
        (b"<!-- made by x --><html>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>NoAuth</Code>", "a message .*, NoAuth"),
        (b'{"message": "log in"}', 'a message .*, {"message": "log in"}'),
    ],
)
def test_pages_and_messages_in_place_of_a_file_are_named(start: bytes, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        check_content(start)
    for of_a_file in (b"II*\0", b"MM\0+", b"<?xml?><n1:Level-2A_Tile_ID>", b""):
        check_content(of_a_file)


def test_a_local_file_without_permission_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.xml"
    path.touch()
    item = {"id": "a", "assets": {"xml": {"href": str(path)}}}
    reader = AssetReader(Catalog(source=str(tmp_path), signing="none"))
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(Rejected, match="rejected: xml: Permission denied: "):
        reader.read_document(item, "xml", len)
    error = meaning_of(RuntimeError("a.xml: Permission denied"), "B02", str(path), 1)
    assert isinstance(error, Rejected)


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


def test_a_login_page_in_place_of_a_token_is_named(server: FileServer) -> None:
    server.faults = [Fault(TOKEN_PATH, lambda it: it.another(b"<html>Sign in</html>"))]
    with pytest.raises(UserError, match=r"rejected: a web page came .*; check catalog\.sign"):
        Signer(SIGNING).sign(BLOB)


def test_a_silent_token_endpoint_is_given_up(server: FileServer) -> None:
    server.faults = [Fault(TOKEN_PATH, Answer.silence)]
    with pytest.raises(UserError, match=r"token endpoint .* after 1 tries \(ReadTimeout\)"):
        Signer(SIGNING.model_copy(update={"timeout_s": 0.3})).sign(BLOB)
