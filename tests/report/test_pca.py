from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pipeline_lib.cubes import CLEAR, THICK_CLOUD, Grid, make_cube, write_cube
from pipeline_lib.embed import read_embedding, read_manifest
from pipeline_lib.embed.store import Layout, TileStore
from pipeline_lib.errors import UserError
from pipeline_lib.files import write_csv
from pipeline_lib.report.pca import (
    choose_cubes,
    clearest_dates,
    draw_samples,
    pca_basis,
    plot_pca_dates,
    plot_pca_maps,
    project_rgb,
    true_colours,
)

RGB = ("B04", "B03", "B02")


def test_equal_samples_have_equal_colours_in_any_order() -> None:
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(200, 5)) * np.arange(1, 6)
    values = rng.normal(size=(5, 6, 6))
    one, two = (
        project_rgb(values, pca_basis(each)) for each in (samples, rng.permutation(samples))
    )
    np.testing.assert_allclose(one, two, atol=1e-5)
    # The feature that varies most is the first colour, and rises with it.
    order = np.argsort(values[4].ravel())
    assert np.corrcoef(one[..., 0].ravel()[order], np.arange(36))[0, 1] > 0.5


@pytest.mark.parametrize("features", [1, 2])
def test_fewer_features_than_colours_still_give_a_picture(features: int) -> None:
    rng = np.random.default_rng(0)
    basis = pca_basis(rng.normal(size=(40, features)))
    picture = project_rgb(rng.normal(size=(features, 4, 5)), basis)
    assert picture.shape == (4, 5, 4)
    np.testing.assert_allclose(picture[..., features:3], 0.5, atol=1e-6)


def test_missing_embeddings_are_transparent() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 3, 3))
    values[:, 1, 1] = np.nan
    picture = project_rgb(values, pca_basis(rng.normal(size=(50, 7))))
    assert np.isfinite(picture).all()
    assert picture[1, 1, 3] == 0
    assert picture[..., 3].sum() == 8


def test_samples_are_reproducible_and_never_missing() -> None:
    values = np.random.default_rng(1).normal(size=(4, 7, 6, 6)).astype(np.float32)
    values[1, :, :3] = np.nan
    first, second = (draw_samples(values, 50, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (50, 7)
    assert np.isfinite(first).all()


def test_dates_are_spread_and_the_clearest_of_their_season() -> None:
    times = np.datetime64("2022-01-01", "ns") + np.arange(360) * np.timedelta64(1, "D")
    share = np.full(360, 0.2)
    best = [40, 100, 250, 300]
    share[best] = 0.9
    assert clearest_dates(times, share, 4).tolist() == best
    share[90:180] = 0
    assert clearest_dates(times, share, 4).tolist() == [40, 250, 300]


def _product(folder: Path, name: str, model: str) -> tuple[Path, Path]:
    """A cube file and its embeddings."""
    rng = np.random.default_rng(len(name))
    grid = Grid(32631, 600000, 5600040, 10, 24, 30)
    times = np.datetime64("2022-01-01T10:30", "ns") + np.arange(9) * np.timedelta64(40, "D")
    mask = np.where(rng.random((9, 24, 30)) < 0.2, THICK_CLOUD, CLEAR).astype(np.uint8)
    cube = make_cube(
        values=rng.random((9, 3, 24, 30), dtype=np.float32) * 0.3,
        mask=mask,
        times=times,
        bands=["B02", "B03", "B04"],
        grid=grid,
        quantity="reflectance",
        frames={},
        attributes={"cube": name, "site": name, "land_cover": "grassland"},
    )
    path = folder / f"{name}.zarr.zip"
    write_cube(cube, path)
    template = xr.Dataset(
        coords={
            "time": ("time", times),
            "feature": ("feature", np.arange(7)),
            **{key: cube[key].variable for key in ("y", "x", "spatial_ref")},
        },
        attrs={"cube": name, "land_cover": "grassland", "model_digest": model},
    )
    layout = Layout(template, (), "sentinel-2", "1", "float16", 64)
    store = TileStore(folder / f"state-{name}", {"model_digest": model}, layout)
    values = rng.normal(size=(9, 7, 24, 30)).astype(np.float32).cumsum(axis=3)
    values[np.broadcast_to((mask != CLEAR)[:, None], values.shape)] = np.nan
    (tile,) = store.pending()
    quality = values[:, 0]
    layers = {"embedding": values, "context_share": quality, "reconstruction_error": quality}
    store.write(tile, layers)
    store.finish(folder / name, {})
    return path, folder / name


def test_the_figure_is_drawn_alike_every_time(tmp_path: Path) -> None:
    made = {name: _product(tmp_path, name, "m") for name in ("here", "there")}
    rows = [{"cube": n, "site": n, "land_cover": "grassland", "split": "test"} for n in made]
    write_csv(tmp_path / "split.csv", rows)
    for output in ("one.png", "two.png"):
        plot_pca_maps(
            embeddings={name: folder / "manifest.json" for name, (_, folder) in made.items()},
            cubes={name: path for name, (path, _) in made.items()},
            split_table=tmp_path / "split.csv",
            rgb=RGB,
            seed=1,
            output=tmp_path / output,
        )
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_embeddings_of_two_models_are_not_drawn_together(tmp_path: Path) -> None:
    made = {name: _product(tmp_path, name, f"model of {name}") for name in ("here", "there")}
    rows = [{"cube": n, "site": n, "land_cover": "grassland", "split": "test"} for n in made]
    write_csv(tmp_path / "split.csv", rows)
    with pytest.raises(UserError, match="there come from another model than those of here"):
        plot_pca_maps(
            embeddings={name: folder / "manifest.json" for name, (_, folder) in made.items()},
            cubes={name: path for name, (path, _) in made.items()},
            split_table=tmp_path / "split.csv",
            rgb=RGB,
            seed=1,
            output=tmp_path / "maps.png",
        )
    assert not (tmp_path / "maps.png").exists()


def test_the_figure_shows_each_land_cover_before_it_shows_one_twice() -> None:
    kinds = {
        "a": ("grassland", "training"),
        "b": ("grassland", "training"),
        "c": ("grassland", "test"),
        "d": ("urban", "training"),
        "e": ("forest", "training"),
    }
    assert choose_cubes(kinds, 3) == ["a", "d", "e"]
    assert choose_cubes(kinds, 4) == ["a", "c", "d", "e"]
    assert choose_cubes(kinds, 9) == ["a", "b", "c", "d", "e"]


def test_one_cube_is_drawn_on_its_clearest_dates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {name: _product(tmp_path, name, "m") for name in ("here", "there", "elsewhere")}
    counts = {name: read_manifest(folder)["embeddings"] for name, (_, folder) in made.items()}
    drawn: list[tuple[Path, Any]] = []

    def watched(path: Path, times: Any, rgb: Any) -> Any:
        drawn.append((path, times))
        return true_colours(path, times, rgb)

    monkeypatch.setattr("pipeline_lib.report.pca.true_colours", watched)
    for output in ("one.png", "two.png"):
        plot_pca_dates(
            embeddings={name: folder / "manifest.json" for name, (_, folder) in made.items()},
            cubes={name: path for name, (path, _) in made.items()},
            rgb=RGB,
            output=tmp_path / output,
        )
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    shown = {
        name: [max(part) for part in np.array_split(np.array(found), [3, 5, 7])]
        for name, found in counts.items()
    }
    fullest = max(shown, key=lambda name: sum(shown[name]))
    path, times = drawn[0]
    assert path == made[fullest][0]
    product = read_embedding(made[fullest][1])
    chosen = np.isfinite(product.sel(time=times)["embedding"].values).all(axis=1)
    assert chosen.sum(axis=(1, 2)).tolist() == shown[fullest]


def test_without_embeddings_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dates.png: there are no embeddings to draw"):
        plot_pca_dates(embeddings={}, cubes={}, rgb=RGB, output=tmp_path / "dates.png")
