"""Search of a STAC catalog, and the items pinned for a cube."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote, urljoin

from pipeline_lib.acquire.baseline import baseline_of
from pipeline_lib.acquire.items import (
    ADVICE,
    FILE,
    SCHEME,
    checked_items,
    is_url,
    moment_of,
    plain_address,
)
from pipeline_lib.acquire.retries import (
    Busy,
    Damaged,
    Failure,
    Missing,
    Rejected,
    check_content,
    check_status,
    with_retries,
)
from pipeline_lib.config import Catalog, CubeGrid, SensorSource
from pipeline_lib.cubes import CubeRequest
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.files import read_json, write_json
from pipeline_lib.signatures import unsigned, without_signatures

Item = dict[str, Any]
Bounds = tuple[float, float, float, float]
Window = tuple[datetime, datetime]

PAGE = 250
"""Items asked for at once; Planetary Computer's limit is 1000, its answers are large."""
MOST_PAGES = 1000
"""A catalog that needs more for one cube links from page to page without end."""
STAC_KEYS = {"links", "features", "collections"}
"""One of them is in every answer of a STAC API that is no message."""
A_SECOND, A_DAY = timedelta(seconds=1), timedelta(days=1)


def search(catalog: Catalog, collection: str, bounds: Bounds, start: date, end: date) -> list[Item]:
    """Unsigned items of a collection, sorted by time and identifier: all of them.

    ``bounds`` are west, south, east, north in degrees, west of 180 degrees and east of it if west
    is beyond east; both days are included, UTC. Addresses of assets are absolute.

    Raises UserError if the catalog cannot be read, does not answer, or leaves items out.
    """
    return _search(_Api(catalog), collection, bounds, start, end)


def _search(api: _Api, collection: str, bounds: Bounds, start: date, end: date) -> list[Item]:
    of_catalog = _items_of_api if is_url(api.catalog.source) else _items_of_folder
    unique: dict[str, Item] = {}
    for item in of_catalog(api, collection, bounds, _period(start, end)):
        if start_of(unique.setdefault(item["id"], item)) != start_of(item):
            raise UserError(
                f"{api.catalog.source}: two items named {item['id']} of different times; {ADVICE}"
            )
    return sorted(unique.values(), key=_order)


def license_of(catalog: Catalog, collection: str) -> str:
    """Licence of a collection with the address of its terms, ``not stated`` without one.

    Raises UserError if the catalog has no such collection, or does not answer.
    """
    return _license(_Api(catalog), collection)


def _license(api: _Api, collection: str) -> str:
    content = api.collection(collection)
    links = content["links"] if isinstance(content.get("links"), list) else []
    terms = [link for link in links if isinstance(link, dict) and link.get("rel") == "license"]
    texts = [content.get("license"), *(link.get("href") for link in terms[:1])]
    return " ".join(in_a_line(unsigned(t)) for t in texts if isinstance(t, str)) or "not stated"


def _order(item: Item) -> tuple[str, str]:
    return start_of(item).isoformat(), item["id"]


def start_of(item: Item) -> datetime:
    """Time of an item, or the start of its period; UTC."""
    properties = item["properties"]
    return moment_of(properties.get("datetime") or properties["start_datetime"])


def _is_of(item: Item, window: Window) -> bool:
    """Whether an item's time or period meets a window."""
    names = ("datetime", "start_datetime", "end_datetime")
    times = [moment_of(text) for name in names if (text := item["properties"].get(name))]
    return min(times) <= window[1] and max(times) >= window[0]


def _period(start: date, end: date) -> Window:
    # Scenes are timed to the millisecond: the last second is not the end of a day.
    return datetime.combine(start, time.min, UTC), datetime.combine(end, time.max, UTC)


def _items_of_api(api: _Api, collection: str, bounds: Bounds, period: Window) -> Iterator[Item]:
    """Items of an API, also if it returns others besides those that it is asked for."""
    source = api.catalog.source
    found = [i for box in _boxes_of(bounds) for i in _whole(api, collection, box, period)]
    asked = [
        item
        for item in found
        if item.get("collection") in (None, collection)
        and _is_of(item, period)
        # Boxes may be rounded to a hundredth of a degree.
        and (item.get("bbox") is None or _overlap(item["bbox"], bounds, margin=0.01))
    ]
    if found and all("rejected" in item for item in found):
        raise UserError(f"{source}: item {found[0]['id']}: {found[0]['rejected']}; {ADVICE}")
    if found and not asked:
        raise UserError(
            f"{source}: the search for {collection} returned {len(found)} items, all of them of "
            f"other places, times or collections than it was asked for; {ADVICE}"
        )
    for item in asked:
        own = _self_of(item) or f"{source.rstrip('/')}/collections/{collection}/items/{item['id']}"
        yield _with_addresses(item, partial(urljoin, own))


def _whole(api: _Api, collection: str, box: Bounds, period: Window) -> Iterable[Item]:
    """All items of a box and a period.

    An answer that counts its items (``numberMatched``) is whole if that many came. Otherwise what
    follows its last item and what lies between its pages is asked for too, until nothing new
    comes: links to the next page have been absent, led back, and skipped items.

    Raises UserError if fewer came than were counted, or the rest cannot be asked for.
    """

    def fail(reason: str) -> NoReturn:
        raise UserError(
            f"{api.catalog.source}: the search for {collection} is not complete: {reason}; run "
            "again later, or choose another catalog.source"
        )

    known: dict[str, Item] = {}
    asked: set[Window] = set()
    windows, counted, longest = [period], 0, 0
    doubtful = cut = False
    while windows:
        window = windows.pop()
        asked.add(window)
        answer = _ask(api, collection, box, window)
        if max(len(answer.pages), len(asked) - 1) >= MOST_PAGES:
            fail(f"more than {MOST_PAGES} pages")
        items = {item["id"]: item for item in chain.from_iterable(answer.pages)}
        new = not items.keys() <= known.keys()
        known |= items
        if window == period:
            counted = answer.counted
            doubtful = answer.doubtful or counted > len(items)
        elif not all(_is_of(i, (window[0] - A_DAY, window[1] + A_DAY)) for i in items.values()):
            if doubtful:
                fail("its pages may end too early, and it ignores datetime when asked for the rest")
            continue
        longest = max(longest, *map(len, answer.pages), 0)
        cut |= new and window != period
        if cut and len(items) >= longest and len({start_of(i) for i in items.values()}) == 1:
            fail(f"it returns {longest} items and no more of them, though there are more")
        if items and answer.counted != len(items) and (new or len(items) >= longest):
            unseen = _unseen(answer.pages, window, new=new, short=answer.counted > len(items))
            windows += [one for one in unseen if one not in asked]
    if len(known) < counted:
        fail(f"numberMatched is {counted}, but {len(known)} items came, also in parts")
    return known.values()


class _Answer(NamedTuple):
    """Pages of a search, without those that repeat earlier ones; how many items it counts, or 0."""

    pages: list[list[Item]]
    counted: int
    doubtful: bool


def _ask(api: _Api, collection: str, box: Bounds, window: Window) -> _Answer:
    pages: list[list[Item]] = []
    known: set[str] = set()
    counted, repeats = 0, False
    with api.opened(f"the search for {collection}") as client:
        found = client.search(
            collections=[collection],
            bbox=list(box),
            datetime="/".join(moment.isoformat().replace("+00:00", "Z") for moment in window),
            limit=PAGE,
        )
        for page in islice(found.pages_as_dicts(), MOST_PAGES):
            counts = (page.get("numberMatched"), (page.get("context") or {}).get("matched"))
            counted = max(counted, *(count for count in counts if type(count) is int), 0)
            items = checked_items(page["features"], api.catalog.source, part=True)
            names = {item["id"] for item in items}
            if repeats := names <= known:
                break
            pages.append(items)
            known |= names
    # An item that is twice in one page counts twice.
    counted -= sum(len(page) - len({item["id"] for item in page}) for page in pages)
    last, longest = (len(pages[-1]), max(map(len, pages))) if pages else (0, 0)
    # A page that is cut off is as long as the others, and its limit is a round number.
    doubtful = repeats or last >= PAGE or (last == longest and last % 10 == 0)
    return _Answer(pages, counted, doubtful)


def _unseen(
    pages: Sequence[Sequence[Item]], window: Window, *, new: bool, short: bool
) -> list[Window]:
    """Where an answer may have left items out: after its last one, and between its pages.

    If it is not sorted by time, or ``short`` of what it counts, that may be in both halves of it.
    Its own times are left out if it has but one, or if nothing of it is ``new``: a page may be too
    short for more than that one.
    """
    times = [start_of(item) for item in chain.from_iterable(pages)]
    falls = all(one >= two for one, two in pairwise(times))
    rises = all(one <= two for one, two in pairwise(times))
    gap = timedelta() if new and not (falls and rises) else 2 * A_SECOND
    parts: list[Window] = []
    if falls or rises:
        edges = [sorted((start_of(a[-1]), start_of(b[0]))) for a, b in pairwise(pages)]
        parts += [(low + gap, high - gap) for low, high in edges]
        parts += [(window[0], times[-1] - gap)] * falls + [(times[-1] + gap, window[1])] * rises
    if short or (new and not (falls or rises)):
        middle = sorted(times)[len(times) // 2]
        parts += [(window[0], middle), (middle, window[1])]
    # A second more on either side: some catalogs cut off its fractions.
    grown = [(max(window[0], a - A_SECOND), min(window[1], b + A_SECOND)) for a, b in parts]
    return [(first, last) for first, last in grown if first <= last]


class _Api:
    """A catalog; a STAC API is opened by the first request, and its failures are UserErrors."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._client: Any = None

    @property
    def folder(self) -> Path:
        """The folder of a catalog that is no API."""
        return Path(plain_address(self.catalog.source))

    def collection(self, name: str) -> Item:
        """The collection, empty where a folder has none. Raises UserError if an API has none."""
        if not is_url(self.catalog.source):
            file = self.folder / "collections" / f"{name}.json"
            content = read_json(file) if file.exists() else {}
            if not isinstance(content, dict):
                raise UserError(f"{file}: not a collection; {ADVICE}")
            return content
        with self.opened(f"the collection {name}") as client:
            try:
                return dict(client.get_collection(name).to_dict())
            except Missing as error:
                if isinstance(error.__cause__, Damaged):
                    raise
        raise UserError(
            f"{self.catalog.source}: no collection {name}; check the sensor's collection"
        )

    @contextmanager
    def opened(self, what: str) -> Iterator[Any]:
        """A client of the API for ``what``, which errors name."""
        step = "the landing page"
        try:
            self._client = self._client or _open_client(self.catalog)
            step = what
            yield self._client
        except UserError:
            raise
        except Exception as error:
            reason = in_a_line(error)
            advice = "check that catalog.source is the address of a STAC API"
            if isinstance(error, Rejected):
                advice = "check catalog.source, what is asked for, and your access to this catalog"
            elif isinstance(error.__cause__, Damaged):
                advice = f"run again later, or {advice}"
            elif not isinstance(error, Failure):
                # Valid JSON that is no STAC ends in a dozen kinds of them.
                reason = f"{type(error).__name__}: {reason}"
            raise UserError(f"{self.catalog.source}: {step} failed ({reason}); {advice}") from error


def _open_client(catalog: Catalog) -> Any:
    from pystac import Link
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    def raise_status(answer: Any, **_: Any) -> None:
        if answer.status_code >= 400:
            check_status(answer.status_code, answer.headers.get("Retry-After"), answer.content)

    class RetryingIO(StacApiIO):
        """Asks again what was not answered properly; a search changes nothing."""

        def read_text(self, source: Any, *arguments: Any, **more: Any) -> str:
            # pystac opens as a file of this machine whatever is no URL.
            address = str(source.target if isinstance(source, Link) else source)
            if not is_url(address):
                raise Missing(f"it links to {in_a_line(address)}, which is no address")
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
                    content = json.loads(text)
                except ValueError as error:
                    if text.lstrip().startswith("<"):
                        check_content(text.encode())
                    raise Damaged("not complete JSON") from error
                if isinstance(content, dict) and (
                    not STAC_KEYS & content.keys()
                    or not isinstance(content.get("features", []), list)
                ):
                    # pystac-client takes a message of an error for an answer without items.
                    raise Damaged(f"no STAC: {in_a_line(without_signatures(text[:200]))}")
                return text

            return with_retries(ask, what=catalog.source, retries=catalog.retries)

    # pystac-client's own retries end where the body of an answer begins.
    access = RetryingIO(max_retries=None, timeout=catalog.timeout_s)
    access.session.hooks["response"].append(raise_status)
    return Client.open(catalog.source, stac_io=access, timeout=catalog.timeout_s)


def _items_of_folder(api: _Api, collection: str, bounds: Bounds, period: Window) -> Iterator[Item]:
    """Items of the item collections ``items/*.json``."""
    source = api.folder
    files = sorted((source / "items").glob("*.json"))
    if not files:
        raise UserError(
            f"{source}: no items/*.json there; catalog.source must be a STAC API's address or a "
            "folder of STAC item collections"
        )
    for file in files:
        content = read_json(file)
        features = content.get("features", []) if isinstance(content, dict) else None
        if not isinstance(features, list):
            raise UserError(f"{file}: not an item collection; {ADVICE}")
        candidates = [item for item in features if _may_match(item, collection, bounds)]
        for item in checked_items(candidates, file, part=len(files) > 1):
            if item.get("bbox") is None:
                raise UserError(f"{file}: item {item['id']} has no bbox; {ADVICE}")
            if _overlap(item["bbox"], bounds) and _is_of(item, period):
                folders = (source, file.parent)
                yield _with_addresses(item, partial(_found, folders=folders, own=_self_of(item)))


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


def _boxes_of(bounds: Bounds) -> list[Bounds]:
    """The bounds, or one box on each side of 180 degrees, across which catalogs differ."""
    west, south, east, north = bounds
    if west < east:
        return [bounds]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _overlap(box: Sequence[float], bounds: Bounds, margin: float = 0.0) -> bool:
    """Whether boxes of 4 or 6 numbers meet, modulo 360, or come within ``margin`` degrees."""
    west, south, east, north = (*box[:2], *box[-2:]) if len(box) == 4 else (*box[:2], *box[3:5])
    east += 360 * (east < west)
    low, high = bounds[0] - margin, bounds[2] + 360 * (bounds[2] < bounds[0]) + margin
    return (
        any(west + turn < high and east + turn > low for turn in (-360, 0, 360))
        and south < bounds[3] + margin
        and north > bounds[1] - margin
    )


def _self_of(item: Item) -> str:
    """The item's own address on the web; empty without one."""
    links = item.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == "self" and is_url(str(link.get("href"))):
            return str(link["href"])
    return ""


def _with_addresses(item: Item, located: Callable[[str], str]) -> Item:
    """The item with absolute addresses; ``located`` makes one of a relative address."""
    assets = {}
    for key, asset in item["assets"].items():
        href = asset["href"]
        if not (SCHEME.match(href) or FILE.match(href) or href.startswith("/vsi")):
            asset = asset | {"href": located(href)}
        assets[key] = asset
    return item | {"assets": assets}


def _found(href: str, folders: Sequence[Path], own: str) -> str:
    """The path of a relative address in one of the folders, or its address beside the item's."""
    places = [folder / name for folder in folders for name in (href, unquote(href))]
    there = next(filter(os.path.exists, places), None)
    return urljoin(own, href) if own and there is None else str(there or places[0])


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
    return sorted(best.values(), key=_order)


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
    api = _Api(catalog)
    terms = _license(api, sensor.collection)
    grid = request.grid(cube)
    bounds = grid.lonlat_bounds()
    try:
        items = _search(api, sensor.collection, bounds, request.start, request.end)
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
