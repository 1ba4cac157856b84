"""Daily fluxes of towers: finding their files and reading them.

Publishers share the columns of FLUXNET2015 (Pastorello et al. 2020, doi
10.1038/s41597-020-0534-3) and differ in how they name and pack files: FLUXNET2015, Warm Winter
2020, ICOS L2, AmeriFlux FLUXNET, and the releases since 2025. So the name of a file says whose it
is, of which resolution and release; its columns say whether it holds daily fluxes. The files come
from many hands, so they are read with limits.
"""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from pipeline_lib.config import Fluxes
from pipeline_lib.errors import UserError, in_a_line

TIME_COLUMN = "TIMESTAMP"
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
SITE = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}-[A-Za-z0-9]{3}(?![A-Za-z0-9])")
"""A FLUXNET site code in a file name."""
RELEASE = re.compile(r"(.+)_(\d{4})-(\d{4})(.*)\.csv(?:\.gz)?", re.IGNORECASE)
"""Product with site and resolution, first and last year, and version of a file name."""
KINDS = (".csv", ".csv.gz", ".zip")
USABLE = "files have the code of one site in their name; zips within zips must be unpacked"
LARGEST_BYTES = 2**27
"""Thirty years of all daily columns take an eighth of it."""
HEAD_BYTES = 2**17
"""More than the line of names: files of all daily columns have some hundreds."""
DAMAGES = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, struct.error)
"""What a damaged file surfaces as."""


class _NoFluxes(UserError):
    """A companion of the flux files: sound, and without daily fluxes."""


@dataclass(frozen=True)
class FluxFile:
    """A text file: plain, gzipped, or a member of a zip archive."""

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Its own name, without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def stated(self) -> list[str]:
        """The resolutions that its name states."""
        return [part for part in re.split(r"[_.]", self.name.upper()) if part in RESOLUTIONS]

    def site(self, folder: Path) -> str | None:
        """Site code of its name, or else of the nearest archive or folder below ``folder``.

        None if there is no code, or if there are several.
        """
        parts = (*self.path.relative_to(folder).parts, *PurePosixPath(self.member or "").parts)
        codes = (set(SITE.findall(part)) for part in reversed(parts))
        nearest = next(filter(None, codes), set())
        return nearest.pop() if len(nearest) == 1 else None

    def __str__(self) -> str:
        return f"{self.path}:{in_a_line(self.member)}" if self.member else str(self.path)

    def read(self, size: int | None = None) -> str:
        """The whole text, or a beginning of it; nothing is unpacked to the disk.

        Raises UserError if the file is damaged, is not text, or is larger than `LARGEST_BYTES`.
        """
        try:
            content = self._content(size or LARGEST_BYTES + 1)
            if len(content) > LARGEST_BYTES:
                raise UserError(
                    f"{self}: more than {LARGEST_BYTES / 2**20:.0f} MB, which no daily file has; "
                    f"use the {DAILY} file"
                )
            # The last character of a beginning may be cut.
            decoder = codecs.getincrementaldecoder("utf-8-sig")()
            # Statistical programs quote names; no field may hold a comma, which is checked later.
            return decoder.decode(content, final=size is None).replace('"', "")
        except DAMAGES as error:
            raise _damaged(self, error) from error
        except (ValueError, RuntimeError) as error:
            if self.path.suffix.lower() == ".gz":
                raise _damaged(self, "not a gzip file") from error
            raise UserError(f"{self}: not a readable text file ({in_a_line(error)})") from error
        except OSError as error:
            # Of a zip with a wrong offset or compression; other errors are the machine's.
            if error.errno not in (None, errno.EINVAL):
                raise
            raise _damaged(self, error) from error

    def _content(self, size: int) -> bytes:
        if not self.path.name.lower().endswith(".zip"):
            with self.path.open("rb") as file:
                # Browsers unpack a file and leave its name.
                packed = file.read(2) == b"\x1f\x8b"
            with gzip.open(self.path) if packed else self.path.open("rb") as file:
                return file.read(size)
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member or "") as file:
            return file.read(size)


def _damaged(file: FluxFile | Path, error: Exception | str) -> UserError:
    return UserError(f"{file}: damaged or cut short ({in_a_line(error)}); download it again")


def find_daily(folder: Path, tower: str) -> list[FluxFile]:
    """Files that may hold daily fluxes of a tower, in ``folder`` and below, inside zips too.

    First those whose name states ``DD``, then those whose name states no resolution. A file belongs
    to the site that its name holds, or else the nearest archive or folder.

    Raises UserError if the folder or the tower's files are absent, or none of them is daily.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; gpp.fluxnet must name one")
    daily, others, unread = [], [], []
    for file in _files(folder, tower):
        site, name, kind = file.site(folder), in_a_line(file.name), file.name.lower()
        nested = file.member and kind.endswith(".zip")
        if site != tower or nested or not kind.endswith(KINDS):
            if site == tower or (site is None and kind.endswith(KINDS)):
                unread.append(f"{name} in {file.path.name}" if nested else name)
        elif file.stated and DAILY not in file.stated:
            others.append(f"{name} is {RESOLUTIONS[file.stated[0]]}")
        else:
            daily.append(file)
    if not daily and others:
        raise UserError(
            f"{folder}: the only files of {tower} are not daily ({others[0]}); add the {DAILY} "
            "file of its FLUXNET product"
        )
    if not daily:
        there = f"; cannot use {', '.join(unread[:3])}: {USABLE}" if unread else ""
        raise UserError(
            f"{folder}: no daily file of {tower}; expected a name like "
            f"FLX_{tower}_FLUXNET2015_FULLSET_DD_2017-2020_1-4.csv (or .csv.gz, .zip){there}"
        )
    return sorted(daily, key=lambda file: DAILY not in file.stated)


def _files(folder: Path, tower: str) -> Iterator[FluxFile]:
    """All files; in place of a zip that can be listed, its members, if it may hold the tower."""
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        file = FluxFile(path)
        members: set[str | None] = {None}
        if path.suffix.lower() == ".zip" and file.site(folder) in (tower, None):
            # Where it cannot be listed, its reading will say what is wrong.
            with (
                suppress(*DAMAGES, ValueError, NotImplementedError),
                zipfile.ZipFile(path) as zipped,
            ):
                members = {member for member in zipped.namelist() if not member.endswith("/")}
        files = (FluxFile(path, member) for member in sorted(members, key=str))
        yield from (file for file in files if not file.name.startswith("."))


def read_tower(folder: Path, tower: str, fluxes: Fluxes) -> tuple[list[pd.DataFrame], str]:
    """The daily records of a tower as `read_daily` returns them, and in words where from.

    Of the releases of one product the newest replaces those of the same years. A file that cannot
    be read does not hold back others.

    Raises UserError if no file can be read.
    """
    records: dict[FluxFile, pd.DataFrame] = {}
    faults, companions = [], []
    for file in find_daily(folder, tower):
        try:
            records[file] = read_daily(file, fluxes)
        except _NoFluxes as error:
            companions.append(str(error))
        except UserError as error:
            faults.append(str(error))
    if not records:
        raise UserError((faults + companions)[0])
    used = sorted(
        (f for f in records if not any(_replaces(other.name, f.name) for other in records)),
        key=lambda file: _numbers_of(file.name),
    )
    names = dict.fromkeys(in_a_line(file.name) for file in used)
    old = sorted({in_a_line(file.name) for file in records} - set(names))
    words = [" + ".join(names), *(f"older release not used: {name}" for name in old)]
    words += [f"not read: {fault.removeprefix(f'{folder}/')}" for fault in faults]
    return [records[file] for file in used], "; ".join(words)


def _numbers_of(name: str) -> tuple[int, ...]:
    """The version that a name states, such as (1, 3, 10) of ``v1.3_r10``."""
    stated = RELEASE.fullmatch(name)
    return tuple(int(number) for number in re.findall(r"\d+", stated[4])) if stated else ()


def _replaces(new: str, old: str) -> bool:
    """Whether a file is a newer release of another one's product that has all its years."""
    one, other = RELEASE.fullmatch(new), RELEASE.fullmatch(old)
    if one is None or other is None or one[1] != other[1]:
        return False
    kinds = {re.sub(r"\d+", "", stated[4]) for stated in (one, other)}
    whole = int(one[2]) <= int(other[2]) and int(one[3]) >= int(other[3])
    return len(kinds) == 1 and whole and _numbers_of(new) > _numbers_of(old)


def read_daily(file: FluxFile, fluxes: Fluxes) -> pd.DataFrame:
    """Read the chosen columns of one daily file.

    By ``date``: ``gpp`` in g C m-2 d-1, ``quality`` as a fraction, the weather, NaN where missing;
    units in ``attrs``. Days stand as in the file.

    Raises UserError if the file is not daily, misses a column, is cut short, has decimal commas,
    several values of a day, or holds something that is not a number or not a date.
    """
    gpp = f"GPP_{fluxes.partitioning}_{fluxes.ustar}_REF"
    quality = f"NEE_{fluxes.ustar}_REF_QC"
    try:
        names = file.read(HEAD_BYTES).partition("\n")[0].strip().split(",")
        _check_columns(names, gpp, quality, fluxes.weather)
        text = file.read()
        _check_lines(text, names)
        table = pd.read_csv(
            io.StringIO(text), usecols=[TIME_COLUMN, gpp, quality, *fluxes.weather], dtype=str
        )
        columns = {"gpp": _numbers(table, gpp), "quality": _quality(table, quality)}
        columns |= {column: _numbers(table, column) for column in fluxes.weather}
        days = pd.DataFrame(columns).set_axis(_dates(table[TIME_COLUMN]))
        _check_days(days, file)
    except _NoFluxes as error:
        raise _NoFluxes(f"{file}: {error}") from error
    except ValueError as error:
        raise UserError(f"{file}: {in_a_line(error)}") from error
    days.attrs = {"gpp": GPP_UNITS, "quality": "1"}
    days.attrs |= {column: WEATHER_UNITS[column] for column in fluxes.weather}
    return days


def _check_columns(names: list[str], gpp: str, quality: str, weather: tuple[str, ...]) -> None:
    if "TIMESTAMP_START" in names and TIME_COLUMN not in names:
        raise _NoFluxes(f"weekly, half-hourly or hourly data, not daily; use the {DAILY} file")
    if any(";" in name for name in names):
        raise ValueError("columns are separated by semicolons; use the original file")
    wanted = [TIME_COLUMN, gpp, quality, *weather]
    if missing := [column for column in wanted if column not in names]:
        absent = f"missing columns: {', '.join(missing)}"
        others = [name for name in names if name.startswith("GPP")]
        if not others and quality not in names:
            raise _NoFluxes(f"{absent}; no daily fluxes of a FLUXNET product")
        if gpp in names:
            raise ValueError(f"{absent}; use the tower's complete {DAILY} file")
        known = [name for name in others if re.fullmatch("GPP_(NT|DT)_(VUT|CUT)_REF", name)]
        advice = (
            "set gpp.fluxes.partitioning and gpp.fluxes.ustar to what it has"
            if known
            else f"this is another product; use the {DAILY} file of a FLUXNET product"
        )
        raise ValueError(f"{absent}; it has {', '.join((known or others)[:4])}: {advice}")
    if doubled := [column for column in wanted if names.count(column) > 1]:
        raise ValueError(f"has {doubled[0]} twice; use the original file")


def _check_lines(text: str, names: list[str]) -> None:
    """What pandas would take as it comes."""
    _, *lines = text.splitlines() or [""]
    if not lines:
        raise ValueError("holds no days")
    # pandas drops what follows the one, and ends the process at the other.
    if re.search(r"\0|[eE][+-]?\d{4}", text):
        raise ValueError("holds zero bytes or exponents of four digits; download it again")
    for number, line in enumerate(lines, start=2):
        fields = line.count(",") + 1
        if fields < len(names) and line.strip():
            short = f"line {number} has {fields} of {len(names)} fields"
            if number <= len(lines):
                raise ValueError(f"{short}; use the original file")
            raise ValueError(f"cut short, {short}; download it again")
        if fields > len(names):
            raise ValueError(
                f"line {number} has {fields} fields under {len(names)} columns; "
                "are there decimal commas? use the original file"
            )


def _check_days(days: pd.DataFrame, file: FluxFile) -> None:
    distinct = days[["gpp", "quality"]].reset_index().drop_duplicates()
    if (twice := distinct["date"].duplicated()).any():
        raise ValueError(
            f"has several values of {distinct['date'][twice].iloc[0]:%Y-%m-%d}: several towers in "
            "one table? use one file per tower"
        )
    # Names state whole years: that is how a file cut between two lines is noticed.
    stated, last = RELEASE.fullmatch(file.name), f"{days.index.max():%Y-%m-%d}"
    if stated and last < f"{stated[3]}-12-31":
        raise ValueError(
            f"ends on {last}, but its name says {stated[3]}: cut short? compare it with the "
            "publisher's file; if the record ends there, save it under a name without years"
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


def _quality(table: pd.DataFrame, name: str) -> pd.Series[float]:
    """The fraction of measured half-hours, which some publishers give in percent."""
    values = _numbers(table, name)
    known = values.dropna()
    if known.empty or known.between(0, 1).all():
        return values
    if not known.between(0, 100).all():
        raise ValueError(
            f"{name} ranges from {known.min():g} to {known.max():g}, neither a fraction nor percent"
        )
    return values / 100


def _dates(stamps: pd.Series[str]) -> pd.DatetimeIndex:
    # Tools that know dates write 2017-01-31.
    days = stamps.fillna("").str.replace(r"^(\d{4})-(\d\d)-(\d\d)$", r"\1\2\3", regex=True)
    # pandas takes 201701 for the first of January.
    dates = pd.to_datetime(days.where(days.str.len() == 8), format="%Y%m%d", errors="coerce")
    if (wrong := days[dates.isna()]).size:
        raise ValueError(
            f"{TIME_COLUMN} {in_a_line(wrong.iloc[0])!r} is not a day (expected YYYYMMDD); use the "
            f"{DAILY} file"
        )
    return pd.DatetimeIndex(dates, name="date")
