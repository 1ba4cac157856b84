"""Daily GPP of flux towers: finding the files, reading them, and judging their days.

Layouts: FLUXNET2015 FULLSET and SUBSET (Pastorello et al. 2020,
doi 10.1038/s41597-020-0534-3), Warm Winter 2020 and ICOS L2, which share their columns and
differ in file names alone.
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

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
DIGITS = {12: "half-hourly or hourly", 6: "monthly", 4: "yearly"}
WITHOUT_FLUXES = ("ERAI", "ERA5", "AUXMETEO", "AUXNEE", "VARINFO", "BIF")
"""Companions of the flux files in the same folders and archives."""
LARGEST_BYTES = 2**27
"""Thirty years of all daily columns take an eighth of it."""
MOST_COLUMNS = 5000
"""Files of all daily columns have some hundreds; pandas takes the square of them in time."""
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the ways to pack a zip those that can be unpacked bit by bit, up to a limit."""
ODD = re.compile(r"[\"\0]|[eE][+-]?\d{4}")
"""What no file of numbers holds; pandas 2.3 ends the process at an exponent beyond 32 bits."""
DAMAGES = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, struct.error)
"""What a damaged file surfaces as."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Source:
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

        Raises
        ------
        UserError
            If the file is damaged, is not text, or unpacks to more than `LARGEST_BYTES`.
        """
        try:
            with self._opened() as file:
                content = file.read(LARGEST_BYTES + 1)
            if len(content) > LARGEST_BYTES:
                raise self._too_large()
            return content.decode("utf-8-sig")
        except DAMAGES as error:
            raise UserError(
                f"{self}: damaged or cut short ({in_a_line(error)}); download it again"
            ) from error
        except (UnicodeDecodeError, RuntimeError) as error:
            raise UserError(f"{self}: not a readable text file ({in_a_line(error)})") from error
        except OSError as error:
            # A zip that leads to before its beginning; what else a disk refuses is told elsewhere.
            if error.errno != errno.EINVAL:
                raise
            raise UserError(f"{self}: damaged or cut short; download it again") from error

    @contextmanager
    def _opened(self) -> Iterator[_Readable]:
        if self.member:
            with zipfile.ZipFile(self.path) as archive:
                about = archive.getinfo(self.member)
                if about.file_size > LARGEST_BYTES:
                    raise self._too_large()
                if about.compress_type not in PACKED:
                    raise UserError(f"{self}: packed in an unusual way; unpack the archive")
                with archive.open(about) as file:
                    yield file
        else:
            with self.path.open("rb") as file:
                yield gzip.GzipFile(fileobj=file) if self.path.suffix == ".gz" else file

    def _too_large(self) -> UserError:
        return UserError(
            f"{self}: more than {LARGEST_BYTES / 2**20:.0f} MB, which no daily file has; "
            f"use the {DAILY} file"
        )


def find_daily(folder: Path, tower: str) -> list[Source]:
    """Find the daily files of a tower, in ``folder`` and below, inside archives too.

    A file belongs to a tower if its name holds the site code; an archive is opened only
    if its own name does. A name that states a resolution must state ``DD``.

    Raises
    ------
    UserError
        If the folder or the tower's files are absent, or none of them is daily.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; gpp.fluxnet must name one")
    code = re.compile(rf"(?<![A-Za-z0-9]){re.escape(tower)}(?![A-Za-z0-9])")
    found: list[Source] = []
    other: list[tuple[str, str]] = []
    for source in _candidates(folder, code):
        parts = re.split(r"[_.]", source.name)
        if set(parts) & set(WITHOUT_FLUXES):
            continue
        stated = [part for part in parts if part in RESOLUTIONS]
        if stated and DAILY not in stated:
            other.append((source.name, RESOLUTIONS[stated[0]]))
        else:
            found.append(source)
    if found:
        return found
    if other:
        name, resolution = in_a_line(other[0][0]), other[0][1]
        raise UserError(
            f"{folder}: the only files of {tower} are not daily ({name} is {resolution}); "
            f"add its {DAILY} file"
        )
    raise UserError(
        f"{folder}: no daily file of {tower}; expected a name like "
        f"FLX_{tower}_FLUXNET2015_FULLSET_DD_2017-2020_1-4.csv (or .csv.gz, .zip)"
    )


def _candidates(folder: Path, code: re.Pattern[str]) -> Iterator[Source]:
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not code.search(path.name) or not path.is_file():
            continue
        if path.name.endswith((".csv", ".csv.gz")):
            yield Source(path)
        elif path.suffix == ".zip":
            try:
                with zipfile.ZipFile(path) as archive:
                    members = sorted(set(archive.namelist()))
            except (*DAMAGES, ValueError, NotImplementedError) as error:
                raise UserError(
                    f"{path}: damaged or cut short ({in_a_line(error)}); download it again"
                ) from error
            for member in members:
                source = Source(path, member)
                hidden = source.name.startswith(".")
                if member.endswith(".csv") and code.search(source.name) and not hidden:
                    yield source


def read_daily(source: Source, weather: Sequence[str] = ()) -> pd.DataFrame:
    """Read one daily file.

    Parameters
    ----------
    source
        The file.
    weather
        Columns of `WEATHER_UNITS` to read besides.

    Returns
    -------
    DataFrame
        Index ``date``; ``gpp`` in g C m-2 d-1, ``quality`` as a fraction 0..1, the weather, NaN
        where missing; units in ``attrs``. Days stand as in the file, repeated ones included.

    Raises
    ------
    UserError
        If the file is not daily, lacks a column, is cut short, has decimal commas, or
        holds something that is not a number or not a date.
    """
    text = source.read()
    header, _, body = text.partition("\n")
    names = header.strip().split(",")
    wanted = [TIME_COLUMN, GPP_COLUMN, QUALITY_COLUMN, *weather]
    _check_header(source, header, names, wanted)
    _check_rows(source, body, len(names))
    if ODD.search(text):
        raise UserError(
            f"{source}: holds quotation marks, zero bytes or exponents of four digits; use the "
            "original file"
        )
    try:
        table = pd.read_csv(io.StringIO(text), usecols=wanted, dtype=str)
    except ValueError as error:
        raise UserError(f"{source}: not a readable table ({in_a_line(error)})") from error
    days = pd.DataFrame(
        {
            "gpp": _numbers(source, table, GPP_COLUMN),
            "quality": _quality(source, _numbers(source, table, QUALITY_COLUMN)),
            **{name: _numbers(source, table, name) for name in weather},
        },
    )
    days.index = _dates(source, table[TIME_COLUMN])
    _check_years(source, days.index)
    days.attrs = {"gpp": GPP_UNITS, "quality": "1"}
    days.attrs |= {name: WEATHER_UNITS[name] for name in weather}
    return days


def _check_header(source: Source, header: str, names: list[str], wanted: list[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise UserError(f"{source}: has {len(names)} columns; use the original file")
    if "TIMESTAMP_START" in names:
        raise UserError(f"{source}: half-hourly or hourly data, not daily; use the {DAILY} file")
    if ";" in header:
        raise UserError(
            f"{source}: columns are separated by semicolons; "
            "use the original file, with commas between columns and decimal points"
        )
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserError(f"{source}: lacks the columns {', '.join(missing)}; not a FLUXNET file?")
    doubled = [name for name in wanted if names.count(name) > 1]
    if doubled:
        raise UserError(f"{source}: has {doubled[0]} twice; use the original file")


def _check_rows(source: Source, body: str, width: int) -> None:
    lines = body.splitlines()
    if not lines:
        raise UserError(f"{source}: holds no days; download it again")
    for number, line in enumerate(lines, start=2):
        fields = line.count(",") + 1
        if fields < width and line.strip():
            raise UserError(
                f"{source}: cut short, line {number} has {fields} of {width} fields; "
                "download it again"
            )
        if fields > width:
            raise UserError(
                f"{source}: line {number} has {fields} fields under {width} columns; "
                "are there decimal commas? use the original file"
            )


def _numbers(source: Source, table: pd.DataFrame, name: str) -> pd.Series[float]:
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    wrong = np.flatnonzero(~np.isfinite(values) & table[name].notna())
    if len(wrong):
        raise UserError(
            f"{source}: {name} holds {in_a_line(table[name].iloc[wrong[0]])!r} on line "
            f"{wrong[0] + 2}, not a number; use the original file, with decimal points"
        )
    return values.mask(values == MISSING)


def _quality(source: Source, values: pd.Series[float]) -> pd.Series[float]:
    """Bring the share of measured half-hours to 0..1, whether told as fraction or percent."""
    known = values.dropna()
    if known.empty or (known.min() >= 0 and known.max() <= 1):
        return values
    if known.min() < 0 or known.max() > 100:
        raise UserError(
            f"{source}: {QUALITY_COLUMN} ranges from {known.min():g} to {known.max():g}, "
            "neither a fraction nor percent"
        )
    if known.max() <= 3 and known.isin(range(4)).all():
        raise UserError(
            f"{source}: {QUALITY_COLUMN} holds the flags 0 to 3 of half-hourly data, "
            f"not the share of a day; use the {DAILY} file"
        )
    return values / 100


def _dates(source: Source, stamps: pd.Series[str]) -> pd.DatetimeIndex:
    digits = stamps.fillna("").str.len()
    wrong = digits[digits != 8]
    if len(wrong):
        what = DIGITS.get(int(wrong.iloc[0]), "unknown")
        raise UserError(
            f"{source}: {TIME_COLUMN} {in_a_line(stamps.loc[wrong.index[0]])!r} is not a day "
            f"({what} data); use the {DAILY} file"
        )
    dates = pd.to_datetime(stamps, format="%Y%m%d", errors="coerce")
    if dates.isna().any():
        raise UserError(
            f"{source}: {TIME_COLUMN} {stamps[dates.isna()].iloc[0]!r} is not a date (YYYYMMDD)"
        )
    return pd.DatetimeIndex(dates, name="date")


def _check_years(source: Source, dates: pd.DatetimeIndex) -> None:
    """FLUXNET names state whole years; a file cut between two lines shows only there."""
    stated = re.search(r"_(\d{4})-(\d{4})[_.]", source.name)
    last = dates.max()
    if stated and (last.year, last.month, last.day) < (int(stated[2]), 12, 31):
        raise UserError(
            f"{source}: cut short, ends on {last:%Y-%m-%d} where its name says "
            f"{stated[2]}; download it again"
        )
