"""GeoTIFFs of single dates: the product's values, in the layout of a cloud-optimised file."""

import datetime
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pystac
import pytest
import rasterio
from products import export, layout_of

from pipeline_lib.embed import read_embedding, read_manifest
from pipeline_lib.embed.geotiff import write_geotiff
from pipeline_lib.embed.item import embedding_item
from pipeline_lib.embed.manifest import find_date, write_closest_dates
from pipeline_lib.errors import UserError

DATE = datetime.date(2022, 1, 3)
QUALITY = ("context_share", "reconstruction_error", "domain_distance", "days_to_radar")


@pytest.fixture
def written(product: Path, tmp_path: Path) -> SimpleNamespace:
    """A product, and a GeoTIFF of its third date."""
    data = read_embedding(product).isel(time=2)
    date = data["time"].values.astype("datetime64[D]").item()
    output = tmp_path / "geotiff" / f"{date}.tif"
    write_geotiff(product, date, output)
    return SimpleNamespace(product=product, data=data, date=date, output=output)


def test_the_file_holds_values_place_and_time_of_its_date(written: SimpleNamespace) -> None:
    with rasterio.open(written.output) as file:
        assert file.crs.to_epsg() == 32631 and file.units[-1] == "day"
        assert tuple(file.bounds) == (600000, 5599830, 600260, 5600040)
        assert file.tags()["model_digest"] == written.data.attrs["model_digest"]
        assert file.tags()["TIFFTAG_DATETIME"].startswith(f"{written.date:%Y:%m:%d} 10:30")
        # Also of an int8 product: readers that ignore scale factors read right values.
        assert set(file.dtypes) == {"float32"} and np.isnan(file.nodata)
        assert set(file.scales) == {1}
        features = [f"feature_{number}" for number in range(4)]
        assert file.descriptions == (*features, *QUALITY)
        found = file.read()
        np.testing.assert_array_equal(file.read_masks() == 0, np.isnan(found))
        means = [band.mean for band in file.stats()]
        np.testing.assert_allclose(means, np.nanmean(found, axis=(1, 2)), rtol=1e-5)
    expected = [*written.data["embedding"].values, *(written.data[n].values for n in QUALITY)]
    for band, values in zip(found, expected, strict=True):
        assert np.isfinite(values).any()
        np.testing.assert_array_equal(band, values)


def test_the_item_is_of_a_single_acquisition(written: SimpleNamespace) -> None:
    item = pystac.Item.from_file(written.output.with_suffix(".json"))
    time = written.data["time"].values.astype("datetime64[s]").item()
    assert item.datetime == time.replace(tzinfo=datetime.UTC)
    assert "start_datetime" not in item.properties
    parameters = item.properties["emb:runtime_parameters"]
    assert parameters["model_digest"] == written.data.attrs["model_digest"]
    assert parameters["temporal_resolution"] == "single_acquisition"
    method = "none" if written.product.name == "float32" else "rounding"
    assert item.properties["emb:quantization"]["method"] == method
    assert "scale" not in item.properties["emb:quantization"]
    links = {link.rel: link for link in item.links}
    folder = written.output.parent
    parent = pystac.Item.from_file((folder / links["derived_from"].href).resolve())
    assert parent.id == links["derived_from"].title
    scenes = [link.title for link in item.links if link.rel == "emb:source-data"]
    assert [scene for scene in scenes if scene.startswith("scene-0")] == ["scene-0-2"]
    assert (folder / links["emb:model"].href).resolve().name == "model.json"
    asset = item.assets["embeddings"]
    with rasterio.open(folder / asset.href) as file:
        bands = asset.extra_fields["bands"]
        assert [band["name"] for band in bands] == list(file.descriptions)
        assert not any("raster:scale" in band for band in bands)
        assert asset.extra_fields["data_type"] == file.dtypes[0]


def test_a_missing_date_is_an_error_that_names_its_neighbours(
    written: SimpleNamespace, tmp_path: Path
) -> None:
    days = [text[:10] for text in read_manifest(written.product)["times"]]
    missing = datetime.date.fromisoformat(days[2]) - datetime.timedelta(days=1)
    assert str(missing) not in days
    between, early = f"dates are {days[1]} and {days[2]}", f"date is {days[0]}"
    for date, nearest in ((missing, between), (datetime.date(2001, 1, 1), early)):
        with pytest.raises(UserError, match=f": no embeddings of {date}; the nearest {nearest}$"):
            write_geotiff(written.product, date, tmp_path / "none.tif")
    assert not list(tmp_path.glob("none*"))


def test_a_damaged_product_makes_no_file(written: SimpleNamespace, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(written.product, tmp_path / "copy"))
    (copy / "embedding.zarr/context_share/c/0/0/1").unlink()
    with pytest.raises(UserError, match="damaged"):
        write_geotiff(copy, written.date, tmp_path / "out" / "none.tif")
    assert not (tmp_path / "out").exists()


def test_of_two_acquisitions_of_a_day_the_fuller_one_counts() -> None:
    times = ["2022-06-12T10:00:00", "2022-06-12T10:20:00", "2022-06-13T10:00:00"]
    manifest = {"times": times, "embeddings": [3, 8, 90]}
    assert find_date("field", manifest, datetime.date(2022, 6, 12)) == 1


def test_each_product_has_the_dates_closest_to_those_asked_for(
    written: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    days = [text[:10] for text in read_manifest(written.product)["times"]]
    close = datetime.date.fromisoformat(days[0]) - datetime.timedelta(days=2)
    with caplog.at_level(logging.WARNING):
        write_closest_dates(
            products={"field": written.product},
            dates=[close, datetime.date(2023, 1, 1)],
            tolerance_days=2,
            output=tmp_path / "dates.csv",
        )
    assert (tmp_path / "dates.csv").read_text().splitlines() == [
        "cube,asked,closest,close_enough",
        f"field,{close},{days[0]},True",
        f"field,2023-01-01,{days[-1]},False",
    ]
    (warning,) = caplog.records
    assert f"2 days of 2023-01-01; the nearest date is {days[-1]}" in warning.message


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A product that needs two levels of overviews, and its GeoTIFF."""
    folder = tmp_path_factory.mktemp("large")
    size = 1100, 1300
    layout = layout_of((1, 2, *size), model="m", tile_px=1024)
    rng = np.random.default_rng(3)
    values = np.clip(rng.normal(size=(1, 2, *size)), -6, 6).astype(np.float32)
    values[..., rng.random(size) < 0.2] = np.nan
    quality = np.abs(values[:, 0]) / 6
    layers = {"embedding": values, "context_share": quality, "reconstruction_error": quality}
    item = embedding_item(layout, parameters={}, model="../models/fusion", sources=[])
    export(folder / "product", layers, layout, item)
    output = folder / "2022-01-03.tif"
    write_geotiff(folder / "product", DATE, output)
    return SimpleNamespace(output=output, values=values[0], folder=folder)


def test_the_file_is_cloud_optimised(large: SimpleNamespace) -> None:
    # The order of headers and blocks is that of GDAL's driver.
    with rasterio.open(large.output) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert set(file.block_shapes) == {(512, 512)}
        assert file.compression is rasterio.enums.Compression.deflate
        assert file.overviews(1) == [2, 4]
    for level in range(2):
        with rasterio.open(large.output, overview_level=level) as file:
            assert file.block_shapes[0] == (512, 512)


def test_overviews_hold_embeddings_that_exist(large: SimpleNamespace) -> None:
    full = np.rint(large.values * 16) / 16
    with rasterio.open(large.output) as file:
        np.testing.assert_array_equal(file.read([1, 2]), full)
    with rasterio.open(large.output, overview_level=1) as file:
        coarse = file.read([1, 2])
    assert coarse.shape == (2, 275, 325)
    blocks = full.reshape(2, 275, 4, 325, 4)
    here = coarse[:, :, None, :, None]
    same = ((blocks == here) | (np.isnan(blocks) & np.isnan(here))).all(axis=0)
    assert same.any(axis=(1, 3)).all()


def test_a_file_replaces_another_only_when_it_is_whole(
    large: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = large.output.read_bytes()

    def dies(target: Path, *_: object, **__: object) -> None:
        target.write_bytes(b"torn")
        raise KeyboardInterrupt

    monkeypatch.setattr("rasterio.open", dies)
    with pytest.raises(KeyboardInterrupt):
        write_geotiff(large.folder / "product", DATE, large.output)
    assert large.output.read_bytes() == before
    assert not list(large.folder.glob(".*"))
