"""Signatures, keys and passwords: what is never shown, logged or kept."""

from __future__ import annotations

import os
import re
from typing import Any

SIGNS = (
    r"(?:sig|signature|[\w-]*token|[\w-]*api[_-]?key|[\w-]*subscription-key|password|"
    r"x-(?:amz|goog)-signature)"
)
"""Names of the parameters that sign an address, at Azure, Amazon, Google and others."""
COMPANIONS = (
    r"(?:se|st|sp|sv|sr|sip|spr|skoid|sktid|skt|ske|sks|skv|x-(?:amz|goog)-[\w-]+|expires|policy|"
    r"key-pair-id|awsaccesskeyid|googleaccessid)"
)
"""Names of parameters that stand beside a signature and mean nothing without it."""

QUERY = re.compile(r"(https?://[^\s'\"?]+)\?[^\s'\"]*", re.I)
"""A remote address with its query, which is where a signature stands."""
ENCODED = re.compile(r"(https?%3A%2F%2F[^\s'\"]*?)%3F[^\s'\"]*", re.I)
"""The same as a part of another address, as GDAL writes it."""
PARAMETER = re.compile(rf"([?&;]{SIGNS}=)[^\s'\"&;]+", re.I)
"""The same where a library tells the address without its host."""
USER = re.compile(r"(https?://)[^\s'\"/@]+@", re.I)
HEADER = re.compile(
    r"((?:authorization|ocp-apim-subscription-key|x-api-key)['\"]?\s*[:=]\s*['\"]?)"
    r"(?:(?:bearer|basic)\s+)?[^\s'\",}]+",
    re.I,
)
KEYS = ("PC_SDK_SUBSCRIPTION_KEY",)
"""Variables of the environment that hold keys."""

ADDRESS = re.compile(r"(\w+://)(?:[^\s'\"/@]+@)?([^\s'\"?#]+)(?:\?([^\s'\"#]*))?")


def without_signatures(text: str) -> str:
    """The text without queries of remote addresses, keys and passwords."""
    shown = ENCODED.sub(r"\1?...", QUERY.sub(r"\1?...", USER.sub(r"\1", text)))
    shown = HEADER.sub(r"\1...", PARAMETER.sub(r"\1...", shown))
    for key in filter(None, map(os.environ.get, KEYS)):
        shown = shown.replace(key, "...")
    return shown


def unsigned(content: Any) -> Any:
    """JSON whose addresses hold no signature, key or password; other queries stay as they are."""
    if isinstance(content, dict):
        return {key: unsigned(value) for key, value in content.items()}
    if isinstance(content, list):
        return [unsigned(value) for value in content]
    return ADDRESS.sub(_unsigned, content) if isinstance(content, str) else content


def _unsigned(address: re.Match[str]) -> str:
    scheme, place, query = address.groups()
    named = [(part.partition("=")[0], part) for part in (query or "").split("&")]
    if not any(re.fullmatch(SIGNS, name, re.I) for name, _ in named):
        return f"{scheme}{place}" if query is None else f"{scheme}{place}?{query}"
    secret = f"{SIGNS}|{COMPANIONS}"
    kept = "&".join(part for name, part in named if not re.fullmatch(secret, name, re.I))
    return f"{scheme}{place}?{kept}" if kept else f"{scheme}{place}"
