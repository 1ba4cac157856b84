"""What a failed request means, and how often it is retried."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.signatures import without_signatures

if TYPE_CHECKING:
    import requests

Result = TypeVar("Result")

LONGEST_WAIT_S = 120.0
"""No server may make a job sleep longer than this between two attempts."""

LARGEST_BYTES = 2**26
"""Nothing that is read whole (granule metadata, tokens) is larger."""

LONGEST_BODY = 10
"""A whole body may take this many times the longest silence."""

LONGEST_REASON = 4000
"""Bytes in which a server says why it did not answer."""


class Failure(Exception):
    """One of the four kinds of failure."""

    def of(self, key: str) -> Self:
        """The same failure, naming the asset ``key``."""
        named = copy(self)
        named.args = (f"{key}: {self}",)
        return named


class Missing(Failure):
    """The data are gone or unreadable, and will be however often they are asked for."""


class Rejected(Failure):
    """The server does not serve the request (401, 403, a login page): the data may well be there.

    The signature may have expired.
    """


class Damaged(Failure):
    """The data arrived, but cannot be read: damaged there, or on the way here."""


class Busy(Failure):
    """The server did not answer properly, and may do so after ``retry_after`` seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def with_retries(
    action: Callable[[], Result],
    *,
    what: str,
    retries: int,
    refresh: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """The result of ``action``, repeated ``retries`` times while it fails and there is hope.

    A rejected request is repeated at once after ``refresh`` (sign again), the others after the
    time that the server asks for, or one that doubles.

    Raises :class:`Missing` if the data are gone, or still damaged at the end, :class:`Rejected` if
    the request still is, and UserError, naming ``what``, if the server stays busy: neither says
    anything about the data.
    """

    def failure(state: RetryCallState) -> BaseException | None:
        return state.outcome.exception() if state.outcome else None

    def renew(state: RetryCallState) -> None:
        if isinstance(failure(state), Rejected):
            refresh()

    def wait(state: RetryCallState) -> float:
        error, attempt = failure(state), state.attempt_number
        if isinstance(error, Rejected) and attempt == 1:
            return 0.0
        asked = error.retry_after if isinstance(error, Busy) else None
        return min(0.25 * 2.0**attempt if asked is None else asked, LONGEST_WAIT_S)

    policy = Retrying(
        retry=retry_if_exception_type((Rejected, Damaged, Busy)),
        stop=stop_after_attempt(retries + 1),
        wait=wait,
        before_sleep=renew,
        sleep=sleep,
        reraise=True,
    )
    try:
        return policy(action)
    except Rejected as error:
        raise Rejected(f"rejected: {error}") from error
    except Damaged as error:
        raise Missing(f"unreadable: {error}") from error
    except Busy as error:
        raise UserError(
            f"{what}: no proper answer after {retries + 1} tries ({error}); "
            "run again later, or raise catalog.retries or catalog.timeout_s"
        ) from error


def check_status(status: int, retry_after: str | None = None, body: bytes = b"") -> None:
    """Raise what an HTTP status means, with the reason in the body; return if it is success.

    Only 404 and 410 say that the data are gone.
    """
    if status in (404, 410):
        raise Missing(f"gone (HTTP {status})")
    if status == 416:
        raise Damaged(f"empty or shorter than before (HTTP {status})")
    if status in (408, 425, 429) or status >= 500:
        raise Busy(f"HTTP {status}", seconds_of(retry_after))
    if status >= 400:
        raise Rejected(f"HTTP {status}{_reason_in(body)}")


def _reason_in(body: bytes) -> str:
    """The reason that a STAC API (JSON) or a store of objects (XML) gives; without secrets."""
    text = body[:LONGEST_REASON].decode(errors="replace").lstrip()
    if code := re.search(r"<Code>(\w{1,80})</Code>", text):
        # Not the message beside it: Azure's repeats what was signed.
        return f", {code[1]}"
    return f", {in_a_line(without_signatures(text))}" if text.startswith("{") else ""


def check_content(start: bytes) -> None:
    """Raise :class:`Rejected` where a page or a message came in place of a file.

    ``start`` are the first bytes. Servers that want a login send one with the status of success.
    """
    text = start[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<") and re.search(rb"<(!doctype html|html|head|body)[\s>]", text):
        raise Rejected("a web page came instead, such as a login page")
    plain = text.isascii() and b"\0" not in text and not text.startswith(b"<")
    if (text and plain) or re.match(rb"(<\?xml[^>]*>\s*)?<error>", text):
        raise Rejected(f"a message came instead{_reason_in(start)}")


def seconds_of(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date; None for anything else."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return None if retry_after is None else max(0.0, Retry().parse_retry_after(retry_after))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def get(url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None) -> bytes:
    """Body of one HTTP GET.

    A silence of ``timeout_s`` ends it, and so does a body that takes :data:`LONGEST_BODY` times
    as long: a peer that drips would otherwise never be given up. With ``headers``, which hold a
    key, a redirect is not followed: requests would send them on to another host.

    Raises :class:`Missing`, :class:`Rejected` or :class:`Busy` by the status; silence, broken
    connections and short bodies count as busy, a body beyond :data:`LARGEST_BYTES` as missing,
    and so on by :func:`check_status`.
    """
    deadline = time.monotonic() + LONGEST_BODY * timeout_s
    with _answer(url, timeout_s, headers=headers, allow_redirects=not headers) as answer:
        if answer.is_redirect:
            raise Missing("it redirects, and a key is not sent on to another address")
        body = bytearray()
        # Not iter_content: that waits for a whole part, however slowly its bytes drip.
        while part := answer.raw.read1(2**16, decode_content=True):
            body += part
            if len(body) > LARGEST_BYTES:
                raise Missing(f"larger than {LARGEST_BYTES / 2**20:.0f} MB")
            if time.monotonic() > deadline:
                raise Busy("too slow")
        return bytes(body)


def check_start(url: str, *, timeout_s: float) -> None:
    """Raise what the answer to a request for the first bytes of a file means.

    For files that GDAL could not open: it keeps the body and the Retry-After to itself.
    """
    with _answer(url, timeout_s, headers={"Range": f"bytes=0-{LONGEST_REASON - 1}"}) as answer:
        check_content(answer.raw.read1(LONGEST_REASON, decode_content=True))


@contextmanager
def _answer(url: str, timeout_s: float, **how: Any) -> Iterator[requests.Response]:
    """A successful answer, whose body is yet to be read; raises what another one means."""
    import requests
    from urllib3.exceptions import HTTPError

    try:
        with requests.get(url, timeout=timeout_s, stream=True, **how) as answer:
            if answer.status_code >= 400:
                body = answer.raw.read1(LONGEST_REASON, decode_content=True)
                check_status(answer.status_code, answer.headers.get("Retry-After"), body)
            yield answer
    except (requests.RequestException, HTTPError) as error:
        # The message of the exception itself holds the address, and so the signature.
        raise Busy(type(error).__name__) from error
