"""Reading of assets on a given grid. The one module that knows GDAL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item
from pipeline_lib.acquire.items import is_url, plain_address
from pipeline_lib.acquire.placement import Placement, placement_of
from pipeline_lib.acquire.retries import (
    LONGEST_BODY,
    Busy,
    Damaged,
    Failure,
    Missing,
    Rejected,
    check_content,
    check_start,
    check_status,
    get,
    with_retries,
)
from pipeline_lib.acquire.signing import Signer
from pipeline_lib.config import Catalog
from pipeline_lib.cubes import Grid
from pipeline_lib.errors import UserError, in_a_line

Result = TypeVar("Result")

SLOWEST_BYTES_PER_S = 1000
"""A peer slower than this for catalog.timeout_s counts as silent."""


def gdal_options(catalog: Catalog) -> dict[str, Any]:
    """Options under which GDAL sends few requests and gives up on silent peers."""
    seconds = math.ceil(catalog.timeout_s)
    return {
        "GDAL_HTTP_TIMEOUT": LONGEST_BODY * seconds,
        "GDAL_HTTP_CONNECTTIMEOUT": seconds,
        "GDAL_HTTP_LOW_SPEED_TIME": seconds,
        "GDAL_HTTP_LOW_SPEED_LIMIT": SLOWEST_BYTES_PER_S,
        "GDAL_HTTP_MULTIRANGE": "YES",
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        # GDAL remembers that an address failed; after a wait it must ask again.
        "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_PAM_ENABLED": "NO",
        "VSI_CACHE": True,
    }


class AssetReader:
    """Reads assets of items: signs them, retries, and gives up on silent peers.

    Safe to share between threads. Reading raises :class:`Missing` if an asset is absent, gone or
    unreadable, :class:`Rejected` if it is not served, and UserError if a server stays busy or
    silent. ``missing`` grows by one line for each item that :meth:`each` could not load;
    ``remarks`` are what is odd in the others.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.missing: list[str] = []
        self._remarks: dict[tuple[str, str], set[str]] = {}
        self.catalog = catalog
        self.signer = Signer(catalog)

    @property
    def remarks(self) -> list[str]:
        """What :meth:`remark` was given, sorted by item; the assets of one remark in one line."""
        return [
            f"item {name}: {', '.join(sorted(keys))}{': ' if keys else ''}{text}"
            for (name, text), keys in sorted(self._remarks.items())
        ]

    def remark(self, item: Item, text: str, *keys: str) -> None:
        """Record what is odd in an item, or in some of its assets, that is used nevertheless."""
        self._remarks.setdefault((item["id"], text), set()).update(keys)

    def read(self, item: Item, keys: Sequence[str], grid: Grid, fill: np.generic) -> NDArray[Any]:
        """Assets of an unsigned item on a grid, ``(asset, y, x)``, by the nearest pixel.

        ``fill`` is a numpy scalar: it stands where there is no data, and its type is the
        result's. Values are never blended here: pixels without data would bleed into their
        neighbours, since many files do not say what value means no data.
        """
        from rasterio import Env
        from rasterio.errors import CRSError, RasterioError

        def attempt(hrefs: dict[str, str]) -> NDArray[Any]:
            layers = []
            with Env(**gdal_options(self.catalog)):
                for key, href in hrefs.items():
                    try:
                        layer, odd = read_image(href, placement_of(item, key), grid, fill)
                    except (Failure, RasterioError, CRSError) as error:
                        raise meaning_of(error, key, href, self.catalog.timeout_s) from error
                    if odd:
                        self.remark(item, odd, key)
                    layers.append(layer)
            return np.stack(layers)

        return self.with_retries(attempt, f"item {item['id']}", self._addresses(item, keys))

    def read_document(self, item: Item, key: str, parse: Callable[[bytes], Result]) -> Result:
        """What ``parse`` makes of a whole asset, such as an XML file.

        ``parse`` raises :class:`Damaged` on content that is not what it should be; a remote
        document is then read again, since it may have been damaged on its way.
        """

        def attempt(hrefs: dict[str, str]) -> Result:
            try:
                if is_url(hrefs[key]):
                    content = get(hrefs[key], timeout_s=self.catalog.timeout_s)
                    check_content(content)
                else:
                    _check_file(hrefs[key])
                    content = Path(hrefs[key]).read_bytes()
                return parse(content)
            except Failure as error:
                raise error.of(key) from error

        return self.with_retries(attempt, f"item {item['id']}", self._addresses(item, [key]))

    def _addresses(self, item: Item, keys: Sequence[str]) -> dict[str, str]:
        return {key: address_of(item, key, self.catalog) for key in keys}

    def with_retries(
        self, attempt: Callable[[dict[str, str]], Result], what: str, hrefs: Mapping[str, str]
    ) -> Result:
        """What ``attempt`` makes of the signed ``hrefs``, which are signed anew if rejected."""
        signed: dict[str, str] = {}

        def sign_and_attempt() -> Result:
            signed.update({key: self.signer.sign(href) for key, href in hrefs.items()})
            return attempt(signed)

        def forget() -> None:
            for address in signed.values():
                self.signer.forget(address)

        # A local file does not heal while we wait.
        retries = self.catalog.retries if any(map(is_url, hrefs.values())) else 0
        return with_retries(sign_and_attempt, what=what, retries=retries, refresh=forget)

    def each(
        self, items: Sequence[Item], load: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result]]:
        """Each item and what ``load`` makes of it, in order; ``catalog.requests`` at a time.

        Missing items are left out and described in :attr:`missing`; where the config does not
        record them, the first raises UserError. So do those that are rejected: they may be there.
        """

        def load_or_miss(item: Item) -> Result | Missing | Rejected:
            if "rejected" in item:
                return Missing(in_a_line(item["rejected"]))
            try:
                return load(item)
            except (Missing, Rejected) as error:
                return error

        with ThreadPoolExecutor(self.catalog.requests) as pool:
            for item, result in zip(items, pool.map(load_or_miss, items), strict=True):
                if isinstance(result, (Missing, Rejected)):
                    self.lose(item, result)
                else:
                    yield item, result

    def lose(self, item: Item, reason: Missing | Rejected) -> None:
        """Record that a scene is missing; raises UserError where the config does not allow it."""
        recorded: dict[str, tuple[type[Failure], ...]] = {
            "record": (Missing,),
            "record-rejected": (Missing, Rejected),
            "fail": (),
        }
        if isinstance(reason, recorded[self.catalog.missing_asset]):
            self.missing.append(f"item {item['id']}: {reason}")
        elif isinstance(reason, Missing):
            raise UserError(
                f"item {item['id']}: {reason}; set catalog.missing_asset to record to go on "
                "without it"
            )
        else:
            raise UserError(
                f"item {item['id']}: {reason}; the scene may be there, but access to it is denied: "
                "check catalog.signing and your access, and run again, or set "
                "catalog.missing_asset to record-rejected to go on without it"
            )


def address_of(item: Item, key: str, catalog: Catalog) -> str:
    """The unsigned address of an asset, http(s) or a path; the same for images and documents.

    Raises :class:`Missing` if the item has no such asset, the address is a folder or a device, or
    the catalog is remote and the address is a path: what others write must not choose what is
    read on this machine. Raises UserError for addresses that are not read: s3, ftp and so on.
    """
    try:
        href = plain_address(str(item["assets"][key]["href"]))
    except KeyError:
        reason = item.get("rejected", f"{key}: the item has no such asset")
        raise Missing(in_a_line(reason)) from None
    if is_url(href):
        return href
    kind = re.match(r"[a-z][a-z0-9+.-]*://|/vsi\w*/", href, re.I | re.A)
    if is_url(catalog.source) and not (kind and "://" in kind[0]):
        raise Missing(f"{key}: its address is not on the network, though the catalog is")
    if kind:
        raise UserError(
            f"item {item['id']}: {key}: {kind[0]} is not supported, only http(s):// and files are; "
            "choose a catalog whose items have such addresses"
        )
    path = Path(href)
    try:
        if path.is_file() or not path.exists():
            return href
    except (OSError, ValueError):
        pass
    raise Missing(f"{key}: not a file: {in_a_line(href)}")


def read_image(
    href: str, stated: Placement, grid: Grid, fill: np.generic
) -> tuple[NDArray[Any], str | None]:
    """A raster of one band on a grid, ``(y, x)``, and what is odd in where it lies.

    No raster is taken for another: not a preview nor a foreign band, whose pixels have another
    size, and no other format, since a VRT would name further files to be read in its place. An
    image lies where its file says; what the file does not say is taken from ``stated``.

    Raises :class:`Missing` for a raster that cannot be used, or if the two say different things
    and nothing of it lies on the grid; rasterio's errors if it cannot be read.
    """
    import rasterio
    from rasterio._err import CPLE_NotSupportedError
    from rasterio.transform import from_origin
    from rasterio.vrt import WarpedVRT

    size = grid.resolution
    with rasterio.open(href, driver="GTiff", sharing=False) as file:
        if file.count != 1:
            raise Missing(f"{file.count} bands in one file")
        if np.dtype(file.dtypes[0]).kind not in "iu" and fill.dtype.kind in "iu":
            raise Missing(f"its numbers are {file.dtypes[0]}, not integers")
        crs, transform, odd = _placed(file, stated)
        if not np.allclose((transform.a, -transform.e), size):
            raise Missing(f"its pixels measure {transform.a:g}, not {size:g} m")
        try:
            with WarpedVRT(
                file,
                src_crs=None if crs == file.crs else crs,
                src_transform=None if transform == file.transform else transform,
                crs=grid.epsg,
                transform=from_origin(grid.left, grid.top, size, size),
                width=grid.width,
                height=grid.height,
                sharing=False,
                # Without a no-data value, what lies beyond the file would read as 0.
                add_alpha=file.nodata is None,
            ) as warped:
                pixels = warped.read(1, out_dtype=fill.dtype, masked=True)
        except CPLE_NotSupportedError as error:
            # No transformation leads from its reference system to the cube's.
            raise Missing(in_a_line(error)) from error
    if odd and np.ma.getmaskarray(pixels).all():
        raise Missing(f"{odd}, and nothing of it lies here")
    return np.asarray(pixels.filled(fill)), odd


def _placed(file: Any, stated: Placement) -> tuple[Any, Any, str | None]:
    """Reference system and transform of an open file, and in what its item says otherwise."""
    from rasterio.crs import CRS
    from rasterio.transform import Affine

    odd = None
    crs, stated_crs = file.crs, stated.crs and CRS.from_user_input(stated.crs)
    if crs is None or not (crs.is_projected or crs.is_geographic):
        if not stated_crs:
            raise Missing("no coordinate reference system in the file, nor in its item")
        crs = stated_crs
        odd = f"no reference system in its file, {in_a_line(crs.to_string())} in its item"
    elif stated_crs and crs.to_epsg() != stated_crs.to_epsg() and crs != stated_crs:
        names = (in_a_line(entry.to_string()) for entry in (crs, stated_crs))
        odd = "the projection of its file is {}, that of its item {}".format(*names)
    own, listed = file.transform, stated.transform and Affine(*stated.transform)
    if own.is_identity:
        if not listed:
            raise Missing("no transform in the file, nor in its item")
        own = listed
    # An item has one transform, its assets may have several pixel sizes.
    elif (
        listed
        and np.allclose((own.a, own.e), (listed.a, listed.e))
        and math.hypot(own.c - listed.c, own.f - listed.f) > own.a / 10
    ):
        odd = (
            f"its file starts at {own.c:.10g}, {own.f:.10g}, "
            f"its item at {listed.c:.10g}, {listed.f:.10g}"
        )
    return crs, own, odd


def _check_file(path: str) -> None:
    """Raise :class:`Missing` if there is no such file, :class:`Rejected` if it cannot be opened."""
    try:
        Path(path).open("rb").close()
    except FileNotFoundError:
        raise Missing(f"no such file {path}") from None
    except OSError as error:
        raise Rejected(f"{error.strerror}: {path}") from error


def meaning_of(error: BaseException | None, key: str, href: str, timeout_s: float) -> Failure:
    """What a failure inside GDAL means, naming ``key`` in place of the (signed) address.

    GDAL tells the status of an answer, but neither its Retry-After nor its body: such a server is
    asked once more, for at most ``timeout_s``.
    """
    if isinstance(error, Failure):
        return error.of(key)
    text = ""
    while error is not None:
        text += f" {error}"
        error = error.__cause__ or error.__context__
    status = re.search(r"(?:HTTP response code|response_code|HTTP error code)\s*[:=]\s*(\d+)", text)
    code = int(status[1]) if status else 0
    try:
        if not is_url(href):
            # Of NetCDF, GDAL is given a variable in the file.
            _check_file(re.sub(r'^NETCDF:"(.*)":\w+$', r"\1", href))
        elif code not in (404, 410) and (code or "not recognized as" in text):
            check_start(href, timeout_s=timeout_s)
        check_status(code)
    except Failure as failure:
        return failure.of(key)
    if re.search(r"CURL error|timed out|timeout|too slow|Could not resolve|connect", text, re.I):
        return Busy(f"{key}: no answer")
    return Damaged(f"{key}: not a readable raster")
