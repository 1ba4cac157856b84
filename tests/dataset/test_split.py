import csv
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config import Split
from pipeline_lib.dataset import read_split, split_sites, write_split
from pipeline_lib.errors import UserError

CLASSES = ("urban", "grassland", "others")

sites = st.lists(
    st.tuples(
        st.sampled_from(CLASSES),
        st.integers(1, 3),
        st.sampled_from([None, None, None, "training", "test", "unused"]),
    ),
    min_size=1,
    max_size=60,
)


def rows_of(described):
    return [
        {
            "cube": f"s{number:02}-{part}",
            "site": f"s{number:02}",
            "land_cover": cover,
            "split": name,
        }
        for number, (cover, cubes, name) in enumerate(described)
        for part in "abc"[:cubes]
    ]


@settings(max_examples=100, deadline=None)
@given(sites, st.integers(0, 5), st.randoms())
def test_laws_of_the_split(described, seed, random):
    rows = rows_of(described)
    presets = [name for _, _, name in described]
    needed = {"training", "validation"} - {*presets}
    if presets.count(None) < len(needed):
        with pytest.raises(UserError, match="no site is left for the"):
            split_sites(rows, split=Split(), seed=seed)
        return
    assigned = split_sites(rows, split=Split(), seed=seed)
    assert {row["split"] for row in assigned} >= {"training", "validation"}
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert split_sites(shuffled, split=Split(), seed=seed) == assigned

    by_cube = {row["cube"]: row["split"] for row in assigned}
    assert set(by_cube) == {row["cube"] for row in rows}
    by_site = {}
    for row in assigned:
        assert by_site.setdefault(row["site"], row["split"]) == row["split"]
    for row in rows:
        if row["split"]:
            assert by_cube[row["cube"]] == row["split"]

    free = [f"s{n:02}" for n, (_, _, name) in enumerate(described) if name is None]
    counts = Counter(by_site[site] for site in free)
    if len(free) >= 3:
        assert min(counts[name] for name in ("training", "validation", "test")) >= 1
    for name, share in (("training", 0.75), ("validation", 0.17), ("test", 0.08)):
        assert abs(counts[name] - share * len(free)) < 2


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000))
def test_every_class_is_divided_like_the_whole(seed):
    described = [(CLASSES[number % 3], 1, None) for number in range(150)]
    assigned = split_sites(rows_of(described), split=Split(), seed=seed)
    found = Counter((row["land_cover"], row["split"]) for row in assigned)
    for cover in CLASSES:
        for name, share in (("training", 0.75), ("validation", 0.17), ("test", 0.08)):
            assert abs(found[cover, name] - 50 * share) <= 2


def test_another_seed_gives_another_split():
    rows = rows_of([("urban", 1, None)] * 40)
    assert split_sites(rows, split=Split(), seed=1) != split_sites(rows, split=Split(), seed=2)


@pytest.mark.parametrize(
    ("presets", "split", "missing"),
    [
        (["training", "training"], Split(), "validation"),
        (["validation", "unused"], Split(), "training"),
        ([None], Split(), "validation"),
        ([None] * 5, Split(training=0.9, validation=0, test=0.1), "validation"),
        ([None] * 5, Split(training=0, validation=0.5, test=0.5), "training"),
    ],
)
def test_a_split_without_training_or_validation_is_rejected(presets, split, missing):
    rows = rows_of([("urban", 1, name) for name in presets])
    with pytest.raises(UserError, match=f"no site is left for the {missing}") as caught:
        split_sites(rows, split=split, seed=1)
    assert "s00-a" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", ["training", "validation", "test", "unused"])
@pytest.mark.parametrize("shares", [(0.75, 0.17, 0.08), (0.5, 0.01, 0.49), (0.01, 0.5, 0.49)])
def test_of_two_free_sites_each_of_training_and_validation_gets_what_it_needs(preset, shares):
    split = Split(**dict(zip(("training", "validation", "test"), shares, strict=True)))
    rows = rows_of([("urban", 2, preset), ("urban", 1, None), ("grassland", 1, None)])
    for seed in range(5):
        found = {row["split"] for row in split_sites(rows, split=split, seed=seed)}
        assert found >= {preset, "training", "validation"}


def test_each_sensor_needs_training_and_validation_of_its_own():
    rows = rows_of([("urban", 1, "training"), ("urban", 1, "validation"), ("urban", 1, None)])
    for row, sensors in zip(rows, (["optical", "radar"], ["optical"], ["optical"]), strict=True):
        row["sensors"] = sensors
    with pytest.raises(UserError, match="no site is left for the validation of radar: s00-a"):
        split_sites(rows, split=Split(), seed=1)
    rows[1]["sensors"] = ["optical", "radar"]
    assert len(split_sites(rows, split=Split(), seed=1)) == 3


def test_contradictory_presets_and_doubled_cubes_are_rejected():
    rows = rows_of([("urban", 2, "test")])
    rows[1]["split"] = "training"
    with pytest.raises(UserError, match="site s00"):
        split_sites(rows, split=Split(), seed=1)
    with pytest.raises(UserError, match="s00-a"):
        split_sites(rows[:1] * 2, split=Split(), seed=1)


def test_table_joins_drawn_and_own_cubes(tmp_path):
    drawn = tmp_path / "sites.csv"
    with drawn.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["cube", "site", "land_cover", "lcc_code"])
        writer.writerows([[f"a{n}", f"a{n}", "urban", 190] for n in range(4)])
    own = [{"cube": "mine", "site": "mine", "land_cover": "others", "split": "unused"}]
    output = tmp_path / "split.csv"
    write_split(sites=drawn, own=own, split=Split(), seed=3, output=output)
    table = read_split(output)
    assert table["mine"] == "unused" and len(table) == 5
    with pytest.raises(UserError, match="no cube to split"):
        write_split(sites=None, own=(), split=Split(), seed=3, output=output)
