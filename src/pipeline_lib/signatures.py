"""Signatures, keys and passwords are removed from logs, messages and files."""

from __future__ import annotations

import os
import re
from typing import Any

SIGNS = (
    r"(?:sig|signature|[\w-]*token|[\w-]*api[_-]?key|[\w-]*subscription-key|password|"
    r"x-(?:amz|goog)-signature)"
)
"""Names of the parameters that sign a URL at Azure, Amazon, Google and others."""
COMPANIONS = (
    r"(?:se|st|sp|sv|sr|sip|spr|skoid|sktid|skt|ske|sks|skv|x-(?:amz|goog)-[\w-]+|expires|policy|"
    r"key-pair-id|awsaccesskeyid|googleaccessid)"
)
"""Names of parameters that accompany a signature and are useless without it."""

QUERY = re.compile(r"(https?://[^\s'\"?]+)\?[^\s'\"]*", re.I)
"""A URL with its query, which contains the signature."""
ENCODED = re.compile(r"(https?%3A%2F%2F[^\s'\"]*?)%3F[^\s'\"]*", re.I)
"""The same within another URL, as GDAL writes it."""
PARAMETER = re.compile(rf"([?&;]{SIGNS}=)[^\s'\"&;]+", re.I)
"""The same, if a library logs the URL without its host."""
USER = re.compile(r"(https?://)[^\s'\"/@]+@", re.I)
HEADER = re.compile(
    r"((?:authorization|ocp-apim-subscription-key|x-api-key)['\"]?\s*[:=]\s*['\"]?)"
    r"(?:(?:bearer|basic)\s+)?[^\s'\",}]+",
    re.I,
)
KEYS = ("PC_SDK_SUBSCRIPTION_KEY",)
"""Environment variables with keys."""

ADDRESS = re.compile(r"(\w+://)(?:[^\s'\"/@]+@)?([^\s'\"?#]+)(?:\?([^\s'\"#]*))?")


def without_signatures(text: str) -> str:
    """The text without queries of URLs, keys and passwords."""
    shown = ENCODED.sub(r"\1?...", QUERY.sub(r"\1?...", USER.sub(r"\1", text)))
    shown = HEADER.sub(r"\1...", PARAMETER.sub(r"\1...", shown))
    for key in filter(None, map(os.environ.get, KEYS)):
        shown = shown.replace(key, "...")
    return shown


def unsigned(content: Any) -> Any:
    """JSON without signatures, keys and passwords in its URLs; other queries are kept."""
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
