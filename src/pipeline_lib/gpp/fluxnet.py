"""Daily fluxes of towers: finding their files and reading them.

Layouts: FLUXNET2015 FULLSET and SUBSET (Pastorello et al. 2020, doi 10.1038/s41597-020-0534-3),
Warm Winter 2020 and ICOS L2, which share their columns and differ in file names alone. The files
come from many hands, so they are read with limits, and what is not daily FLUXNET is rejected.
"""

from __future__ import annotations

import errno
import gzip
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from pipeline_lib.errors import UserError, in_a_line

TIME_COLUMN = "TIMESTAMP"
GPP_COLUMN = "GPP_NT_VUT_REF"
QUALITY_COLUMN = "NEE_VUT_REF_QC"
MISSING = -9999
GPP_UNITS = "g C m-2 d-1"
WEATHER_UNITS = {"SW_IN_F": "W m-2", "TA_F": "degC"}
"""Columns of weather, whose gaps the publisher has filled -> units."""
DAILY = "DD"
RESOLUTIONS = {
    "HH": "half-hourly",
    "HR": "hourly",
    DAILY: "daily",
    "WW": "weekly",
    "MM": "monthly",
    "YY": "yearly",
}
"""What a file name says of the resolution."""
DIGITS = {12: "half-hourly or hourly", 6: "monthly", 4: "yearly"}
"""Digits of a time -> resolution."""
WITHOUT_FLUXES = {"ERAI", "ERA5", "AUXMETEO", "AUXNEE", "VARINFO", "BIF"}
"""Companions of the flux files in the same folders and archives."""
LARGEST_BYTES = 2**27
"""Thirty years of all daily columns take an eighth of it."""
MOST_COLUMNS = 5000
"""Files of all daily columns have some hundreds; the time of pandas grows with their square."""
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compressions of zip archives that can be unpacked bit by bit, up to a limit."""
ODD = re.compile(r"[\"\0]|[eE][+-]?\d{4}")
"""What no file of numbers holds; pandas 2.3 ends the process at an exponent beyond 32 bits."""
DAMAGES = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, struct.error)
"""What a damaged file surfaces as."""


@dataclass(frozen=True)
class FluxFile:
    """A text file: plain, gzipped, or a member of a zip archive."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Its own name, without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    def __str__(self) -> str:
        return f"{self.path}:{in_a_line(self.member)}" if self.member else str(self.path)

    def read(self) -> str:
        """The whole text; nothing is unpacked to the disk.

        Raises UserError if the file is damaged, is not text, or is larger than `LARGEST_BYTES`.
        """
        try:
            content = self._content(LARGEST_BYTES + 1)
            if len(content) > LARGEST_BYTES:
                raise UserError(
                    f"{self}: more than {LARGEST_BYTES / 2**20:.0f} MB, which no daily file has; "
                    f"use the {DAILY} file"
                )
            return content.decode("utf-8-sig")
        except DAMAGES as error:
            raise _damaged(self, error) from error
        except (UnicodeDecodeError, RuntimeError) as error:
            raise UserError(f"{self}: not a readable text file ({in_a_line(error)})") from error
        except OSError as error:
            # A zip whose directory lies before its start; other errors are the machine's.
            if error.errno != errno.EINVAL:
                raise
            raise _damaged(self, error) from error

    def _content(self, size: int) -> bytes:
        if self.member is None:
            opener = gzip.open if self.path.suffix == ".gz" else open
            with opener(self.path, "rb") as file:
                return file.read(size)
        with zipfile.ZipFile(self.path) as archive:
            about = archive.getinfo(self.member)
            if about.compress_type not in PACKED:
                raise UserError(f"{self}: unusual compression; unpack the archive")
            with archive.open(about) as file:
                return file.read(size)


def _damaged(file: FluxFile | Path, error: Exception) -> UserError:
    return UserError(f"{file}: damaged or cut short ({in_a_line(error)}); download it again")


def find_daily(folder: Path, tower: str) -> list[FluxFile]:
    """The daily files of a tower, in ``folder`` and below, inside archives too.

    A file belongs to a tower if its name holds the site code; an archive is opened only
    if its own name does. A name that states a resolution must state ``DD``.

    Raises UserError if the folder or the tower's files are absent, or none of them is daily.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; gpp.fluxnet must name one")
    code = re.compile(rf"(?<![A-Za-z0-9]){re.escape(tower)}(?![A-Za-z0-9])")
    daily, others = [], []
    for file in _candidates(folder, code):
        parts = re.split(r"[_.]", file.name)
        stated = [part for part in parts if part in RESOLUTIONS]
        if WITHOUT_FLUXES & set(parts):
            continue
        if stated and DAILY not in stated:
            others.append(f"{in_a_line(file.name)} is {RESOLUTIONS[stated[0]]}")
        else:
            daily.append(file)
    if not daily and others:
        raise UserError(
            f"{folder}: the only files of {tower} are not daily ({others[0]}); add its {DAILY} file"
        )
    if not daily:
        raise UserError(
            f"{folder}: no daily file of {tower}; expected a name like "
            f"FLX_{tower}_FLUXNET2015_FULLSET_DD_2017-2020_1-4.csv (or .csv.gz, .zip)"
        )
    return daily


def _candidates(folder: Path, code: re.Pattern[str]) -> Iterator[FluxFile]:
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not code.search(path.name) or not path.is_file():
            continue
        if path.name.endswith((".csv", ".csv.gz")):
            yield FluxFile(path)
        elif path.suffix == ".zip":
            try:
                with zipfile.ZipFile(path) as archive:
                    members = sorted(set(archive.namelist()))
            except (*DAMAGES, ValueError, NotImplementedError) as error:
                raise _damaged(path, error) from error
            files = [FluxFile(path, member) for member in members if member.endswith(".csv")]
            yield from (f for f in files if code.search(f.name) and not f.name.startswith("."))


def read_daily(file: FluxFile, weather: Sequence[str] = ()) -> pd.DataFrame:
    """Read one daily file, with these columns of `WEATHER_UNITS` besides.

    By ``date``: ``gpp`` in g C m-2 d-1, ``quality`` as a fraction, the weather, NaN where missing;
    units in ``attrs``. Days stand as in the file, repeated ones included.

    Raises UserError if the file is not daily, misses a column, is cut short, has decimal commas, or
    holds something that is not a number or not a date.
    """
    text = file.read()
    try:
        return _parsed(text, file.name, weather)
    except ValueError as error:
        raise UserError(f"{file}: {in_a_line(error)}") from error


def _parsed(text: str, name: str, weather: Sequence[str]) -> pd.DataFrame:
    wanted = [TIME_COLUMN, GPP_COLUMN, QUALITY_COLUMN, *weather]
    _check_layout(text, wanted)
    table = pd.read_csv(io.StringIO(text), usecols=wanted, dtype=str)
    columns = {"gpp": _numbers(table, GPP_COLUMN), "quality": _quality(table)}
    days = pd.DataFrame(columns | {column: _numbers(table, column) for column in weather})
    days.index = _dates(table[TIME_COLUMN])
    # Names state whole years: that is how a file cut between two lines is noticed.
    stated, last = re.search(r"_\d{4}-(\d{4})[_.]", name), days.index.max()
    if stated and last.strftime("%Y%m%d") < f"{stated[1]}1231":
        raise ValueError(
            f"cut short, ends on {last:%Y-%m-%d} where its name says {stated[1]}; download it again"
        )
    days.attrs = {"gpp": GPP_UNITS, "quality": "1"}
    days.attrs |= {column: WEATHER_UNITS[column] for column in weather}
    return days


def _check_layout(text: str, wanted: list[str]) -> None:
    """Columns and fields, which pandas would take as they come."""
    header, *lines = text.splitlines() or [""]
    names = header.strip().split(",")
    if len(names) > MOST_COLUMNS:
        raise ValueError(f"has {len(names)} columns; use the original file")
    if "TIMESTAMP_START" in names:
        raise ValueError(f"half-hourly or hourly data, not daily; use the {DAILY} file")
    if ";" in header:
        raise ValueError("columns are separated by semicolons; use the original file")
    if missing := [column for column in wanted if column not in names]:
        raise ValueError(f"missing columns: {', '.join(missing)}; not a FLUXNET file?")
    if doubled := [column for column in wanted if names.count(column) > 1]:
        raise ValueError(f"has {doubled[0]} twice; use the original file")
    if not lines:
        raise ValueError("holds no days; download it again")
    for number, line in enumerate(lines, start=2):
        fields = line.count(",") + 1
        if fields < len(names) and line.strip():
            raise ValueError(
                f"cut short, line {number} has {fields} of {len(names)} fields; download it again"
            )
        if fields > len(names):
            raise ValueError(
                f"line {number} has {fields} fields under {len(names)} columns; "
                "are there decimal commas? use the original file"
            )
    if ODD.search(text):
        raise ValueError(
            "holds quotation marks, zero bytes or exponents of four digits; use the original file"
        )


def _numbers(table: pd.DataFrame, name: str) -> pd.Series[float]:
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    wrong = np.flatnonzero(~np.isfinite(values) & table[name].notna())
    if len(wrong):
        raise ValueError(
            f"{name} holds {in_a_line(table[name].iloc[wrong[0]])!r} on line {wrong[0] + 2}, "
            "not a number; use the original file, with decimal points"
        )
    return values.mask(values == MISSING)


def _quality(table: pd.DataFrame) -> pd.Series[float]:
    """The fraction of measured half-hours, which some publishers give in percent."""
    values = _numbers(table, QUALITY_COLUMN)
    known = values.dropna()
    if known.empty or known.between(0, 1).all():
        return values
    if not known.between(0, 100).all():
        raise ValueError(
            f"{QUALITY_COLUMN} ranges from {known.min():g} to {known.max():g}, neither a fraction "
            "nor percent"
        )
    if known.isin(range(4)).all():
        raise ValueError(
            f"{QUALITY_COLUMN} holds the flags 0 to 3 of half-hourly data, not the fraction of a "
            f"day; use the {DAILY} file"
        )
    return values / 100


def _dates(stamps: pd.Series[str]) -> pd.DatetimeIndex:
    stamps = stamps.fillna("")
    wrong = stamps[stamps.str.len() != 8]
    if len(wrong):
        what = DIGITS.get(len(wrong.iloc[0]), "unknown")
        raise ValueError(
            f"{TIME_COLUMN} {in_a_line(wrong.iloc[0])!r} is not a day ({what} data); "
            f"use the {DAILY} file"
        )
    dates = pd.to_datetime(stamps, format="%Y%m%d", errors="coerce")
    if dates.isna().any():
        raise ValueError(f"{TIME_COLUMN} {stamps[dates.isna()].iloc[0]!r} is not a date (YYYYMMDD)")
    return pd.DatetimeIndex(dates, name="date")
