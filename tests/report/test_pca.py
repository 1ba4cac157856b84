from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cubes import write_made_cube, write_made_embeddings, write_split

from pipeline_lib.config import SENTINEL_2
from pipeline_lib.cubes import CLEAR, THICK_CLOUD
from pipeline_lib.embed import read_embedding, read_manifest
from pipeline_lib.errors import UserError
from pipeline_lib.report.pca import (
    choose_cubes,
    clearest_dates,
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


def test_dates_are_spread_and_the_clearest_of_their_season() -> None:
    times = np.datetime64("2022-01-01", "ns") + np.arange(360) * np.timedelta64(1, "D")
    share = np.full(360, 0.2)
    best = [40, 100, 250, 300]
    share[best] = 0.9
    assert clearest_dates(times, share, 4).tolist() == best
    share[90:180] = 0
    assert clearest_dates(times, share, 4).tolist() == [40, 250, 300]


SENSOR = SENTINEL_2.model_copy(update={"bands": ("B02", "B03", "B04")})


def made(root: Path, *names: str, model: str = "m") -> dict[str, dict[str, Path]]:
    """Cubes and their embeddings by name, as the figures take them."""
    found: dict[str, dict[str, Path]] = {"embeddings": {}, "cubes": {}}
    for name in names:
        rng = np.random.default_rng(len(name))
        mask = np.where(rng.random((9, 24, 30)) < 0.2, THICK_CLOUD, CLEAR)
        path, values = root / f"{name}.zarr.zip", rng.random((9, 3, 24, 30)) * 0.3
        found["cubes"][name] = write_made_cube(path, values, mask, SENSOR, days=40)
        embedding = rng.normal(size=(9, 7, 24, 30)).cumsum(axis=3)
        embedding = np.where((mask != CLEAR)[:, None], np.nan, embedding)
        manifest = write_made_embeddings(root, path, embedding, model=model)
        found["embeddings"][name] = manifest
    return found


def test_the_figure_is_drawn_alike_every_time_and_of_one_model(tmp_path: Path) -> None:
    split = write_split(tmp_path / "split.csv", {"here": "test", "there": "test"})
    settings: dict[str, Any] = {"split_table": split, "rgb": RGB, "seed": 1}
    files = made(tmp_path, "here", "there")
    for output in ("one.png", "two.png"):
        plot_pca_maps(**files, **settings, output=tmp_path / output)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    files["embeddings"] |= made(tmp_path / "another", "there", model="another")["embeddings"]
    with pytest.raises(UserError, match="there come from another model than those of here"):
        plot_pca_maps(**files, **settings, output=tmp_path / "maps.png")
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
    files = made(tmp_path, "here", "there", "elsewhere")
    counts = {
        name: read_manifest(manifest.parent)["embeddings"]
        for name, manifest in files["embeddings"].items()
    }
    drawn: list[tuple[Path, Any]] = []

    def watched(path: Path, times: Any, rgb: Any) -> Any:
        drawn.append((path, times))
        return true_colours(path, times, rgb)

    monkeypatch.setattr("pipeline_lib.report.pca.true_colours", watched)
    for output in ("one.png", "two.png"):
        plot_pca_dates(**files, rgb=RGB, output=tmp_path / output)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    shown = {
        name: [max(part) for part in np.array_split(np.array(found), [3, 5, 7])]
        for name, found in counts.items()
    }
    fullest = max(shown, key=lambda name: sum(shown[name]))
    path, times = drawn[0]
    assert path == files["cubes"][fullest]
    product = read_embedding(files["embeddings"][fullest].parent)
    chosen = np.isfinite(product.sel(time=times)["embedding"].values).all(axis=1)
    assert chosen.sum(axis=(1, 2)).tolist() == shown[fullest]
