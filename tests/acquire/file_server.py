"""A file server on loopback that misbehaves on order, with Planetary Computer's tokens."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from stac_pages import stac_pages

TOKEN_PATH = "/api/sas/v1/token/"
BLOB_HOST = "archive.blob.core.windows.net"


class Answer:
    """One answer in the making: what the file holds, and the means to spoil it."""

    def __init__(
        self, server: FileServer, handler: BaseHTTPRequestHandler, path: str, body: bytes = b""
    ) -> None:
        self.server, self.handler, self.body = server, handler, body
        file = server.folder / path.lstrip("/")
        if file.is_dir():
            file /= "index.json"
        self.content = file.read_bytes() if file.is_file() else None

    def status(self, code: int, body: bytes = b"", **headers: str) -> None:
        """Answer with a status."""
        self.handler.send_response(code)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        if self.handler.command != "HEAD":
            self.handler.wfile.write(body)

    def file(self, *, sent: float = 1.0, then_silent: bool = False, cut: float = 1.0) -> None:
        """Answer with the file, or the range of it that is asked for.

        ``sent`` is the share of the body that is sent, whatever the header promises, ``cut`` the
        share of the file that exists; ``then_silent`` keeps the connection open without a word.
        """
        if self.content is None:
            self.status(404)
            return
        content = self.content[: int(len(self.content) * cut)]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.handler.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(content) - 1)
            if first >= len(content):
                self.status(416, Content_Range=f"bytes */{len(content)}")
                return
            total, content = len(content), content[first : last + 1]
            self.handler.send_response(206)
            span = f"bytes {first}-{first + len(content) - 1}/{total}"
            self.handler.send_header("Content-Range", span)
        else:
            self.handler.send_response(200)
        self.handler.send_header("Accept-Ranges", "bytes")
        self.handler.send_header("Content-Length", str(len(content)))
        self.handler.end_headers()
        if self.handler.command != "HEAD":
            self.handler.wfile.write(content[: int(len(content) * sent)])
            self.handler.wfile.flush()
        if then_silent:
            self.silence()
        self.handler.close_connection = sent < 1

    def another(self, content: bytes) -> None:
        """Answer with something else than the file."""
        self.content = content
        self.file()

    def search(
        self,
        *,
        cap: int = 1000,
        next_page: int | None = 0,
        counted: int | None = None,
        heeds: str = "bbox datetime",
        order: str = "newest first",
    ) -> None:
        """Answer a search among the items of the file, by what it ``heeds`` of the request.

        Pages have ``cap`` items at most; ``next_page`` is how many are skipped between two of
        them, None where there is no link to the next. ``counted`` is added to numberMatched.
        As at some catalogs, a box across 180 degrees is read as the rest of the Earth.
        """
        assert self.content is not None
        asked, items = json.loads(self.body), json.loads(self.content)["features"]
        if "bbox" in heeds:
            west, east = sorted(asked["bbox"][::2])
            items = [i for i in items if i["bbox"][0] < east and i["bbox"][2] > west]
        if "datetime" in heeds:
            first, last = (text[:19] for text in asked["datetime"].split("/"))
            items = [i for i in items if first <= i["properties"]["datetime"][:19] <= last]
        if order == "newest first":
            items.sort(key=lambda item: item["properties"]["datetime"], reverse=True)
        start, size = int(asked.get("token", 0)), min(asked["limit"], cap)
        page = {"type": "FeatureCollection", "features": items[start : start + size], "links": []}
        if next_page is not None and start + size < len(items):
            token = {"token": str(max(0, start + size + next_page))}
            url = f"{self.server.url}{self.handler.path}"
            link = {"rel": "next", "href": url, "method": "POST", "merge": True, "body": token}
            page["links"] = [link]
        if counted is not None:
            page["numberMatched"] = len(items) + counted
        self.another(json.dumps(page).encode())

    def token(self) -> None:
        """Answer with a new token, in Planetary Computer's words."""
        self.server.tokens += 1
        expiry = (datetime.now(UTC) + timedelta(minutes=40)).isoformat()
        token = {"token": f"sig={self.server.tokens}", "msft:expiry": expiry}
        self.another(json.dumps(token).encode())

    def expire(self) -> None:
        """Answer 403; from now on only tokens that are handed out later are good."""
        self.server.tokens += 1
        self.status(403)

    def silence(self) -> None:
        """Keep the connection open and say nothing until the server stops."""
        self.server.stop.wait()
        self.handler.close_connection = True

    def drip(self) -> None:
        """Send a byte now and then, so that no single wait is long."""
        assert self.content is not None
        self.handler.send_response(200)
        self.handler.send_header("Content-Length", str(len(self.content)))
        self.handler.end_headers()
        for byte in self.content:
            if self.server.stop.wait(0.2):
                break
            self.handler.wfile.write(bytes([byte]))
            self.handler.wfile.flush()
        self.handler.close_connection = True


@dataclass
class Fault:
    """A request whose path matches ``pattern`` meets ``answer``, ``times`` times.

    With ``beyond_header``, only a request for a part of a file that is not its beginning does.
    """

    pattern: str
    answer: Callable[[Answer], None]
    times: float = float("inf")
    beyond_header: bool = False
    met: int = 0


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that hang up, as those do that lose patience."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing to tell."""


class FileServer:
    """Serves the files of a folder over HTTP with ranges; a context manager.

    It is a proxy as well: with ``http_proxy`` set to :attr:`url`, the files also have
    addresses in Azure's blob storage, ``http://archive.blob.core.windows.net/<path>``, which
    are signed with the tokens that the server itself hands out below :attr:`sas_url`. With
    ``needs_token``, only requests that carry the newest token are answered. ``requests`` are
    method and path of every request, ``faults`` what goes wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.needs_token = False
        self.tokens = 0
        self.folder, self.stop = folder, threading.Event()
        server, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = urlsplit(self.path)
                with lock:
                    server.requests.append(f"{self.command} {self.path}")
                answer = Answer(server, self, asked.path, body)
                with lock:
                    fault = server.due(asked.path, self.headers)
                if fault is not None:
                    fault.answer(answer)
                elif asked.path.startswith(TOKEN_PATH):
                    answer.token()
                elif server.needs_token and asked.query != f"sig={server.tokens}":
                    answer.status(403)
                else:
                    answer.file()

            do_HEAD = do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.sas_url = self.url + TOKEN_PATH.rstrip("/")

    def due(self, path: str, headers: Message) -> Fault | None:
        """The fault that a request meets; it is counted."""
        beyond = not headers.get("Range", "bytes=0-").startswith("bytes=0-")
        for fault in self.faults:
            if (
                fault.met < fault.times
                and re.search(fault.pattern, path)
                and (beyond or not fault.beyond_header)
            ):
                fault.met += 1
                return fault
        return None

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()


def write_api(folder: Path, url: str, collection: str, items: Sequence[Any], **links: str) -> None:
    """Write a STAC API of static files to ``folder/api``, for a server whose address is ``url``."""
    for path, content in stac_pages(f"{url}/api", collection, items, **links).items():
        (folder / "api" / path).mkdir(parents=True, exist_ok=True)
        (folder / "api" / path / "index.json").write_text(json.dumps(content))
