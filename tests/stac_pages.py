"""The pages of a small STAC API, for servers that the tests make themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def stac_pages(
    url: str, collection: str, items: Sequence[Any], *, search: str = "", then: str = ""
) -> dict[str, dict[str, Any]]:
    """Content of each page, by its path below ``url``.

    The search is at ``search``, by default among them, and its page of items links to ``then``.
    """
    stac = {"stac_version": "1.0.0", "description": "static"}
    parts = ("core", "item-search", "collections")
    links = [{"rel": "root", "href": url}, {"rel": "data", "href": f"{url}/collections"}]
    found = {"rel": "search", "href": search or f"{url}/search", "type": "application/geo+json"}
    landing = stac | {
        "type": "Catalog",
        "id": "api",
        "conformsTo": [f"https://api.stacspec.org/v1.0.0/{part}" for part in parts],
        "links": [*links, found | {"method": "POST"}, found | {"method": "GET"}],
    }
    extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
    about = stac | {"type": "Collection", "id": collection, "license": "proprietary", "links": []}
    following = [{"rel": "next", "href": then, "method": "GET"}] if then else []
    page = {"type": "FeatureCollection", "features": list(items), "links": following}
    return {"": landing, "search": page, f"collections/{collection}": about | {"extent": extent}}
