"""Reading of assets on an explicit grid. The one module that knows stackstac and GDAL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pipeline_lib.acquire.catalog import Item, is_url
from pipeline_lib.acquire.patience import Busy, Damaged, Lost, Refused, check_status, get, patiently
from pipeline_lib.acquire.signing import signer_of
from pipeline_lib.config import Catalog
from pipeline_lib.cubes import Grid
from pipeline_lib.errors import UserError

Result = TypeVar("Result")

SLOWEST_BYTES_PER_S = 1000
"""A peer slower than this for catalog.timeout_s counts as silent."""


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
        silent = {
            "GDAL_HTTP_TIMEOUT": 10 * math.ceil(catalog.timeout_s),
            "GDAL_HTTP_CONNECTTIMEOUT": math.ceil(catalog.timeout_s),
            "GDAL_HTTP_LOW_SPEED_TIME": math.ceil(catalog.timeout_s),
            "GDAL_HTTP_LOW_SPEED_LIMIT": SLOWEST_BYTES_PER_S,
        }
        self.environment = LayeredEnv(
            always={
                **silent,
                "GDAL_HTTP_MULTIRANGE": "YES",
                "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
                # GDAL remembers that an address failed; after a wait it must ask again.
                "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/",
                "GDAL_PAM_ENABLED": "NO",
            },
            open={"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "VSI_CACHE": True},
            read={"VSI_CACHE": False},
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
        hrefs = {key: _href(item, key) for key in keys}

        def attempt() -> NDArray[Any]:
            signed = {key: self.signer.sign(href) for key, href in hrefs.items()}
            return _stack(item, signed, grid, fill, self.environment)

        return self._patiently(attempt, item, list(hrefs.values()))

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
        href = _href(item, key)

        def attempt() -> Result:
            if is_url(href):
                content = get(self.signer.sign(href), timeout_s=self.catalog.timeout_s)
            else:
                try:
                    content = Path(href).read_bytes()
                except FileNotFoundError:
                    raise Lost(f"{key}: no such file {href}") from None
            try:
                return parse(content)
            except Damaged as error:
                raise Damaged(f"{key}: {error}") from error

        return self._patiently(attempt, item, [href])

    def _patiently(self, attempt: Callable[[], Result], item: Item, hrefs: Sequence[str]) -> Result:
        def forget() -> None:
            for href in hrefs:
                self.signer.forget(href)

        # A local file does not heal while we wait.
        retries = self.catalog.retries if any(map(is_url, hrefs)) else 0
        return patiently(attempt, what=f"item {item['id']}", retries=retries, refresh=forget)

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


def _href(item: Item, key: str) -> str:
    try:
        return str(item["assets"][key]["href"])
    except KeyError:
        raise Lost(f"{key}: the item has no such asset") from None


def _stack(
    item: Item, hrefs: dict[str, str], grid: Grid, fill: np.generic, environment: Any
) -> NDArray[Any]:
    import stackstac
    from rasterio.errors import RasterioError

    # The file itself tells its grid. What the item tells of it (proj:epsg or proj:code, the
    # footprint's box) varies with the catalog's age, and would only decide which assets
    # stackstac leaves out; so each asset is declared to cover the grid.
    declared = {"proj:epsg": grid.epsg, "proj:bbox": list(grid.bounds)}
    plain = {
        "id": item["id"],
        "properties": {"datetime": "2000-01-01T00:00:00Z", **declared},
        "assets": {key: {"href": href} for key, href in hrefs.items()},
    }
    try:
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
        )
        return np.asarray(stack.data.compute(scheduler="synchronous")[0])
    # AttributeError: stackstac asks the reference system of a file whose header was cut.
    except (RuntimeError, AttributeError, RasterioError) as error:
        raise _meaning(error, hrefs) from error


def _meaning(error: BaseException, hrefs: dict[str, str]) -> Exception:
    """What a failure inside GDAL means, told without the (signed) address."""
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
        except (Lost, Refused, Busy) as told:
            return type(told)(f"{key}: {told}")
    if re.search(r"CURL error|timed out|timeout|too slow|Could not resolve|connect", text, re.I):
        return Busy(f"{key}: no answer")
    local = not any(map(is_url, hrefs.values()))
    if local and re.search(r"No such file|does not exist", text):
        return Lost(f"{key}: no such file {hrefs.get(key, '')}".rstrip())
    return Damaged(f"{key}: not a readable raster")
