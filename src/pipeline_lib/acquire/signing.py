"""Signing of asset addresses, at the moment of reading.

Tokens live for 45 minutes at most and a signed address is never refreshed, so pinned items
stay unsigned. Planetary Computer's own client has no timeout and asks once per thread for
the same container; hence this small one, which reads the client's settings.
"""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol

from pipeline_lib.acquire.items import moment_of
from pipeline_lib.acquire.retries import Busy, Lost, get, patiently
from pipeline_lib.config import Catalog
from pipeline_lib.errors import UserError

BLOB = re.compile(r"https?://([a-z0-9]+)\.blob\.core\.windows\.net/([a-z0-9$-]+)/", re.ASCII)
"""An address in Azure's blob storage: account and container, as Azure lets them be named."""
MARGIN = timedelta(minutes=2)
"""A token is renewed while it still lives this long, since a read takes time."""


class Signer(Protocol):
    """Signs addresses; safe to share between threads."""

    def sign(self, href: str) -> str:
        """Return the address with a signature that is good now."""

    def forget(self, signed: str) -> None:
        """Drop the signature of a signed address: the server refused it."""


class NoSigner:
    """Leaves every address as it is."""

    def sign(self, href: str) -> str:
        """Return the address as it is."""
        return href

    def forget(self, signed: str) -> None:
        """Nothing to drop."""


class PlanetaryComputerSigner:
    """Signs addresses in Azure's blob storage with Planetary Computer's tokens.

    Parameters
    ----------
    timeout_s
        Longest wait for one answer of the token endpoint, s.
    retries
        How often a failed request is repeated.
    """

    def __init__(self, timeout_s: float, retries: int) -> None:
        self.timeout_s = timeout_s
        self.retries = retries
        self._tokens: dict[str, tuple[str, datetime]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def sign(self, href: str) -> str:
        """Return the address with a token; addresses elsewhere are returned as they are."""
        container = container_of(href)
        if container is None:
            return href
        with self._lock:
            lock = self._locks.setdefault(container, threading.Lock())
        # One request per container, however many threads start cold.
        with lock:
            token, expiry = self._tokens.get(container, ("", datetime.min.replace(tzinfo=UTC)))
            if expiry - datetime.now(UTC) < MARGIN:
                token, expiry = self._ask(container)
                self._tokens[container] = token, expiry
        return f"{href}?{token}"

    def forget(self, signed: str) -> None:
        """Drop the token that an address was signed with, unless a newer one has come."""
        href, _, token = signed.partition("?")
        container = container_of(href)
        if container is None:
            return
        with self._lock:
            if self._tokens.get(container, ("",))[0] == token:
                del self._tokens[container]

    def _ask(self, container: str) -> tuple[str, datetime]:
        from planetary_computer.settings import Settings

        settings = Settings.get()
        key = settings.subscription_key
        headers = {"Ocp-Apim-Subscription-Key": key} if key else None

        def ask() -> tuple[str, datetime]:
            body = get(f"{settings.sas_url}/{container}", timeout_s=self.timeout_s, headers=headers)
            try:
                answer = json.loads(body)
                return str(answer["token"]), moment_of(answer["msft:expiry"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Busy(f"not a token ({type(error).__name__})") from error

        what = f"token endpoint {settings.sas_url}, container {container}"
        try:
            return patiently(ask, what=what, retries=self.retries)
        except Lost as error:
            raise UserError(
                f"{what}: {error}; check catalog.signing and the subscription key"
            ) from error


def container_of(href: str) -> str | None:
    """Account and container (``account/container``) of an unsigned blob, or None."""
    found = BLOB.match(href)
    return f"{found[1]}/{found[2]}" if found and "?" not in href else None


def signer_of(catalog: Catalog) -> Signer:
    """The signer that the config chooses."""
    if catalog.signing == "planetary-computer":
        return PlanetaryComputerSigner(catalog.timeout_s, catalog.retries)
    return NoSigner()
