"""Reading of assets on a given grid. The one module that knows stackstac and GDAL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.acquire.catalog import Item, start_of
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

        def attempt(hrefs: dict[str, str]) -> NDArray[Any]:
            with Env(**gdal_options(self.catalog)):
                return self._stack(item, hrefs, grid, fill)

        return self.with_retries(attempt, f"item {item['id']}", self._addresses(item, keys))

    def _stack(
        self, item: Item, hrefs: dict[str, str], grid: Grid, fill: np.generic
    ) -> NDArray[Any]:
        import stackstac

        # stackstac leaves out an asset that does not reach the bounds by the item's metadata, which
        # it reads by older names, and else by the four corners of the footprint in degrees,
        # hundreds of metres off. A scene must not shrink by that: each asset is asked for, and its
        # file tells.
        reach = {"proj:epsg": grid.epsg, "proj:bbox": grid.bounds}
        signed = item | {
            "properties": item["properties"] | {"datetime": start_of(item).isoformat()},
            "assets": {key: {"href": href, **reach} for key, href in hrefs.items()},
        }
        stack = stackstac.stack(
            [signed],
            assets=list(hrefs),
            epsg=grid.epsg,
            bounds=grid.bounds,
            resolution=grid.resolution,
            snap_bounds=False,
            xy_coords="center",
            dtype=fill.dtype,
            fill_value=fill,
            rescale=False,
            properties=False,
            band_coords=False,
            chunksize=(1, 1, grid.height, grid.width),
            reader=partial(
                GeoTiffReader,
                keys={href: key for key, href in hrefs.items()},
                placement=partial(placement_of, item),
                remark=partial(self.remark, item),
                timeout_s=self.catalog.timeout_s,
            ),
        )
        return np.asarray(stack.data.compute(scheduler="synchronous")[0])

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
        record = self.catalog.missing_asset
        if record == "record-rejected" or (record == "record" and isinstance(reason, Missing)):
            self.missing.append(f"item {item['id']}: {reason}")
            return
        advice = "set catalog.missing_asset to record to go on without it"
        if isinstance(reason, Rejected):
            advice = (
                "the scene may be there, but access to it is denied: check catalog.signing and "
                "your access, and run again, or set catalog.missing_asset to record-rejected to go "
                "on without it"
            )
        raise UserError(f"item {item['id']}: {reason}; {advice}")


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


class GeoTiffReader:
    """A reader for stackstac (its ``Reader`` protocol) that takes no raster for another.

    Not a preview nor a foreign band, whose pixels have another size, and no other format: a VRT
    would name further files to be read in its place. An image lies where its file says; what the
    file does not say is taken from ``placement``, that which the item says of an asset. Where the
    two say different things, ``remark`` is called with a text and the asset, or the image is
    rejected if nothing of it lies in the window. ``keys`` are the assets of addresses. Raises what
    :func:`meaning_of` makes of a failure.
    """

    def __init__(
        self,
        *,
        url: str,
        spec: Any,
        resampling: Any,
        dtype: Any,
        fill_value: Any,
        keys: Mapping[str, str],
        placement: Callable[[str], Placement],
        remark: Callable[[str, str], None],
        timeout_s: float,
        **_: Any,
    ) -> None:
        self.url, self.spec, self.resampling = url, spec, resampling
        self.dtype, self.fill_value = np.dtype(dtype), fill_value
        self.key, self.remark, self.timeout_s = keys[url], remark, timeout_s
        self.stated = placement(self.key)

    def read(self, window: Any) -> NDArray[Any]:
        """The pixels of a window of the specified grid, ``(y, x)``."""
        import rasterio
        from rasterio._err import CPLE_NotSupportedError
        from rasterio.vrt import WarpedVRT

        try:
            with rasterio.open(self.url, driver="GTiff", sharing=False) as file:
                if file.count != 1:
                    raise Missing(f"{file.count} bands in one file")
                if np.dtype(file.dtypes[0]).kind not in "iu" and self.dtype.kind in "iu":
                    raise Missing(f"its numbers are {file.dtypes[0]}, not integers")
                crs, transform, differs = self._placed(file)
                wanted = self.spec.resolutions_xy
                size = transform.a, -transform.e
                if not np.allclose(size, wanted):
                    raise Missing(f"its pixels measure {size[0]:g}, not {wanted[0]:g} m")
                with WarpedVRT(
                    file,
                    src_crs=None if crs == file.crs else crs,
                    src_transform=None if transform == file.transform else transform,
                    sharing=False,
                    resampling=self.resampling,
                    # Without a no-data value, what lies beyond the file would read as 0.
                    add_alpha=file.nodata is None,
                    **self.spec.vrt_params,
                ) as warped:
                    pixels = warped.read(1, window=window, out_dtype=self.dtype, masked=True)
                    if differs and np.ma.getmaskarray(pixels).all():
                        raise Missing(f"{differs}, and nothing of it lies here")
                    if differs:
                        self.remark(differs, self.key)
                    return np.asarray(pixels.filled(self.fill_value))
        except CPLE_NotSupportedError as error:
            # No transformation leads from its reference system to the cube's.
            raise Missing(f"{self.key}: {in_a_line(error)}") from error
        except (Failure, rasterio.errors.RasterioError, rasterio.errors.CRSError) as error:
            raise meaning_of(error, self.key, self.url, self.timeout_s) from error

    def _placed(self, file: Any) -> tuple[Any, Any, str | None]:
        """Reference system and transform of an open file, and in what its item says otherwise."""
        from rasterio.crs import CRS
        from rasterio.transform import Affine

        differs = None
        crs, stated_crs = file.crs, self.stated.crs and CRS.from_user_input(self.stated.crs)
        if crs is None or not (crs.is_projected or crs.is_geographic):
            if not stated_crs:
                raise Missing("no coordinate reference system in the file, nor in its item")
            crs = stated_crs
            differs = f"no reference system in its file, {in_a_line(crs.to_string())} in its item"
        elif stated_crs and crs.to_epsg() != stated_crs.to_epsg() and crs != stated_crs:
            names = (in_a_line(entry.to_string()) for entry in (crs, stated_crs))
            differs = "the projection of its file is {}, that of its item {}".format(*names)
        own, stated = file.transform, self.stated.transform and Affine(*self.stated.transform)
        if own.is_identity:
            if not stated:
                raise Missing("no transform in the file, nor in its item")
            own = stated
        # An item has one transform, its assets may have several pixel sizes.
        elif (
            stated
            and np.allclose((own.a, own.e), (stated.a, stated.e))
            and math.hypot(own.c - stated.c, own.f - stated.f) > own.a / 10
        ):
            differs = (
                f"its file starts at {own.c:.10g}, {own.f:.10g}, "
                f"its item at {stated.c:.10g}, {stated.f:.10g}"
            )
        return crs, own, differs

    def close(self) -> None:
        """Nothing is left open."""


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
