import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

from pipeline_lib.config import CubeGrid, Tower
from pipeline_lib.cubes import grid_at
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.footprint import footprint_weights

TOWER = Tower(name="XX-Abc", lon=8.4104, lat=47.2102, vegetation="GRA")
GRID = grid_at(TOWER.lon, TOWER.lat, CubeGrid(size_px=24))


def raster(path, values, *, west, north, size, epsg=GRID.epsg, no_data=None):
    settings = {
        "driver": "GTiff",
        "width": values.shape[1],
        "height": values.shape[0],
        "count": 1,
        "dtype": "float32",
        "crs": epsg and f"EPSG:{epsg}",
        "nodata": no_data,
    }
    with rasterio.open(path, "w", transform=from_origin(west, north, size, size), **settings) as f:
        f.write(values.astype("float32"), 1)
    return TOWER.model_copy(update={"footprint": path})


def test_without_a_raster_it_is_a_disc_around_the_tower():
    weights = footprint_weights(GRID, tower=TOWER, radius=50)
    assert weights.sum() == pytest.approx(1)
    inside = weights > 0
    assert len(np.unique(weights[inside])) == 1
    assert inside.sum() * 100 == pytest.approx(np.pi * 50**2, rel=0.08)
    east, north = Transformer.from_crs(4326, GRID.epsg, always_xy=True).transform(
        TOWER.lon, TOWER.lat
    )
    rows, columns = np.nonzero(inside)
    assert abs(GRID.x[columns].mean() - east) < 5
    assert abs(GRID.y[rows].mean() - north) < 5
    assert (footprint_weights(GRID, tower=TOWER, radius=0.01) > 0).sum() == 1
    far = TOWER.model_copy(update={"lon": TOWER.lon + 0.1})
    with pytest.raises(UserError, match="outside its cube"):
        footprint_weights(GRID, tower=far, radius=50)


def test_a_finer_raster_is_averaged_and_is_zero_where_it_has_no_data(tmp_path):
    west, _, _, north = GRID.bounds
    fine = np.full((48, 48), -1.0)
    # Pixel (4, 6) of the cube holds four cells of 5 m; half of its neighbour is covered too.
    fine[8:10, 12:14] = 3.0
    fine[8:10, 14] = 1.0
    fine[20, 20] = 4.0
    tower = raster(tmp_path / "f.tif", fine, west=west, north=north, size=5, no_data=-1)
    weights = footprint_weights(GRID, tower=tower, radius=50)
    expected = np.zeros(GRID.shape)
    expected[4, 6], expected[4, 7], expected[10, 10] = 3.0, 0.5, 1.0
    np.testing.assert_allclose(weights, expected / 4.5, atol=1e-6)


def test_a_coarser_raster_of_another_projection_keeps_its_centre_of_mass(tmp_path):
    east, north = Transformer.from_crs(4326, 3035, always_xy=True).transform(TOWER.lon, TOWER.lat)
    y, x = np.mgrid[-9:10, -9:10] * 20.0
    bump = np.exp(-((x - 40) ** 2 + y**2) / (2 * 30**2))
    tower = raster(tmp_path / "f.tif", bump, west=east - 190, north=north + 190, size=20, epsg=3035)
    weights = footprint_weights(GRID, tower=tower, radius=50)
    assert weights.sum() == pytest.approx(1)
    found = (weights * GRID.x[None]).sum(), (weights * GRID.y[:, None]).sum()
    expected = Transformer.from_crs(3035, GRID.epsg, always_xy=True).transform(east + 40, north)
    np.testing.assert_allclose(found, expected, atol=4)


@pytest.mark.parametrize(
    ("values", "where", "epsg", "message"),
    [
        (np.ones((9, 9)), 0.0, None, "no coordinate reference system"),
        (np.ones((9, 9)), 5e5, GRID.epsg, "no weight within"),
        (-np.ones((9, 9)), 0.0, GRID.epsg, "negative weight"),
        (None, 0.0, None, r"f\.tif: cannot be read as a raster"),
    ],
)
def test_a_file_that_cannot_be_a_footprint_is_rejected(tmp_path, values, where, epsg, message):
    path, (west, _, _, north) = tmp_path / "f.tif", GRID.bounds
    if values is None:
        path.write_text("no raster")
        tower = TOWER.model_copy(update={"footprint": path})
    else:
        tower = raster(path, values, west=west + where, north=north, size=10, epsg=epsg)
    with pytest.raises(UserError, match=message) as caught:
        footprint_weights(GRID, tower=tower, radius=50)
    assert "\n" not in str(caught.value)
