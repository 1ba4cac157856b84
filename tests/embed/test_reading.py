"""The lines of docs/read-the-product.md, run on products as a run leaves them."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from made_cubes import write_made_cube
from products import export, layout_of
from pyproj import Transformer

from pipeline_lib.config import SENTINEL_2
from pipeline_lib.embed import read_embedding
from pipeline_lib.embed.item import embedding_item

PAGE = Path(__file__).parents[2] / "docs/read-the-product.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
SHAPE = (12, 7, 60, 120)
DAY = 3
"""Index of 2021-06-15, the day that the page joins."""


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves files and ranges of them, lists no folder, and forbids what is not there."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, asked = Path(self.translate_path(self.path)), self.headers.get("Range", "")
        if not path.is_file():
            # As object stores do for who may not list their keys.
            self.send_error(403)
            return
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
        if found is None:
            super().do_GET()
            return
        content = path.read_bytes()
        first, last = found.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        part = content[start : int(last) + 1 if first and last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class NoRanges(Ranges):
    """Answers each request with the whole file, as `python -m http.server` does."""

    do_GET = http.server.SimpleHTTPRequestHandler.do_GET


Serve = Callable[[Path, type[Ranges]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a folder on the loopback; its address."""
    servers = []

    def start(folder: Path, handler: type[Ranges]) -> str:
        made = functools.partial(handler, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), made)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def write_product(folder: Path, seed: int, dtype: str, columns: slice) -> Path:
    """A product of some columns of a larger area, with gaps, and its STAC item."""
    rng = np.random.default_rng(seed)
    flat = (SHAPE[0], *SHAPE[2:])
    layers = {
        "embedding": rng.normal(size=SHAPE).astype(np.float32),
        "context_share": rng.uniform(0.2, 1, flat).astype(np.float32),
        "reconstruction_error": rng.exponential(0.01, flat).astype(np.float32),
        "domain_distance": rng.exponential(0.3, flat).astype(np.float32).clip(0, 5),
        "days_to_sentinel_1": rng.integers(-4, 5, flat).astype(np.float32),
    }
    missing = rng.random(flat) < 0.2
    # A tile without a value, whose file must be there all the same.
    layers["days_to_sentinel_1"][:, :32, :32] = np.nan
    for values in layers.values():
        (values if values.ndim == 3 else values.swapaxes(0, 1))[..., missing] = np.nan
    layers = {name: values[..., columns] for name, values in layers.items()}
    layout = layout_of(
        layers["embedding"].shape,
        model="m",
        dtype=dtype,
        tile_px=32,
        sensors=("sentinel-2", "sentinel-1"),
        start="2021-05-25T10:30",
        left=600000 + 10 * columns.start,
    )
    layout.template.attrs.update(title="Embeddings", license="proprietary")
    item = embedding_item(layout, parameters={}, model="../../models/fusion", sources=[])
    return export(folder, layers, layout, item)


@pytest.fixture(scope="module", params=["float16", "int8"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a demo and two parts of a large area are finished."""
    root = tmp_path_factory.mktemp(f"run-{request.param}")
    demo, germany = root / "results/demo", root / "results/germany/embeddings"
    for seed, name in enumerate(("DE-Gra", "DE-Dbf")):
        write_product(demo / "embeddings" / name, seed, request.param, slice(0, 60))
    for name, columns in (("r03-c04", slice(0, 70)), ("r03-c05", slice(50, 120))):
        write_product(germany / f"germany-{name}", 7, request.param, columns)
    values = np.full((3, len(SENTINEL_2.bands), 8, 8), 0.2)
    cube = demo / "cubes/sentinel-2/DE-Gra.zarr.zip"
    write_made_cube(cube, values, np.zeros((3, 8, 8)), SENTINEL_2)
    to_degrees = Transformer.from_crs(32631, 4326, always_xy=True)
    lon, lat = to_degrees.transform(600105, 5599835)
    (root / "plots.csv").write_text(f"plot,lon,lat\nmeadow,{lon},{lat}\n")
    return root


@pytest.fixture
def page(run: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the snippets of the page leave, run in their order."""
    for made in ("part.nc", "part.zarr", "large.zarr", "part-2.zarr", "one.tif", "series.csv"):
        assert not (run / made).exists()
    monkeypatch.chdir(run)
    address = serve(run / "results/demo/embeddings", Ranges)
    left: dict[str, Any] = {}
    for snippet in SNIPPETS:
        exec(snippet.replace("https://data.example.org", address), left)
    return SimpleNamespace(**left)


def test_the_page_does_what_it_says(page: SimpleNamespace, run: Path) -> None:
    gra = read_embedding(run / "results/demo/embeddings/DE-Gra")
    for name, values in gra.items():
        np.testing.assert_allclose(page.remote[name], values, rtol=1e-6)
        assert np.isfinite(float(page.remote[name].std()))
    assert page.remote.attrs["clipped_share"] == 0

    part = gra.isel(time=slice(0, 10), y=slice(0, 40), x=slice(0, 40))
    saved = {}
    for engine in ("h5netcdf", "netcdf4"):
        plain = page.data.isel(time=slice(0, 10), y=slice(0, 40), x=slice(0, 40))
        plain.to_netcdf(f"{engine}.nc", engine=engine)
        saved[engine] = xr.open_dataset(f"{engine}.nc", engine=engine, decode_coords="all")
    saved |= {
        "part.nc": xr.open_dataset("part.nc", decode_coords="all"),
        "part.zarr": xr.open_zarr("part.zarr", decode_coords="all"),
        "part-2.zarr": xr.open_zarr("part-2.zarr", decode_coords="all"),
        "large.zarr": xr.open_zarr("large.zarr", decode_coords="all").isel(y=slice(0, 40)),
    }
    for file, data in saved.items():
        expected = part if file != "large.zarr" else gra.isel(time=slice(0, 10), y=slice(0, 40))
        for name in gra:
            found = expected[name].sel(x=data["x"])
            np.testing.assert_allclose(data[name], found, rtol=1e-6, err_msg=f"{file} {name}")
        assert data["embedding"].rio.crs.to_epsg() == 32631

    parts = [
        read_embedding(run / f"results/germany/embeddings/germany-r03-c0{n}").isel(time=DAY)
        for n in (4, 5)
    ]
    mosaic = page.mosaic
    assert mosaic["x"].values.tolist() == (600075 + 10 * np.arange(106)).tolist()
    assert mosaic["y"].values[0] == 5600035 - 70 and mosaic["y"].diff("y").max() == -10
    assert mosaic.rio.crs.to_epsg() == 32631
    for single in parts:
        inner = single.isel(y=slice(7, -7), x=slice(7, -7))
        for name in inner:
            there = mosaic[name].sel(x=inner["x"], y=inner["y"])
            np.testing.assert_allclose(there, inner[name], rtol=1e-6)

    degrees = page.in_degrees["embedding"]
    assert degrees.rio.crs.to_epsg() == 4326 and np.isnan(degrees.rio.nodata)
    # The nearest pixel: no value that is not in the product, and gaps stay gaps.
    day = gra["embedding"].isel(time=0).values
    assert np.isin(degrees.values[np.isfinite(degrees.values)], day[np.isfinite(day)]).all()
    assert np.isnan(degrees).mean() > 0.15
    other = page.on_the_grid_of_another
    assert other.sizes["x"] == mosaic.sizes["x"] and other.rio.crs == mosaic.rio.crs

    with rasterio.open("one.tif") as file:
        found = file.read()
        assert file.crs.to_epsg() == 32631 and np.isnan(file.nodata)
    data = read_embedding(run / "results/demo/embeddings/DE-Gra")
    np.testing.assert_allclose(found, data["embedding"].isel(time=0), rtol=1e-6)
    assert set(page.series.columns) > {"e0", "e6", "context_share", "plot", "cube"}
    expected = gra["embedding"].sel(x=600105, y=5599835).dropna("time")
    rows = page.series[page.series["cube"] == "DE-Gra"]
    np.testing.assert_allclose(rows.filter(regex=r"^e\d$"), expected, rtol=1e-6)


def test_a_server_without_ranges_is_an_error_and_no_wrong_value(run: Path, serve: Serve) -> None:
    address = serve(run / "results/demo/embeddings", NoRanges)
    data = xr.open_zarr(f"{address}/DE-Gra/embedding.zarr")
    assert {"embedding", "context_share"} <= set(data.data_vars)
    with pytest.raises(ValueError, match="checksum"):
        data["embedding"].load()
