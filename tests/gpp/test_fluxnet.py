import gzip

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.config import Fluxes, Gpp, Tower
from pipeline_lib.errors import UserError
from pipeline_lib.gpp.fluxnet import find_daily, read_daily
from pipeline_lib.gpp.targets import (
    describe_site,
    join_records,
    judge_days,
    read_targets,
    write_all_targets,
    write_targets,
)

NAME = "FLX_XX-Abc_FLUXNET2015_FULLSET_DD_2017-2017_1-4.csv"
REAL = {"AT-Neu": (2002, 2012), "DE-Seh": (2007, 2010), "IT-Tor": (2008, 2014)}


def tower(name="XX-Abc"):
    return Tower(name=name, lon=10, lat=50, vegetation="GRA")


def gpp_of(first=2017, last=2017, **changes):
    period = {"start": f"{first}-01-01", "end": f"{last}-12-31"}
    settings = {"period": period, "windows": {"validation_years": (last,)}}
    return Gpp.model_validate(settings | changes)


def days_of_2017(**columns):
    stamps = pd.date_range("2017-01-01", "2017-12-31").strftime("%Y%m%d")
    table = pd.DataFrame({"TIMESTAMP": stamps, "GPP_NT_VUT_REF": 5.0, "NEE_VUT_REF_QC": 0.9})
    return table.assign(**columns)


def save(folder, table, name=NAME):
    (folder / name).write_text(table.to_csv(index=False))


def targets_of(folder, gpp=None, name="XX-Abc"):
    output = folder.parent / f"{folder.name}-out" / f"{name}.csv"
    write_targets(tower=tower(name), gpp=gpp or gpp_of(), fluxnet=folder, output=output)
    return read_targets(output)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_towers_equal_plain_pandas(shared_data, tmp_path, name):
    gpp = gpp_of(*REAL[name])
    output = tmp_path / "targets.csv"
    write_targets(tower=tower(name), gpp=gpp, fluxnet=shared_data / "fluxnet", output=output)
    table = read_targets(output)
    raw = pd.read_csv(next((shared_data / "fluxnet").glob(f"FLX_{name}_*_DD_*")), na_values=[-9999])
    flux, good = raw.GPP_NT_VUT_REF, raw.NEE_VUT_REF_QC >= 0.7
    kept = good & (flux >= 0)
    assert list(table.index.strftime("%Y%m%d").astype(int)) == list(raw.TIMESTAMP)
    assert table["gpp"].count() == flux.count() and table["gpp"].max() == flux.max()
    assert table["kept"].sum() == kept.sum() > 100
    assert table.loc[table.kept, "gpp"].mean() == pytest.approx(flux[kept].mean(), rel=1e-12)
    share = (good & flux.notna()).sum() / flux.count()
    assert describe_site(table, gpp.fluxes)["good_fraction"] == pytest.approx(share)


@pytest.mark.real
def test_real_half_hourly_file_is_rejected_by_name_and_by_content(shared_data, tmp_path):
    (source,) = (shared_data / "fluxnet").glob("*_HH_*")
    with pytest.raises(UserError, match=r"CH-Cha are not daily .* half-hourly"):
        find_daily(shared_data / "fluxnet", "CH-Cha")
    (tmp_path / "CH-Cha.csv").write_bytes(source.read_bytes())
    with pytest.raises(UserError, match="half-hourly or hourly data, not daily"):
        targets_of(tmp_path, name="CH-Cha")


@pytest.mark.real
def test_a_real_file_cut_anywhere_is_rejected(shared_data, tmp_path):
    (packed,) = (shared_data / "fluxnet").glob("FLX_DE-Seh_*")
    plain = gzip.decompress(packed.read_bytes())
    name = packed.name.removesuffix(".gz")
    line = plain.index(b"\n", len(plain) // 2) + 1
    for end in (line, line + 5, line + 400, len(plain) - 30):
        (tmp_path / name).write_bytes(plain[:end])
        with pytest.raises(UserError, match="cut short"):
            targets_of(tmp_path, gpp_of(2007, 2010), "DE-Seh")
    (tmp_path / name).unlink()
    for damaged in (packed.read_bytes()[:100_000], b"", b"\x1f\x8b" + b"x" * 99):
        (tmp_path / packed.name).write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            targets_of(tmp_path, gpp_of(2007, 2010), "DE-Seh")
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.parent.glob(f"{tmp_path.name}-out/*"))


HEADER = "TIMESTAMP,GPP_NT_VUT_REF,NEE_VUT_REF_QC"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing columns:"),
        (f"{HEADER}\n", "holds no days"),
        ("TIMESTAMP,NEE_VUT_REF_QC\n20170101,1\n", "missing columns: GPP_NT_VUT_REF"),
        ("TIMESTAMP;GPP_NT_VUT_REF;NEE_VUT_REF_QC\n20170101;1,5;1\n", "semicolons"),
        (f"{HEADER}\n20170101,1,5,0,9\n", "decimal commas"),
        (f'{HEADER}\n20170101,"1,5",1\n', "decimal commas"),
        (f"{HEADER}\n20170101,x,1\n", "'x' on line 2"),
        (f"{HEADER}\n20170101,inf,1\n", "'inf' on line 2"),
        (f"{HEADER}\n20170101,1\0,1\n", "zero bytes"),
        (f"{HEADER}\n20170101,1e+2147483648,1\n", "four digits"),
        (f"{HEADER},TIMESTAMP\n20170101,1,1,1\n", "TIMESTAMP twice"),
        (f"{HEADER}\n20170230,1,1\n", "not a day"),
        (f"{HEADER}\n201701,1,1\n", "'201701' is not a day .*; use the DD file"),
        (f"{HEADER}\n20170101,1,-0.5\n", "neither a fraction"),
    ],
)
def test_a_file_that_is_not_daily_fluxnet_is_rejected_in_one_line(tmp_path, text, message):
    (tmp_path / "XX-Abc.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        targets_of(tmp_path)
    assert "\n" not in str(caught.value)
    assert "XX-Abc.csv" in str(caught.value)


def test_percent_and_fraction_give_the_same(tmp_path):
    quality = np.round(np.linspace(0, 1, 365), 4)
    tables = []
    for name, factor in (("a", 1), ("b", 100)):
        (tmp_path / name).mkdir()
        save(tmp_path / name, days_of_2017(NEE_VUT_REF_QC=np.round(quality * factor, 8)))
        tables.append(targets_of(tmp_path / name))
    np.testing.assert_allclose(tables[0]["quality"], tables[1]["quality"], atol=1e-9)
    assert (tables[0]["kept"] == tables[1]["kept"]).all()


def test_missing_low_quality_and_negative_days_are_not_kept(tmp_path):
    flux, quality = np.full(365, 5.0), np.full(365, 0.7)
    flux[:10], flux[10:30] = -9999, -0.5
    quality[30:50], quality[50:60] = 0.699, -9999
    save(tmp_path, days_of_2017(GPP_NT_VUT_REF=flux, NEE_VUT_REF_QC=quality))
    gpp = gpp_of(2017, 2020)
    table = targets_of(tmp_path, gpp)
    # The period is complete, with its leap day.
    assert len(table) == 1461 and pd.Timestamp("2020-02-29") in table.index
    kept = table["kept"].to_numpy()
    assert kept[60:365].all() and not kept[:60].any() and not kept[365:].any()
    about = describe_site(table, gpp.fluxes)
    assert (about["measured"], about["good"], about["kept"]) == (355, 355 - 30, 305)
    assert about["good_fraction"] == pytest.approx((355 - 30) / 355)


def test_of_several_rows_of_a_day_the_measured_then_the_later_record_counts():
    def record(first, last, gpp, quality=0.9):
        index = pd.date_range(first, last, name="date")
        return pd.DataFrame({"gpp": gpp, "quality": quality}, index=index)

    early = record("2017-01-01", "2017-01-10", 1.0)
    late = record("2017-01-05", "2017-01-20", 2.0, 0.8)
    late.loc["2017-01-06", "gpp"] = np.nan
    for records in ([early, late], [late, early]):
        joined = join_records(records)
        assert joined.index.is_unique and len(joined) == 20
        assert joined.loc["2017-01-04":"2017-01-06", "gpp"].tolist() == [1, 2, 1]
    repeated = pd.concat([record("2017-01-01", "2017-01-01", 3.0, q) for q in (0.9, 0.5)])
    assert join_records([repeated])["quality"].tolist() == [0.9]


def test_a_site_needs_more_than_the_minimum_fraction_of_good_days():
    gpp = gpp_of()
    index = pd.date_range("2017-01-01", periods=100)
    quality = np.where(np.arange(100) < 60, 0.9, 0.1)
    days = pd.DataFrame({"gpp": 1.0, "quality": quality}, index=index)

    def is_used(table):
        return describe_site(judge_days(table, gpp), gpp.fluxes)["used"]

    assert not is_used(days)
    days.loc[index[60], "quality"] = 0.9
    assert is_used(days)
    assert not is_used(days.iloc[:0])


def test_weather_is_read_where_it_is_asked_for_and_units_travel_along(tmp_path):
    temperature = np.linspace(-3, 20, 365)
    temperature[7] = -9999
    save(tmp_path, days_of_2017(TA_F=temperature))
    (source,) = find_daily(tmp_path, "XX-Abc")
    units = {"gpp": "g C m-2 d-1", "quality": "1"}
    assert read_daily(source, Fluxes()).attrs == units
    assert read_daily(source, Fluxes(weather=("TA_F",))).attrs == units | {"TA_F": "degC"}
    table = targets_of(tmp_path, gpp_of(fluxes={"weather": ("TA_F",)}))
    assert table["TA_F"].isna().sum() == 1
    assert table["TA_F"].iloc[-1] == 20
    with pytest.raises(UserError, match="missing columns: SW_IN_F"):
        targets_of(tmp_path, gpp_of(fluxes={"weather": ("SW_IN_F",)}))


def test_the_site_table_says_which_towers_are_used_and_why(tmp_path):
    place = {"lon": 10.5, "lat": 50.25, "vegetation": "DBF"}
    columns = {
        "XX-Abc": {},
        "XX-Bad": {"NEE_VUT_REF_QC": np.where(np.arange(365) % 2, 0.9, 0.1)},
        "XX-Old": {"GPP_NT_VUT_REF": -9999},
    }
    folder = tmp_path / "fluxnet"
    folder.mkdir()
    for name, changed in columns.items():
        save(folder, days_of_2017(**changed), NAME.replace("XX-Abc", name))
    gpp = gpp_of(towers=[{"name": name, **place} for name in columns], fluxnet=folder)
    shown = write_all_targets(gpp=gpp, folder=tmp_path)
    table = pd.read_csv(tmp_path / "sites.csv", index_col="site")
    assert table["used"].tolist() == [True, False, False]
    assert table.loc["XX-Bad", "reason"] == "50% good days, not more than 60%"
    assert table.loc["XX-Old", "reason"] == "no measured day in the period"
    assert table.loc["XX-Abc", ["lon", "lat", "vegetation"]].tolist() == [10.5, 50.25, "DBF"]
    assert table.loc["XX-Abc", ["days", "kept", "good_fraction"]].tolist() == [365, 365, 1.0]
    assert "XX-Bad" in shown and "50% good days" in shown
