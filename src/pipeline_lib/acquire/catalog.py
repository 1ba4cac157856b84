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

from pipeline_lib.acquire.items import ADVICE, checked_items, moment_of
from pipeline_lib.acquire.retries import Busy, Damaged, Lost, Refused, check_status, patiently
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
"""A catalog that needs more for one cube leads from page to page without end."""


def is_url(source: str) -> bool:
    """Whether a source or an address is remote."""
    return source.startswith(("http://", "https://"))


def search(catalog: Catalog, collection: str, bounds: Bounds, start: date, end: date) -> list[Item]:
    """Find the items of a collection.

    Parameters
    ----------
    catalog
        A STAC API, or a folder with ``items/*.json``.
    collection
        Identifier of the collection.
    bounds
        West, south, east, north, degrees.
    start, end
        First and last day, both included, UTC.

    Returns
    -------
    list of dict
        Unsigned items, sorted by time and identifier. Asset addresses of a folder start
        with the folder's own path.

    Raises
    ------
    UserError
        If the catalog cannot be read, or does not answer.
    """
    found = (
        _search_api(catalog, collection, bounds, start, end)
        if is_url(catalog.source)
        else _search_folder(Path(catalog.source), collection, bounds, start, end)
    )
    unique = {item["id"]: item for item in found}
    return sorted(unique.values(), key=_order)


def _order(item: Item) -> tuple[str, str]:
    return start_of(item).isoformat(), item["id"]


def start_of(item: Item) -> datetime:
    """Time of an item, or the start of its period; UTC."""
    properties = item["properties"]
    return moment_of(properties.get("datetime") or properties["start_datetime"])


def _end_of(item: Item) -> datetime:
    text = item["properties"].get("end_datetime")
    return start_of(item) if text is None else moment_of(text)


def _search_api(
    catalog: Catalog, collection: str, bounds: Bounds, start: date, end: date
) -> list[Item]:
    with _answers(catalog, f"the search for {collection}"):
        results = _client(catalog).search(
            collections=[collection],
            bbox=list(bounds),
            # Scenes are timed to the millisecond, so the last second is not the end of a day.
            datetime=f"{start}T00:00:00Z/{end}T23:59:59.999999Z",
            limit=PAGE,
        )
        found: list[Any] = []
        for number, page in enumerate(results.pages_as_dicts()):
            if number == MOST_PAGES:
                raise UserError(
                    f"{catalog.source}: tells the {collection} items of one cube on more than "
                    f"{MOST_PAGES} pages; {ADVICE}"
                )
            found += page["features"]
    return checked_items(found, catalog.source)


@contextmanager
def _answers(catalog: Catalog, what: str) -> Iterator[None]:
    """Tell in one line why an API did not answer."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Valid JSON that is no STAC ends in a dozen kinds of them.
        raise UserError(
            f"{catalog.source}: {what} failed ({type(error).__name__}: {in_a_line(error)}); check "
            "that catalog.source is the address of a STAC API"
        ) from error


def _client(catalog: Catalog) -> Any:
    from pystac import Link
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    def tell_status(answer: Any, **_: Any) -> None:
        check_status(answer.status_code, answer.headers.get("Retry-After"))

    class PatientIO(StacApiIO):
        """Asks again what was not answered properly; a search changes nothing."""

        def read_text(self, source: Any, *arguments: Any, **more: Any) -> str:
            # pystac opens as a file of this machine whatever is no URL.
            if not isinstance(source, Link) and not is_url(str(source)):
                raise Lost(f"it links to {in_a_line(source)}, which is no address")
            return super().read_text(source, *arguments, **more)

        def request(self, *arguments: Any, **more: Any) -> str:
            def ask() -> str:
                try:
                    text = super(PatientIO, self).request(*arguments, **more)
                except APIError as error:
                    told = error.__context__
                    if isinstance(told, (Busy, Lost, Refused)):
                        raise told from None
                    raise Busy(type(told or error).__name__) from error
                try:
                    json.loads(text)
                except ValueError as error:
                    raise Damaged("not complete JSON") from error
                return text

            return patiently(ask, what=catalog.source, retries=catalog.retries)

    # pystac-client's own repetitions end where the body of an answer begins.
    access = PatientIO(max_retries=None, timeout=catalog.timeout_s)
    access.session.hooks["response"].append(tell_status)
    return Client.open(catalog.source, stac_io=access, timeout=catalog.timeout_s)


def _search_folder(
    source: Path, collection: str, bounds: Bounds, start: date, end: date
) -> list[Item]:
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
            raise UserError(f"{file}: holds no item collection; {ADVICE}")
        asked = [item for item in features if _may_be_asked(item, collection, bounds)]
        for item in checked_items(asked, file):
            if (
                _overlap(_box(item, file), bounds)
                and start_of(item).date() <= end
                and _end_of(item).date() >= start
            ):
                found.append(_placed(item, source))
    return found


def _may_be_asked(item: Any, collection: str, bounds: Bounds) -> bool:
    """False for an item of another collection or place; what is none is left to be refused."""
    if not isinstance(item, dict):
        return True
    if item.get("collection") != collection:
        return False
    box = item.get("bbox")
    known = isinstance(box, list) and len(box) in (4, 6) and all(map(_is_place, box))
    return not known or _overlap(item["bbox"], bounds)


def _is_place(value: Any) -> bool:
    return isinstance(value, (int, float)) and -1e9 <= value <= 1e9


def _box(item: Item, file: Path) -> Sequence[float]:
    box: Sequence[float] | None = item.get("bbox")
    if box is None:
        raise UserError(f"{file}: item {item['id']} has no bbox; {ADVICE}")
    return box


def _overlap(box: Sequence[float], bounds: Bounds) -> bool:
    west, south, east, north = (*box[:2], *box[-2:]) if len(box) == 4 else (*box[:2], *box[3:5])
    return west < bounds[2] and east > bounds[0] and south < bounds[3] and north > bounds[1]


def _placed(item: Item, source: Path) -> Item:
    assets = {
        key: asset if is_url(asset["href"]) else asset | {"href": str(source / asset["href"])}
        for key, asset in item["assets"].items()
    }
    return item | {"assets": assets}


def license_of(catalog: Catalog, collection: str) -> str:
    """The licence that the catalog states for a collection.

    Raises
    ------
    UserError
        If the catalog is an API that has no such collection, or does not answer.
    """
    if is_url(catalog.source):
        with _answers(catalog, f"the collection {collection}"):
            client = _client(catalog)
            try:
                found = client.get_collection(collection)
            except Lost:
                found = None
        if found is None:
            raise UserError(
                f"{catalog.source}: no collection {collection}; check the sensor's collection"
            )
        content = found.to_dict()
    else:
        file = Path(catalog.source) / "collections" / f"{collection}.json"
        content = read_json(file) if file.exists() else {}
        if not isinstance(content, dict):
            raise UserError(f"{file}: holds no collection; {ADVICE}")
    links = content["links"] if isinstance(content.get("links"), list) else []
    there = [link for link in links if isinstance(link, dict) and link.get("rel") == "license"]
    told = [content.get("license"), *(link.get("href") for link in there[:1])]
    texts = [in_a_line(unsigned(text)) for text in told if isinstance(text, str)]
    return " ".join(texts) or "not stated"


def newest_versions(items: Iterable[Item]) -> list[Item]:
    """Of several versions of one Sentinel-2 acquisition of one tile, keep the newest.

    The newer processing baseline wins, then the later time of generation. Two granules of a
    tile that a break between data strips has cut are not versions of each other.
    """
    best: dict[tuple[Any, ...], Item] = {}
    for item in items:
        key = _acquisition(item)
        if key not in best or _version(item) > _version(best[key]):
            best[key] = item
    return sorted(best.values(), key=_order)


def _acquisition(item: Item) -> tuple[Any, ...]:
    properties = item["properties"]
    tile = properties.get("s2:mgrs_tile") or properties.get("grid:code")
    if tile is None:
        return (item["id"],)
    strip = re.search(r"_S(\d{8}T\d{6})_", str(properties.get("s2:datastrip_id", "")))
    return (
        properties.get("platform"),
        tile,
        start_of(item).replace(microsecond=0),
        strip.group(1) if strip else None,
    )


def _version(item: Item) -> tuple[tuple[int, ...], str, str]:
    generated = str(item["properties"].get("s2:generation_time", ""))
    return baseline_of(item), generated, item["id"]


def baseline_of(item: Item) -> tuple[int, ...]:
    """Processing baseline of a Sentinel-2 item, ``(4, 0)`` for 04.00.

    Raises
    ------
    UserError
        If the item does not tell it, or no number: without it, reflectance may be wrong by 0.1.
    """
    properties = item["properties"]
    text = properties.get("s2:processing_baseline") or properties.get("processing:version")
    if text is None:
        named = re.search(r"_N(\d\d)\.?(\d\d)", str(properties.get("s2:product_uri", "")))
        text = ".".join(named.groups()) if named else None
    if text is None:
        raise UserError(
            f"item {item['id']} does not tell its processing baseline (s2:processing_baseline); "
            "without it, the offset of its reflectance is unknown"
        )
    if not re.fullmatch(r"\d{1,4}(\.\d{1,4}){0,3}", str(text), re.ASCII):
        raise UserError(
            f"item {item['id']} tells its processing baseline as {in_a_line(text)!r}; "
            "it must be like 05.09"
        )
    return tuple(int(part) for part in str(text).split("."))


def pin_items(
    *, request: CubeRequest, sensor: SensorSource, cube: CubeGrid, catalog: Catalog, output: Path
) -> None:
    """Search the catalog for a cube's items and write them to a file.

    The file holds ``query``, ``queried_at`` (None for a folder, so that equal folders give
    equal files), ``license``, ``request``, ``grid``, and the unsigned ``items``, sorted by time.

    Raises
    ------
    UserError
        If the catalog holds no item for this place and period.
    """
    grid = request.grid(cube)
    bounds = grid.lonlat_bounds()
    items = search(catalog, sensor.collection, bounds, request.start, request.end)
    # Before the items are counted: an API finds nothing in a collection that it does not have.
    terms = license_of(catalog, sensor.collection)
    if sensor.loader == "sentinel-2-l2a":
        items = newest_versions(items)
    if not items:
        raise UserError(
            f"cube {request.cube}: {catalog.source} has no {sensor.collection} item at "
            f"{request.lon:g}, {request.lat:g} from {request.start} to {request.end}; "
            "move the site or its period"
        )
    remote = is_url(catalog.source)
    write_json(
        output,
        {
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
        },
    )
