"""The STAC item: valid, and true about what lies beside it."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pystac
import pytest
import shapely
import xarray as xr
from jsonschema import Draft7Validator
from products import layout_of
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

from pipeline_lib.config import CubeGrid
from pipeline_lib.cubes import grid_at, grid_of, read_cube
from pipeline_lib.embed import read_embedding
from pipeline_lib.embed.geotiff import write_geotiff
from pipeline_lib.embed.item import embedding_item, footprint_of

CORE = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
ITEM_FIELDS = {f"emb:{field}" for field in ("runtime_parameters", "uncertainty", "quantization")}
"""Those in an item's properties, all of which the extension's schema knows."""

STORED = {"int8": "int8", "float16": "float32", "float32": "float32"}
METHODS = {
    "int8": {"method": "linear", "scale": [1 / 16], "offset": [0.0]},
    "float16": {"method": "rounding"},
    "float32": {"method": "none"},
}


def assert_valid(item: dict[str, Any]) -> None:
    """The schema of STAC 1.1, as it comes with pystac, and what the extension asks for."""
    schemas = get_local_schema_cache()
    registry: Registry[Any] = Registry().with_resources(
        (address, Resource.from_contents(schema)) for address, schema in schemas.items()
    )
    errors = Draft7Validator(schemas[CORE], registry=registry).iter_errors(item)
    assert [error.message for error in errors] == []
    assert any(re.search(r"/embeddings/v0\.0\.1/", known) for known in item["stac_extensions"])
    fields = {key for key in item["properties"] if key.startswith("emb:")}
    assert fields == ITEM_FIELDS
    assert "embeddings" in item["assets"]
    quantization = item["properties"]["emb:quantization"]
    assert {"method", "original_dtype"} <= set(quantization)
    assert set(quantization) <= {"method", "original_dtype", "quantized_dtype", "scale", "offset"}


def test_the_items_are_valid(product: Path, tmp_path: Path) -> None:
    item = json.loads((product / "item.json").read_text())
    assert_valid(item)
    date = np.datetime64(item["properties"]["cube:dimensions"]["time"]["values"][0][:10])
    write_geotiff(product, date.item(), tmp_path / "one.tif")
    assert_valid(json.loads((tmp_path / "one.json").read_text()))


def test_the_item_leads_to_place_model_and_sources(field: SimpleNamespace, product: Path) -> None:
    item = pystac.Item.from_file(product / "item.json")
    grid = grid_of(read_cube(field.cubes["optical"]))
    assert item.bbox == pytest.approx(grid.lonlat_bounds())
    assert item.properties["proj:shape"] == [grid.height, grid.width]
    assert item.properties["start_datetime"] < item.properties["end_datetime"]
    parameters = item.properties["emb:runtime_parameters"]
    assert parameters["model_digest"] == read_embedding(product).attrs["model_digest"]
    sources = [link.href for link in item.links if link.rel == "emb:source-data"]
    assert "https://stac.example.org/v1/collections/sentinel-2-l2a/items/scene-0-0" in sources
    assert any(href.endswith("optical.zarr.zip") for href in sources)
    assert all((product / asset.href).exists() for asset in item.assets.values())


def test_a_footprint_across_180_degrees_is_cut_there() -> None:
    grid = grid_at(179.999, -16.8, CubeGrid())
    west, east = (shapely.Polygon(rings[0]) for rings in footprint_of(grid)["coordinates"])
    assert west.bounds[2] == 180 and east.bounds[0] == -180
    assert (west.bounds[0], east.bounds[2]) == pytest.approx(grid.lonlat_bounds()[::2], abs=1e-4)
    assert west.exterior.is_ccw and east.exterior.is_ccw
    # 900 m are 0.00845 degrees of longitude here.
    assert west.area + east.area == pytest.approx(0.00845 * 0.00813, rel=0.01)
    for lon in (0.0005, 11, -11):
        assert footprint_of(grid_at(lon, 46, CubeGrid()))["type"] == "Polygon"


def test_the_item_describes_the_store(product: Path) -> None:
    item = json.loads((product / "item.json").read_text())
    stored = xr.open_zarr(product / "embedding.zarr", consolidated=False, mask_and_scale=False)
    types = {"original_dtype": "float32", "quantized_dtype": STORED[product.name]}
    assert item["properties"]["emb:quantization"] == types | METHODS[product.name]
    asset, attributes = item["assets"]["embeddings"], stored["embedding"].attrs
    assert asset["data_type"] == STORED[product.name] == str(stored["embedding"].dtype)
    if product.name == "int8":
        assert (attributes["scale_factor"], attributes["_FillValue"]) == (1 / 16, asset["nodata"])
    else:
        assert asset["nodata"] == "nan"

    dimensions = item["properties"]["cube:dimensions"]
    times = [f"{time}Z" for time in np.datetime_as_string(stored["time"], unit="s")]
    assert dimensions["time"]["values"] == times
    for axis in ("x", "y"):
        centres = stored[axis].values
        assert dimensions[axis]["extent"] == [centres.min(), centres.max()]
    variables = item["properties"]["cube:variables"]
    assert set(variables) == set(stored.data_vars)
    for name, about in variables.items():
        assert about["data_type"] == str(stored[name].dtype)
        assert tuple(about["dimensions"]) == stored[name].dims


@pytest.mark.parametrize(
    ("terms", "name", "addresses"),
    [
        ("proprietary", "proprietary", []),
        ("CC-BY-4.0 https://example.org/terms", "CC-BY-4.0", ["https://example.org/terms"]),
        ("unknown (user-supplied file)", "other", []),
        ("not stated https://example.org/terms", "other", ["https://example.org/terms"]),
    ],
)
def test_a_licence_is_a_name_and_perhaps_a_link(
    terms: str, name: str, addresses: list[str]
) -> None:
    layout = layout_of((1, 1, 2, 2), model="m")
    layout.template.attrs["license"] = terms
    item = embedding_item(layout, parameters={}, model="../models/fusion", sources=[])
    assert_valid(item)
    assert item["properties"]["license"] == name
    assert [link["href"] for link in item["links"] if link["rel"] == "license"] == addresses
