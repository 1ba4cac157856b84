"""Signing of asset addresses, at the moment of reading.

Tokens live for 45 minutes at most and a signed address is never refreshed, so pinned items
stay unsigned. Settings, tokens and their cache are ``planetary_computer``'s. Its request for a
token is not used: it has no time limit, and sends the subscription key on where it is redirected.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

from pipeline_lib.acquire.retries import Busy, Missing, Rejected, check_content, get, with_retries
from pipeline_lib.config import Catalog
from pipeline_lib.errors import UserError

if TYPE_CHECKING:
    from planetary_computer.sas import SASToken

BLOB = re.compile(r"https?://([a-z0-9]+)\.blob\.core\.windows\.net/([a-z0-9$-]+)/[^?]*", re.ASCII)
"""An unsigned address in Azure's blob storage, account and container as Azure names them."""
SHORTEST_LIFE_S = 60
"""A token with less time left is renewed."""


class Signer:
    """Signs addresses as ``catalog.signing`` says; safe to share between threads."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._lock = threading.Lock()

    def sign(self, href: str) -> str:
        """The address with a token that is good now; as it is if it needs none.

        Raises UserError if the token endpoint does not answer, or rejects the request.
        """
        blob = BLOB.fullmatch(href)
        if self.catalog.signing == "none" or not blob:
            return href
        from planetary_computer.sas import TOKEN_CACHE
        from planetary_computer.settings import Settings

        service = Settings.get().sas_url
        what, endpoint = f"token endpoint {service}", f"{service}/{blob[1]}/{blob[2]}"
        # Under the lock, a container's token is asked for once, however many threads start cold.
        with self._lock:
            token = TOKEN_CACHE.get(endpoint)
            if token is None or token.ttl() < SHORTEST_LIFE_S:
                try:
                    token = with_retries(
                        lambda: _token(endpoint, self.catalog.timeout_s),
                        what=what,
                        retries=self.catalog.retries,
                    )
                except (Missing, Rejected) as error:
                    raise UserError(
                        f"{what}: {error}; check catalog.signing and the subscription key"
                    ) from error
                TOKEN_CACHE[endpoint] = token
            return str(token.sign(href).href)

    def forget(self, signed: str) -> None:
        """Drop the token of a signed address that was rejected, unless a newer one has come."""
        from planetary_computer.sas import TOKEN_CACHE

        _, _, rejected = signed.partition("?")
        with self._lock:
            for endpoint in [at for at, token in TOKEN_CACHE.items() if token.token == rejected]:
                del TOKEN_CACHE[endpoint]


def _token(endpoint: str, timeout_s: float) -> SASToken:
    from planetary_computer.sas import SASToken
    from planetary_computer.settings import Settings

    key = Settings.get().subscription_key
    headers = {"Ocp-Apim-Subscription-Key": key} if key else None
    content = get(endpoint, timeout_s=timeout_s, headers=headers)
    if content.lstrip().startswith(b"<"):
        check_content(content)
    try:
        token = SASToken.model_validate_json(content)
        token.ttl()
    except (ValueError, TypeError) as error:
        raise Busy(f"not a token ({type(error).__name__})") from error
    return token
