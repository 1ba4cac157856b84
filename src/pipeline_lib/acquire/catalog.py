"""Search of a STAC catalog, and the items pinned for a cube."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pipeline_lib.acquire.baseline import baseline_of
from pipeline_lib.acquire.items import ADVICE, checked_items, moment_of
from pipeline_lib.acquire.retries import Busy, Damaged, Failure, Missing, check_status, with_retries
from pipeline_lib.config import Catalog, CubeGrid, SensorSource
from pipeline_lib.cubes import CubeRequest
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import read_json, write_json
from pipeline_lib.signatures import unsigned

Item = dict[str, Any]
Bounds = tuple[float, float, float, float]

PAGE = 250
"""Items asked for at once; Planetary Computer's limit is 1000, its answers are large."""
MOST_PAGES = 1000
"""A catalog that needs more for one cube links from page to page without end."""


def is_url(source: str) -> bool:
    """Whether a source or an address is remote."""
    return source.startswith(("http://", "https://"))


def search(catalog: Catalog, collection: str, bounds: Bounds, start: date, end: date) -> list[Item]:
    """Unsigned items of a collection, sorted by time and identifier.

    ``bounds`` are west, south, east, north in degrees; both days are included, UTC. Asset
    addresses of a folder start with the folder's own path.

    Raises UserError if the catalog cannot be read, or does not answer.
    """
    of_catalog = _items_of_api if is_url(catalog.source) else _items_of_folder
    return _sorted(of_catalog(catalog, collection, bounds, start, end))


def license_of(catalog: Catalog, collection: str) -> str:
    """Licence of a collection with the address of its terms, ``not stated`` without one.

    Raises UserError if the catalog has no such collection, or does not answer.
    """
    if is_url(catalog.source):
        content = _collection_of_api(catalog, collection)
    else:
        file = Path(catalog.source) / "collections" / f"{collection}.json"
        content = read_json(file) if file.exists() else {}
        if not isinstance(content, dict):
            raise UserError(f"{file}: not a collection; {ADVICE}")
    links = content["links"] if isinstance(content.get("links"), list) else []
    terms = [link for link in links if isinstance(link, dict) and link.get("rel") == "license"]
    texts = [content.get("license"), *(link.get("href") for link in terms[:1])]
    return " ".join(in_a_line(unsigned(t)) for t in texts if isinstance(t, str)) or "not stated"


def _sorted(items: Iterable[Item]) -> list[Item]:
    unique = {item["id"]: item for item in items}.values()
    return sorted(unique, key=lambda item: (start_of(item).isoformat(), item["id"]))


def start_of(item: Item) -> datetime:
    """Time of an item, or the start of its period; UTC."""
    properties = item["properties"]
    return moment_of(properties.get("datetime") or properties["start_datetime"])


def _end_of(item: Item) -> datetime:
    text = item["properties"].get("end_datetime")
    return start_of(item) if text is None else moment_of(text)


def _items_of_api(
    catalog: Catalog, collection: str, bounds: Bounds, start: date, end: date
) -> list[Item]:
    with _client(catalog, f"the search for {collection}") as client:
        results = client.search(
            collections=[collection],
            bbox=list(bounds),
            # Scenes are timed to the millisecond: the last second is not the end of a day.
            datetime=f"{start}T00:00:00Z/{end}T23:59:59.999999Z",
            limit=PAGE,
        )
        found: list[Any] = []
        for number, page in enumerate(results.pages_as_dicts()):
            if number == MOST_PAGES:
                raise UserError(
                    f"{catalog.source}: more than {MOST_PAGES} pages of {collection} items for "
                    f"one search; {ADVICE}"
                )
            found += page["features"]
    return checked_items(found, catalog.source)


def _collection_of_api(catalog: Catalog, name: str) -> Item:
    with _client(catalog, f"the collection {name}") as client:
        try:
            return dict(client.get_collection(name).to_dict())
        except Missing:
            pass
    raise UserError(f"{catalog.source}: no collection {name}; check the sensor's collection")


@contextmanager
def _client(catalog: Catalog, what: str) -> Iterator[Any]:
    """A client of a STAC API for ``what``; whatever fails is a UserError that names the step."""
    step = "the landing page"
    try:
        client = _open_client(catalog)
        step = what
        yield client
    except UserError:
        raise
    except Exception as error:
        # Valid JSON that is no STAC ends in a dozen kinds of them.
        raise UserError(
            f"{catalog.source}: {step} failed ({type(error).__name__}: {in_a_line(error)}); check "
            "that catalog.source is the address of a STAC API"
        ) from error


def _open_client(catalog: Catalog) -> Any:
    from pystac import Link
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    def raise_status(answer: Any, **_: Any) -> None:
        check_status(answer.status_code, answer.headers.get("Retry-After"))

    class RetryingIO(StacApiIO):
        """Asks again what was not answered properly; a search changes nothing."""

        def read_text(self, source: Any, *arguments: Any, **more: Any) -> str:
            # pystac opens as a file of this machine whatever is no URL.
            if not isinstance(source, Link) and not is_url(str(source)):
                raise Missing(f"it links to {in_a_line(source)}, which is no address")
            return super().read_text(source, *arguments, **more)

        def request(self, *arguments: Any, **more: Any) -> str:
            def ask() -> str:
                try:
                    text = super(RetryingIO, self).request(*arguments, **more)
                except APIError as error:
                    cause = error.__context__
                    if isinstance(cause, Failure):
                        raise cause from None
                    raise Busy(type(cause or error).__name__) from error
                try:
                    json.loads(text)
                except ValueError as error:
                    raise Damaged("not complete JSON") from error
                return text

            return with_retries(ask, what=catalog.source, retries=catalog.retries)

    # pystac-client's own retries end where the body of an answer begins.
    access = RetryingIO(max_retries=None, timeout=catalog.timeout_s)
    access.session.hooks["response"].append(raise_status)
    return Client.open(catalog.source, stac_io=access, timeout=catalog.timeout_s)


def _items_of_folder(
    catalog: Catalog, collection: str, bounds: Bounds, start: date, end: date
) -> list[Item]:
    """Items of the item collections ``items/*.json``."""
    source = Path(catalog.source)
    files = sorted((source / "items").glob("*.json"))
    if not files:
        raise UserError(
            f"{source}: no items/*.json there; catalog.source must be a STAC API's address or a "
            "folder of STAC item collections"
        )
    found = []
    for file in files:
        content = read_json(file)
        features = content.get("features", []) if isinstance(content, dict) else None
        if not isinstance(features, list):
            raise UserError(f"{file}: not an item collection; {ADVICE}")
        candidates = [item for item in features if _may_match(item, collection, bounds)]
        for item in checked_items(candidates, file):
            if item.get("bbox") is None:
                raise UserError(f"{file}: item {item['id']} has no bbox; {ADVICE}")
            if (
                _overlap(item["bbox"], bounds)
                and start_of(item).date() <= end
                and _end_of(item).date() >= start
            ):
                found.append(_with_paths(item, source))
    return found


def _may_match(item: Any, collection: str, bounds: Bounds) -> bool:
    """False for an item of another collection or place; others are validated first."""
    if not isinstance(item, dict):
        return True
    if item.get("collection") != collection:
        return False
    try:
        return _overlap(item["bbox"], bounds)
    except (KeyError, TypeError, ValueError):
        return True


def _overlap(box: Sequence[float], bounds: Bounds) -> bool:
    west, south, east, north = (*box[:2], *box[-2:]) if len(box) == 4 else (*box[:2], *box[3:5])
    return west < bounds[2] and east > bounds[0] and south < bounds[3] and north > bounds[1]


def _with_paths(item: Item, source: Path) -> Item:
    assets = {
        key: asset if is_url(asset["href"]) else asset | {"href": str(source / asset["href"])}
        for key, asset in item["assets"].items()
    }
    return item | {"assets": assets}


def newest_versions(items: Iterable[Item]) -> list[Item]:
    """The items without older versions of one Sentinel-2 acquisition of one tile.

    The newer processing baseline wins, then the later time of generation. Two granules of a
    tile that a break between data strips has cut are not versions of each other.
    """
    best: dict[tuple[Any, ...], Item] = {}
    for item in items:
        key = _acquisition(item)
        if key not in best or _version(item) > _version(best[key]):
            best[key] = item
    return _sorted(best.values())


def _acquisition(item: Item) -> tuple[Any, ...]:
    """What the versions of one acquisition of one tile share."""
    properties = item["properties"]
    tile = properties.get("s2:mgrs_tile") or properties.get("grid:code")
    if tile is None:
        return (item["id"],)
    strip = re.search(r"_S(\d{8}T\d{6})_", str(properties.get("s2:datastrip_id", "")))
    second = start_of(item).replace(microsecond=0)
    return properties.get("platform"), tile, second, strip and strip[1]


def _version(item: Item) -> tuple[tuple[int, ...], str, str]:
    """Rank among versions; a baseline that cannot be read comes last."""
    generated = str(item["properties"].get("s2:generation_time", ""))
    return baseline_of(item) or (), generated, item["id"]


def pin_items(
    *, request: CubeRequest, sensor: SensorSource, cube: CubeGrid, catalog: Catalog, output: Path
) -> None:
    """Search the catalog for the items of a cube and write them to a JSON file.

    It holds ``query``, ``queried_at`` (None for a folder, so that equal folders give equal
    files), ``license``, ``request``, ``grid``, and the unsigned ``items``, sorted by time.

    Raises UserError if the catalog does not answer, or has no item for the cube.
    """
    # First, since an API finds no item in a collection that it does not have.
    terms = license_of(catalog, sensor.collection)
    grid = request.grid(cube)
    bounds = grid.lonlat_bounds()
    try:
        items = search(catalog, sensor.collection, bounds, request.start, request.end)
        if sensor.loader == "sentinel-2-l2a":
            items = newest_versions(items)
    except UserError as error:
        raise UserError(f"cube {request.cube}: {error}") from error
    if not items:
        raise UserError(
            f"cube {request.cube}: {catalog.source} has no {sensor.collection} item at "
            f"{request.lon:g}, {request.lat:g} from {request.start} to {request.end}; "
            "move the site or its period"
        )
    remote = is_url(catalog.source)
    content = {
        "query": {
            "source": catalog.source,
            "collection": sensor.collection,
            "bbox": list(bounds),
            "datetime": f"{request.start}/{request.end}",
        },
        "queried_at": datetime.now(UTC).isoformat(timespec="seconds") if remote else None,
        "license": terms,
        "request": request.to_row(),
        "grid": asdict(grid),
        "items": items,
    }
    write_json(output, content)
