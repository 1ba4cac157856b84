"""Reading of assets on an explicit grid. The one module that knows stackstac and GDAL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rich.console import Console
from rich.progress import track

from pipeline_lib.acquire.catalog import Item, is_url
from pipeline_lib.acquire.items import is_remote
from pipeline_lib.acquire.retries import (
    LONGEST_BODY,
    Busy,
    Damaged,
    Lost,
    Refused,
    check_status,
    get,
    patiently,
    wait_asked_by,
)
from pipeline_lib.acquire.signing import signer_of
from pipeline_lib.config import Catalog
from pipeline_lib.cubes import Grid
from pipeline_lib.errors import UserError, in_a_line

Result = TypeVar("Result")

SLOWEST_BYTES_PER_S = 1000
"""A peer slower than this for catalog.timeout_s counts as silent."""

# stackstac wraps rasterio's errors in RuntimeError, and asks the reference system of a file
# whose header was cut (AttributeError).
GDAL_ERRORS = (RasterioError, RuntimeError, AttributeError)
"""What a failed read inside GDAL surfaces as."""


def gdal_options(catalog: Catalog) -> dict[str, Any]:
    """Options under which GDAL asks for little and gives up on silent peers."""
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
    }


class AssetReader:
    """Reads assets of items: signs them, repeats what failed, gives up on silent peers.

    Safe to share between threads.

    Parameters
    ----------
    catalog
        Signing, timeouts, retries, and whether a lost scene is recorded or fatal.
    """

    def __init__(self, catalog: Catalog) -> None:
        from stackstac.rio_env import LayeredEnv

        self.catalog = catalog
        self.signer = signer_of(catalog)
        self.environment = LayeredEnv(
            always=gdal_options(catalog), open={"VSI_CACHE": True}, read={"VSI_CACHE": False}
        )

    def read(self, item: Item, keys: Sequence[str], grid: Grid, fill: np.generic) -> NDArray[Any]:
        """Read assets of an item on a grid, by the nearest pixel.

        Values are never blended here: pixels without data would bleed into their
        neighbours, since many files do not tell what value means no data.

        Parameters
        ----------
        item
            An unsigned item.
        keys
            Assets to read.
        grid
            Where; outside the asset the result is ``fill``.
        fill
            A numpy scalar; its type is the type of the result.

        Returns
        -------
        array, ``(asset, y, x)``

        Raises
        ------
        Lost
            If an asset is absent, gone or unreadable.
        UserError
            If a server stays busy or silent.
        """

        def attempt(signed: dict[str, str]) -> NDArray[Any]:
            try:
                return _stack(item, signed, grid, fill, self.environment)
            except GDAL_ERRORS as error:
                raise meaning_of(error, signed, timeout_s=self.catalog.timeout_s) from error

        return self._patiently(attempt, item, keys)

    def read_document(self, item: Item, key: str, parse: Callable[[bytes], Result]) -> Result:
        """Read and parse a whole asset, such as an XML file; raises as :meth:`read` does.

        Parameters
        ----------
        item, key
            The asset.
        parse
            Raises :class:`Damaged` on content that is not what it should be; a remote
            document is then read again, since it may have been damaged on its way.
        """

        def attempt(signed: dict[str, str]) -> Result:
            href = signed[key]
            if is_url(href):
                try:
                    content = get(href, timeout_s=self.catalog.timeout_s)
                except Busy as error:
                    raise Busy(f"{key}: {error}", error.retry_after) from error
                except (Lost, Refused) as error:
                    raise type(error)(f"{key}: {error}") from error
            else:
                try:
                    content = Path(href).read_bytes()
                except FileNotFoundError:
                    raise Lost(f"{key}: no such file {href}") from None
            try:
                return parse(content)
            except Damaged as error:
                raise Damaged(f"{key}: {error}") from error

        return self._patiently(attempt, item, [key])

    def _patiently(
        self, attempt: Callable[[dict[str, str]], Result], item: Item, keys: Sequence[str]
    ) -> Result:
        hrefs = {key: address_of(item, key, self.catalog) for key in keys}
        signed: dict[str, str] = {}

        def sign_and_attempt() -> Result:
            signed.update({key: self.signer.sign(href) for key, href in hrefs.items()})
            return attempt(signed)

        def forget() -> None:
            for address in signed.values():
                self.signer.forget(address)

        # A local file does not heal while we wait.
        retries = self.catalog.retries if any(map(is_url, hrefs.values())) else 0
        what = f"item {item['id']}"
        return patiently(sign_and_attempt, what=what, retries=retries, refresh=forget)

    def each(
        self, items: Sequence[Item], load: Callable[[Item], Result]
    ) -> Iterator[tuple[Item, Result | Lost]]:
        """Load items side by side, in order, within the bounded number of requests.

        Yields
        ------
        item and what ``load`` made of it
            Or, where the config records lost scenes, why it is lost.

        Raises
        ------
        UserError
            If a scene is lost and ``catalog.missing_asset`` is ``fail``.
        """

        def load_or_tell(item: Item) -> Result | Lost:
            try:
                return load(item)
            except Lost as error:
                return error

        # A bar on a terminal; nothing in a log file.
        console = Console(stderr=True)
        with ThreadPoolExecutor(self.catalog.requests) as pool:
            results = track(
                pool.map(load_or_tell, items),
                "reading scenes",
                total=len(items),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            )
            for item, result in zip(items, results, strict=True):
                if isinstance(result, Lost) and self.catalog.missing_asset == "fail":
                    raise UserError(
                        f"item {item['id']}: {result}; set catalog.missing_asset to record to go "
                        "on without it"
                    )
                yield item, result


def address_of(item: Item, key: str, catalog: Catalog) -> str:
    """The address of an asset.

    Raises
    ------
    Lost
        If the item has no such asset, names a folder or a device, or comes from a remote catalog
        and names a file of this machine: what others write must not choose what is read here.
    """
    try:
        href = str(item["assets"][key]["href"])
    except KeyError:
        raise Lost(f"{key}: the item has no such asset") from None
    if is_url(catalog.source) and not is_remote(href):
        raise Lost(f"{key}: its address is not on the network, though the catalog is")
    if not is_remote(href) and _is_odd(Path(href)):
        raise Lost(f"{key}: not a file: {in_a_line(href)}")
    return href


def _is_odd(path: Path) -> bool:
    """Whether a path leads to a folder or a device, or cannot be a path."""
    try:
        return path.exists() and not path.is_file()
    except (OSError, ValueError):
        return True


def _stack(
    item: Item, hrefs: dict[str, str], grid: Grid, fill: np.generic, environment: Any
) -> NDArray[Any]:
    import stackstac

    # The file itself tells its grid. What the item tells of it (proj:epsg or proj:code, the
    # footprint's box) varies with the catalog's age, and would only decide which assets
    # stackstac leaves out; so each asset is declared to cover the grid.
    declared = {"proj:epsg": grid.epsg, "proj:bbox": list(grid.bounds)}
    plain = {
        "id": item["id"],
        "properties": {"datetime": "2000-01-01T00:00:00Z", **declared},
        "assets": {key: {"href": href} for key, href in hrefs.items()},
    }
    stack = stackstac.stack(
        [plain],
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
        gdal_env=environment,
        errors_as_nodata=(),
        reader=_native_reader(),
    )
    try:
        return np.asarray(stack.data.compute(scheduler="synchronous")[0])
    except _WrongPixels as error:
        key = next(key for key, href in hrefs.items() if href == error.href)
        raise Lost(f"{key}: {error}") from error


class _WrongPixels(Exception):
    def __init__(self, href: str, message: str) -> None:
        super().__init__(message)
        self.href = href


@cache
def _native_reader() -> type:
    """stackstac's reader, which takes no raster for another: not a preview, not a foreign band.

    Nor another format: a VRT would name other files to be read in its place.
    """
    from stackstac.rio_reader import AutoParallelRioReader, ThreadLocalRioDataset

    class NativeReader(AutoParallelRioReader):  # type: ignore[misc]
        def _open(self) -> Any:
            opened = super()._open()
            # That stackstac reads with threads of its own is how it tells a GeoTIFF.
            if not isinstance(opened, ThreadLocalRioDataset):
                raise _WrongPixels(self.url, "not a GeoTIFF")
            reader = opened.dataset
            found = getattr(reader, "src_dataset", reader).res
            wanted = self.spec.resolutions_xy
            if not np.allclose(found, wanted):
                raise _WrongPixels(
                    self.url, f"its pixels measure {found[0]:g}, not {wanted[0]:g} m"
                )
            return opened

    return NativeReader


def meaning_of(error: BaseException, hrefs: Mapping[str, str], *, timeout_s: float) -> Exception:
    """What a failure inside GDAL means, told without the (signed) address.

    Parameters
    ----------
    error
        One of :data:`GDAL_ERRORS`.
    hrefs
        Name and (signed) address of each file that was to be read.
    timeout_s
        Longest silence, s: a busy server is asked how long it wants to be left alone, since
        GDAL tells the status of an answer, but not the Retry-After that came with it.

    Returns
    -------
    Lost, Refused, Busy or Damaged
    """
    text = str(error)
    key = next((key for key, href in hrefs.items() if href in text), ", ".join(hrefs))
    cause: BaseException | None = error
    while cause is not None:
        text += f" {cause}"
        cause = cause.__cause__ or cause.__context__
    status = re.search(r"(?:HTTP response code|response_code|HTTP error code)\s*[:=]\s*(\d+)", text)
    if status and int(status[1]) >= 400:
        try:
            check_status(int(status[1]))
        except Busy as told:
            asked = wait_asked_by(hrefs[key], timeout_s=timeout_s) if key in hrefs else None
            return Busy(f"{key}: {told}", asked)
        except (Lost, Refused) as told:
            return type(told)(f"{key}: {told}")
    if re.search(r"CURL error|timed out|timeout|too slow|Could not resolve|connect", text, re.I):
        return Busy(f"{key}: no answer")
    local = not any(map(is_url, hrefs.values()))
    if local and re.search(r"No such file|does not exist", text):
        return Lost(f"{key}: no such file {hrefs.get(key, '')}".rstrip())
    return Damaged(f"{key}: not a readable raster")
