"""A real STAC API on loopback: stac-fastapi.pgstac on a PostgreSQL of its own."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

LOOPBACK = "127.0.0.1"
START_LIMIT_S = 60
SERVER_USER = "postgres"
"""Who runs the server where the tests run as root, whom PostgreSQL rejects."""


def reason_to_skip() -> str | None:
    """Why no STAC API can be started here; None if one can."""
    if _programs() is None:
        return "PostGIS is not installed: apt-get install postgresql postgresql-postgis"
    if os.geteuid() == 0 and SERVER_USER not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"PostgreSQL does not run as root, and there is no user {SERVER_USER}"
    return None


def _programs() -> Path | None:
    """Folder of the programs of a PostgreSQL server that has PostGIS; the newest on Debian."""
    folders = sorted(Path("/usr/lib/postgresql").glob("[1-9][0-9]/bin"), reverse=True)
    if postgres := shutil.which("postgres"):
        folders.append(Path(postgres).parent)
    for folder in folders:
        if all((folder / name).is_file() for name in ("initdb", "postgres", "pg_config")):
            command = [folder / "pg_config", "--sharedir"]
            shared = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
            if Path(shared.strip(), "extension", "postgis.control").is_file():
                return folder
    return None


def _address(port: int, name: str = "postgres") -> str:
    """What psycopg connects to."""
    limit = "connect_timeout=5 options='-c statement_timeout=60s'"
    return f"host={LOOPBACK} port={port} user=postgres dbname={name} {limit}"


@contextmanager
def postgresql() -> Iterator[int]:
    """Run a PostgreSQL server while the context lasts, and yield its port."""
    import psycopg

    programs = _programs()
    assert programs is not None, reason_to_skip()

    def accepts() -> bool:
        try:
            psycopg.connect(_address(port)).close()
        except psycopg.OperationalError:
            return False
        return True

    as_user: dict[str, Any] = {}
    # Not below pytest's folders, which only their owner can enter.
    folder = Path(tempfile.mkdtemp(prefix="stac-api-"))
    if os.geteuid() == 0:
        shutil.chown(folder, SERVER_USER, SERVER_USER)
        as_user = {"user": SERVER_USER, "group": SERVER_USER, "extra_groups": []}
    port = _free_port()
    data, log = folder / "data", folder / "server.log"
    create = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust"]
    create += ["-E", "UTF8", "--locale=C", "--no-sync"]
    serve = [programs / "postgres", "-D", data, "-p", str(port), "-h", LOOPBACK, "-k", folder]
    # What is lost in a crash is made anew by the next run.
    for off in ("fsync", "synchronous_commit", "full_page_writes", "jit"):
        serve += ["-c", f"{off}=off"]
    serve += ["-c", "timezone=UTC", "-c", "max_connections=20"]
    try:
        done = subprocess.run(
            create, cwd=folder, capture_output=True, text=True, timeout=START_LIMIT_S, **as_user
        )
        assert done.returncode == 0, done.stderr
        with _running(serve, accepts, log, cwd=folder, **as_user):
            yield port
    finally:
        shutil.rmtree(folder)


def make_database(
    port: int, name: str, collections: Iterable[dict[str, Any]], items: Iterable[dict[str, Any]]
) -> None:
    """Make a database with pgstac's tables, and load it, as the programs of pypgstac do."""
    import psycopg
    from pypgstac.db import PgstacDB
    from pypgstac.load import Loader, Methods
    from pypgstac.migrate import Migrate

    with psycopg.connect(_address(port), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with PgstacDB(dsn=_address(port, name)) as database:
        Migrate(database).run_migration()
    with PgstacDB(dsn=_address(port, name)) as database:
        loader = Loader(database)
        loader.load_collections(iter(collections), Methods.insert)
        loader.load_items(iter(items), Methods.insert)


@dataclass(frozen=True)
class StacApi:
    """A STAC API that runs: its address, and its log with one line per request."""

    url: str
    log: Path

    def searches(self) -> int:
        """Requests for items that have reached the server so far."""
        return len(re.findall(r'"(?:GET|POST) /search\S* HTTP', self.log.read_text()))


@contextmanager
def stac_api(database_port: int, database: str, folder: Path) -> Iterator[StacApi]:
    """Run a STAC API on a database while the context lasts; its log goes to ``folder``."""
    port = _free_port()
    api = StacApi(f"http://{LOOPBACK}:{port}", folder / f"stac-api-{port}.log")
    command = [sys.executable, "-m", "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory"]
    command += ["--host", LOOPBACK, "--port", str(port), "--timeout-graceful-shutdown", "5"]
    environment = os.environ | {
        "PGUSER": "postgres",
        "PGPASSWORD": "unused",
        "PGHOST": LOOPBACK,
        "PGPORT": str(database_port),
        "PGDATABASE": database,
        "DB_MAX_CONN_SIZE": "2",
    }

    def answers() -> bool:
        try:
            return requests.get(api.url, timeout=5).ok
        except requests.RequestException:
            return False

    with _running(command, answers, api.log, cwd=folder, env=environment):
        yield api


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        return int(listener.getsockname()[1])


@contextmanager
def _running(
    command: list[Any], answers: Callable[[], bool], log: Path, **options: Any
) -> Iterator[None]:
    """Run a server from its first answer on until the context ends, however it ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not answer:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield
    finally:
        # PostgreSQL's fast shutdown; what Ctrl-C is to uvicorn.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
