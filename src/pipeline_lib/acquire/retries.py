"""What a failed request means, and how long to go on trying."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline_lib.errors import UserError

Result = TypeVar("Result")

LONGEST_WAIT_S = 120.0
"""No server may make a job sleep longer than this between two tries."""

LARGEST_BYTES = 2**26
"""Nothing that is read whole (granule metadata, tokens) is larger."""

LONGEST_BODY = 10
"""A whole body may take this many times the longest silence."""


class Lost(Exception):
    """The data are gone or unreadable, and will be however often they are asked for."""


class Refused(Exception):
    """The server refused the request (403): the signature may have expired."""


class Busy(Exception):
    """The server did not answer properly; it may do so later.

    Attributes
    ----------
    retry_after
        Seconds after which the server asks to be tried again, if it told them.
    """

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Damaged(Exception):
    """The data arrived, but cannot be read: damaged there, or on the way here."""


def patiently(
    action: Callable[[], Result],
    *,
    what: str,
    retries: int,
    refresh: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Repeat ``action`` until it succeeds, is hopeless, or has been repeated enough.

    Parameters
    ----------
    action
        Raises :class:`Lost`, :class:`Refused`, :class:`Busy` or :class:`Damaged` on failure.
    what
        What is attempted, for messages.
    retries
        How often a failed attempt is repeated.
    refresh
        Called after a refusal, before the next attempt: sign again.
    sleep
        Waits for so many seconds.

    Raises
    ------
    Lost
        If the data are gone, still refused or still damaged after all repetitions.
    UserError
        If the server stayed busy or silent: that tells nothing about the data.
    """
    for attempt in range(retries + 1):
        last = attempt == retries
        try:
            return action()
        except Refused as error:
            if last:
                raise Lost(f"refused: {error}") from error
            refresh()
            if attempt > 0:
                sleep(_wait(attempt, None))
        except Damaged as error:
            if last:
                raise Lost(f"unreadable: {error}") from error
            sleep(_wait(attempt, None))
        except Busy as error:
            if last:
                raise UserError(
                    f"{what}: no proper answer after {retries + 1} tries ({error}); "
                    "run again later, or raise catalog.retries or catalog.timeout_s"
                ) from error
            sleep(_wait(attempt, error.retry_after))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _wait(attempt: int, asked: float | None) -> float:
    wait = asked if asked is not None else 0.5 * 2.0**attempt
    return min(max(wait, 0.0), LONGEST_WAIT_S)


def check_status(status: int, retry_after: str | None = None) -> None:
    """Raise what an HTTP status means; return where it means success."""
    if status < 400:
        return
    if status in (404, 410):
        raise Lost(f"gone (HTTP {status})")
    if status in (401, 403):
        raise Refused(f"HTTP {status}")
    if status in (408, 425, 429) or status >= 500:
        raise Busy(f"HTTP {status}", seconds_of(retry_after))
    raise Lost(f"HTTP {status}")


def seconds_of(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3)."""
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    if retry_after is None:
        return None
    if re.fullmatch(r"\s*\d+\s*", retry_after):
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def get(url: str, *, timeout_s: float, headers: dict[str, str] | None = None) -> bytes:
    """Body of one HTTP GET.

    Parameters
    ----------
    timeout_s
        Longest silence, s. The whole body may take :data:`LONGEST_BODY` times as long: a peer
        that drips would otherwise never be given up.

    Raises
    ------
    Lost, Refused, Busy
        By the status; silence, broken connections and short bodies count as busy. A body
        beyond :data:`LARGEST_BYTES` is lost, and so is one elsewhere where headers are sent:
        they hold a key.
    """
    import requests
    from urllib3.exceptions import HTTPError

    deadline = time.monotonic() + LONGEST_BODY * timeout_s
    try:
        with requests.get(
            url,
            timeout=(timeout_s, timeout_s),
            headers=headers,
            stream=True,
            allow_redirects=headers is None,
        ) as answer:
            check_status(answer.status_code, answer.headers.get("Retry-After"))
            if answer.is_redirect:
                raise Lost("leads elsewhere")
            parts, size = [], 0
            # Not iter_content: that waits for a whole part, however slowly its bytes drip.
            while part := answer.raw.read1(2**16, decode_content=True):
                parts.append(part)
                size += len(part)
                if size > LARGEST_BYTES:
                    raise Lost(f"larger than {LARGEST_BYTES / 2**20:.0f} MB")
                if time.monotonic() > deadline:
                    raise Busy("too slow")
            return b"".join(parts)
    except (requests.RequestException, HTTPError) as error:
        # The message of the exception itself holds the address, and so the signature.
        raise Busy(type(error).__name__) from error


def wait_asked_by(url: str, *, timeout_s: float) -> float | None:
    """Seconds that a server wants to be left alone, by its Retry-After to a single byte."""
    import requests

    try:
        with requests.get(
            url, timeout=(timeout_s, timeout_s), headers={"Range": "bytes=0-0"}, stream=True
        ) as answer:
            return seconds_of(answer.headers.get("Retry-After"))
    except requests.RequestException:
        return None
