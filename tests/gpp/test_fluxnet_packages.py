"""Towers' files as publishers pack and name them, and as users keep them."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.config import Fluxes, FluxTowers
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.fluxnet import read_tower
from pipeline_lib.gpp.targets import read_targets, write_all_targets

SITE = "XX-Abc"
HALF_HOURS = "TIMESTAMP_START,TIMESTAMP_END,H\n201701010000,201701010030,1\n"
ABOUT = "SITE_ID,GROUP_ID,VARIABLE,DATAVALUE\nXX-Abc,1,SITE_NAME,Somewhere\n"
REANALYSIS = "TIMESTAMP,TA_ERA\n20170101,1.0\n"


def text_of(gpp: float = 5.0, first: str = "2017-01-01", last: str = "2017-12-31", **more) -> str:
    days = pd.date_range(first, last).strftime("%Y%m%d")
    table = pd.DataFrame({"TIMESTAMP": days, "GPP_NT_VUT_REF": gpp, "NEE_VUT_REF_QC": 0.9})
    return table.assign(**more).to_csv(index=False)


DAYS = text_of()
PACKAGES = {
    "FLUXNET2015": {
        f"FLX_{SITE}_FLUXNET2015_FULLSET_DD_2017-2017_1-4.csv": DAYS,
        f"FLX_{SITE}_FLUXNET2015_FULLSET_HH_2017-2017_1-4.csv": HALF_HOURS,
        f"FLX_{SITE}_FLUXNET2015_ERAI_DD_1989-2014_1-4.csv": REANALYSIS,
        f"FLX_{SITE}_FLUXNET2015_AUXNEE_2017-2017_1-4.csv": ABOUT,
    },
    "AmeriFlux": {
        f"AMF_{SITE}_FLUXNET_FULLSET_DD_2017-2017_3-5.csv": DAYS,
        f"AMF_{SITE}_FLUXNET_FULLSET_HR_2017-2017_3-5.csv": HALF_HOURS,
        f"AMF_{SITE}_FLUXNET_ERA5_DD_1981-2020_3-5.csv": REANALYSIS,
        f"AMF_{SITE}_FLUXNET_BIF_20230101.xlsx": "not read",
    },
    "ICOS": {
        f"ICOSETC_{SITE}_FLUXNET_DD_INTERIM_L2.csv": DAYS,
        f"ICOSETC_{SITE}_FLUXNET_DD_VARINFO_INTERIM_L2.csv": ABOUT,
        f"ICOSETC_{SITE}_METEOSENS_INTERIM_L2.csv": HALF_HOURS,
        f"ICOSETC_{SITE}_ANCILLARY_INTERIM_L2.csv": ABOUT,
    },
    "2025": {
        f"TERN_{SITE}_FLUXNET_FLUXMET_DD_2017-2017_v1.3_r1.csv": DAYS,
        f"TERN_{SITE}_FLUXNET_ERA5_DD_1981-2025_v1.3_r1.csv": REANALYSIS,
        f"TERN_{SITE}_FLUXNET_BIFVARINFO_DD_2017-2017_v1.3_r1.csv": ABOUT,
        f"TERN_{SITE}_FLUXNET_BIF_2017-2017_v1.3_r1.csv": ABOUT,
        "README.txt": "read me",
    },
}


def save(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return folder


def zipped(path: Path, files: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path.parent


def days_of(folder: Path, **fluxes) -> pd.DataFrame:
    (days,) = read_tower(folder, SITE, Fluxes(**fluxes))[0]
    return days


@pytest.mark.parametrize("package", PACKAGES)
def test_of_every_package_the_daily_fluxes_are_read(tmp_path: Path, package: str) -> None:
    files = PACKAGES[package]
    plain = save(tmp_path / "plain" / f"{SITE}_unpacked", files).parent
    packed = zipped(tmp_path / "packed" / f"{SITE}.ZIP", files)
    # A bulk download of many sites has no code of its own.
    inside = {f"deep/{name}": text for name, text in files.items()}
    bulk = zipped(tmp_path / "bulk" / "download.zip", inside | {"FLX_YY-Abc_DD.csv": text_of(9)})
    for folder in (plain, packed, bulk):
        records, files_read = read_tower(folder, SITE, Fluxes())
        assert len(records) == 1 and records[0]["gpp"].eq(5).sum() == 365
        assert files_read == next(iter(files))


@pytest.mark.parametrize(
    "name",
    [
        f"FLX_{SITE}_FLUXNET2015_SUBSET_DD_2017-2017_1-4.CSV",
        f"{SITE}/daily.csv",
        f"{SITE}/FLUXNET_DD.csv.gz",
        f"FLX_YY-Abc_and_more/{SITE}.csv",
        f"icos_{SITE}_daily.csv",
    ],
)
def test_a_file_belongs_to_the_site_of_its_name_or_else_of_its_folder(
    tmp_path: Path, name: str
) -> None:
    names = (f"{SITE}/FLX_YY-Abc_DD.csv", f"FLX_{SITE}d_DD.csv", f".partial-FLX_{SITE}_DD.csv")
    folder = save(tmp_path, dict.fromkeys(names, text_of(9)) | {name: DAYS})
    assert days_of(folder)["gpp"].eq(5).sum() == 365


def as_r_writes(text: str) -> str:
    """With names in quotes, and the number of each row."""
    head, *lines = text.splitlines()
    names = ",".join(f'"{name}"' for name in ["", *head.split(",")])
    return "\n".join([names, *(f'"{number}",{line}' for number, line in enumerate(lines, 1)), ""])


AS_PROGRAMS_WRITE = {
    "byte order mark": "\ufeff" + DAYS,
    "Windows": DAYS.replace("\n", "\r\n"),
    "R": as_r_writes(DAYS),
    "missing as NA": DAYS.replace("\n", "\n20161231,NA,NA\n", 1),
    "dates": pd.read_csv(io.StringIO(DAYS), parse_dates=["TIMESTAMP"]).to_csv(),
}


@pytest.mark.parametrize("program", AS_PROGRAMS_WRITE)
def test_what_programs_make_of_a_file_is_read(tmp_path: Path, program: str) -> None:
    save(tmp_path, {f"{SITE}.csv": AS_PROGRAMS_WRITE[program]})
    days = days_of(tmp_path)
    assert days["gpp"].eq(5).sum() == 365 and days.index[-1] == pd.Timestamp("2017-12-31")


def test_a_file_that_a_browser_has_unpacked_is_read(tmp_path: Path) -> None:
    (tmp_path / f"{SITE}_DD.csv.gz").write_text(DAYS)
    assert days_of(tmp_path)["gpp"].eq(5).sum() == 365


def test_the_newest_release_counts_by_number(tmp_path: Path) -> None:
    name = f"AMF_{SITE}_FLUXNET_FLUXMET_DD_%s_v1.3_r%d.csv"
    late = text_of(10, GPP_NT_VUT_REF=np.r_[-9999, np.full(364, 10)])
    save(tmp_path, {name % ("2017-2017", 2): text_of(2), name % ("2017-2017", 10): late})
    # What the newest release has removed does not come back.
    days = days_of(tmp_path)
    assert days["gpp"].isna().sum() == 1 and days["gpp"].eq(10).sum() == 364
    words = read_tower(tmp_path, SITE, Fluxes())[1]
    assert words == f"{name % ('2017-2017', 10)}; older release not used: {name % ('2017-2017', 2)}"
    # A release of fewer years does not replace the years that it lacks.
    save(tmp_path, {name % ("2016-2017", 9): text_of(9, "2016-01-01")})
    records, words = read_tower(tmp_path, SITE, Fluxes())
    assert [record["gpp"].max() for record in records] == [9, 10]
    assert words.startswith(f"{name % ('2016-2017', 9)} + {name % ('2017-2017', 10)}; older")


TWO = text_of(GPP_DT_CUT_REF=7.0, NEE_CUT_REF_QC=0.95, GPP_NT_CUT_REF=6.0, GPP_DT_VUT_REF=8.0)


@pytest.mark.parametrize(
    ("partitioning", "ustar", "gpp", "quality"),
    [("NT", "VUT", 5, 0.9), ("NT", "CUT", 6, 0.95), ("DT", "CUT", 7, 0.95), ("DT", "VUT", 8, 0.9)],
)
def test_partitioning_and_threshold_are_chosen_with_their_quality(
    tmp_path: Path, partitioning: str, ustar: str, gpp: float, quality: float
) -> None:
    save(tmp_path, {f"{SITE}_DD.csv": TWO})
    days = days_of(tmp_path, partitioning=partitioning, ustar=ustar)
    assert (days["gpp"] == gpp).all() and (days["quality"] == quality).all()


def named(columns: str, line: str = "20170101,1,1,1") -> str:
    return f"TIMESTAMP,{columns}\n{line}\n"


COLUMNS = "GPP_NT_VUT_REF,NEE_VUT_REF_QC"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("XX-Abc_DD.csv", named("GPP_DT_VUT_REF,NEE_VUT_REF_QC"), "it has GPP_DT_VUT_REF: set gpp"),
        ("XX-Abc_DD.csv", named("GPP_NT_CUT_REF,NEE_CUT_REF_QC"), "set .* gpp.fluxes.ustar"),
        ("XX-Abc_CH4_DD.csv", named("GPP_NT,GPP_DT,FCH4_F"), "GPP_NT, GPP_DT: .* another product"),
        ("AMF_XX-Abc_BASE_HH_5-5.csv", "# Site: XX-Abc\n", "not daily .* is half-hourly.; .* its"),
        ("XX-Abc.csv", named("GPP_NT_VUT_REF,NEE"), "missing columns: NEE_VUT_REF_QC; use the tow"),
        (
            "XX-Abc.csv",
            f"{named(COLUMNS, '20170101,1,1')}20170101,2,1\n",
            "several values of 2017-01-01: several",
        ),
        ("all_towers.csv", DAYS, "cannot use all_towers.csv: files have the code of one"),
        ("XX-Abc_YY-Abc.csv", DAYS, "cannot use XX-Abc_YY-Abc.csv: files have the code of one"),
        ("XX-Abc.7z", "", ".csv.gz, .zip.; cannot use XX-Abc.7z"),
        ("ICOSETC_XX-Abc_SITEINFO_L2.csv", ABOUT, "missing columns: .*; no daily fluxes"),
        ("FLX_XX-Abc_DD_2017-2017_1-4.csv", text_of(last="2017-11-30"), "ends on 2017-11-30, but"),
        ("XX-Abc.csv", DAYS.replace("20170105,5.0,", "20170105,"), "line 6 has 2 of 3 fields; use"),
        ("XX-Abc.csv", DAYS.replace("20170101", "01/01/2017"), "'01/01/2017' is not a day"),
    ],
)
def test_what_is_not_a_towers_daily_fluxes_is_said_in_a_fitting_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_tower(save(tmp_path, {name: text}), SITE, Fluxes())
    assert "\n" not in str(caught.value) and "download it again" not in str(caught.value)


def test_zips_in_a_zip_are_named(tmp_path: Path) -> None:
    name = f"FLX_{SITE}_DD.csv"
    inner = next(zipped(tmp_path / "in" / f"ICOSETC_{SITE}_ARCHIVE_L2.zip", {name: DAYS}).iterdir())
    (tmp_path / "out").mkdir()
    with zipfile.ZipFile(tmp_path / "out" / "release.zip", "w") as archive:
        archive.write(inner, inner.name)
    with pytest.raises(
        UserError, match=f"ICOSETC_{SITE}_ARCHIVE_L2.zip in release.zip: .* must be unpacked"
    ):
        read_tower(tmp_path / "out", SITE, Fluxes())


def test_a_tower_that_cannot_be_read_does_not_hold_back_others(tmp_path: Path) -> None:
    place = {"lon": 10.5, "lat": 50.25, "vegetation": "DBF"}
    names = [SITE, "XX-Cut", "XX-Non"]
    period = {"start": "2017-01-01", "end": "2017-12-31"}
    folder = save(tmp_path / "in", {f"{SITE}_DD.csv": TWO, "XX-Cut_DD.csv": TWO[:-3] + "\n1"})
    gpp = FluxTowers(fluxnet=folder, towers=[{"name": n, **place} for n in names], period=period)
    shown = write_all_targets(gpp=gpp, folder=tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "sites.csv", index_col="site")
    assert table["used"].tolist() == [True, False, False] and table["measured"].sum() == 365
    assert table.loc["XX-Non", "reason"] == "no file that can be read"
    assert "cut short, line" in table.loc["XX-Cut", "files"] and "XX-Cut_DD.csv" in shown
    assert "no daily file of XX-Non" in table.loc["XX-Non", "files"]
    for name in names[1:]:
        days = read_targets(tmp_path / "out" / "targets" / f"{name}.csv")
        assert len(days) == 365 and not days["kept"].any()
    gpp = gpp.model_copy(update={"towers": gpp.towers[1:]})
    with pytest.raises(UserError, match="cut short, line"):
        write_all_targets(gpp=gpp, folder=tmp_path / "none")


def test_a_file_that_cannot_be_read_does_not_hold_back_others_of_its_tower(tmp_path: Path) -> None:
    save(tmp_path, {f"a_{SITE}_DD.csv": DAYS, f"b_{SITE}_DD.csv": DAYS[:-6]})
    (tmp_path / f"{SITE}.zip").write_bytes(b"PK\x03\x04")
    records, words = read_tower(tmp_path, SITE, Fluxes())
    assert len(records) == 1
    assert words.startswith(f"a_{SITE}_DD.csv; not read: b_{SITE}_DD.csv: cut short, line 366")
    assert f"; not read: {SITE}.zip: damaged or cut short" in words


WARM_WINTER = {
    "BE-Lcr": (731, 651, 580, 6.4772),
    "FR-LGt": (1461, 1143, 1090, 2.9931),
    "GL-Dsk": (366, 362, 213, 1.3025),
}


@pytest.mark.real
def test_real_towers_of_the_warm_winter_release_as_their_folder_lies(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "fluxnet" / "warmwinter2020"
    names = [*WARM_WINTER, "CH-Cha", "DE-HoH"]
    towers = [{"name": n, "lon": 10, "lat": 50, "vegetation": "GRA"} for n in names]
    period = {"start": "2017-01-01", "end": "2020-12-31"}
    gpp = FluxTowers(fluxnet=folder, towers=towers, period=period)
    write_all_targets(gpp=gpp, folder=tmp_path)
    table = pd.read_csv(tmp_path / "sites.csv", index_col="site")
    for name, (measured, good, kept, mean) in WARM_WINTER.items():
        assert table.loc[name, ["measured", "good", "kept"]].tolist() == [measured, good, kept]
        raw = pd.read_csv(next(folder.glob(f"FLX_{name}_*")), na_values=[-9999])
        passed = (raw["NEE_VUT_REF_QC"] >= 0.7) & (raw["GPP_NT_VUT_REF"] >= 0)
        expected = raw["GPP_NT_VUT_REF"][passed].mean()
        assert (
            table.loc[name, "mean_gpp"] == pytest.approx(expected) == pytest.approx(mean, abs=1e-4)
        )
    assert "FULLSET_MM_2005-2020_beta-3.csv.gz is monthly" in table.loc["CH-Cha", "files"]
    assert "cannot use daily_GPP_34sites_2015-2020.csv.gz" in table.loc["DE-HoH", "files"]
