"""Signing of asset addresses, at the moment of reading.

Tokens live for 45 minutes at most and a signed address is never refreshed, so pinned items
stay unsigned. ``planetary_computer`` asks for tokens and keeps them; what it lacks is added
here: a time limit, one request for a container however many threads start cold, and a rejected
token that is dropped.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import Future

from pipeline_lib.acquire.retries import Busy, Missing, check_status, with_retries
from pipeline_lib.config import Catalog
from pipeline_lib.errors import UserError

BLOB = re.compile(r"https?://([a-z0-9]+)\.blob\.core\.windows\.net/([a-z0-9$-]+)/[^?]*", re.ASCII)
"""An unsigned address in Azure's blob storage, account and container as Azure names them."""


class Signer:
    """Signs addresses as ``catalog.signing`` says; safe to share between threads."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._lock = threading.Lock()

    def sign(self, href: str) -> str:
        """The address with a token that is good now; as it is if it needs none.

        Raises UserError if the token endpoint does not answer, or rejects the request.
        """
        if self.catalog.signing == "none" or not BLOB.fullmatch(href):
            return href
        from planetary_computer.settings import Settings

        what = f"token endpoint {Settings.get().sas_url}"
        with self._lock:
            try:
                return with_retries(
                    lambda: _signed(href, self.catalog.timeout_s),
                    what=what,
                    retries=self.catalog.retries,
                )
            except Missing as error:
                raise UserError(
                    f"{what}: {error}; check catalog.signing and the subscription key"
                ) from error

    def forget(self, signed: str) -> None:
        """Drop the token of a signed address that was rejected, unless a newer one has come."""
        from planetary_computer.sas import TOKEN_CACHE

        _, _, rejected = signed.partition("?")
        with self._lock:
            for endpoint in [at for at, token in TOKEN_CACHE.items() if token.token == rejected]:
                del TOKEN_CACHE[endpoint]


def _signed(href: str, timeout_s: float) -> str:
    """The signed address, or what the token endpoint's failure means.

    Its client has no time limit: it runs in a thread, which is left behind if it hangs.
    """
    from planetary_computer import sign_url
    from requests import HTTPError, RequestException

    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(str(sign_url(href)))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(timeout_s)
    except TimeoutError:
        raise Busy("no answer") from None
    except HTTPError as error:
        check_status(error.response.status_code, error.response.headers.get("Retry-After"))
        raise
    except RequestException as error:
        raise Busy(type(error).__name__) from error
    except (ValueError, TypeError) as error:
        raise Busy(f"not a token ({type(error).__name__})") from error
