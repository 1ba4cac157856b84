"""What holds for all of the code: what it never calls, never tells, and what it is built on."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.config import Catalog, Config, parse
from pipeline_lib.errors import UserError, in_a_line
from pipeline_lib.signatures import unsigned, without_signatures

CODE = ("src", "workflow", "benchmarks", "studies")

# Calls

NEVER = {
    "eval", "exec", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load",
    "joblib.load", "pd.read_pickle", "pandas.read_pickle", "shutil.unpack_archive",
    "pickle.load", "pickle.loads", "marshal.loads", "dill.loads", "cloudpickle.loads",
    "tempfile.mktemp",
    "ElementTree.parse", "ElementTree.fromstring", "etree.parse", "etree.fromstring",
    "xr.open_mfdataset",
}  # fmt: skip
METHODS = {"extractall", "extract", "read_pickle"}
ONLY_IN = {
    "torch.jit.load": {"src/pipeline_lib/acquire/clouds.py"},
}
ONLY_WITH = {
    "np.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
    "torch.load": ("weights_only", True),
}


def called(node: ast.expr) -> str:
    """Dotted name of a call."""
    if isinstance(node, ast.Attribute):
        return f"{called(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def uses(root: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """File, name and constant keywords of every call, and of every name that is handed over."""
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                where = path.relative_to(root).as_posix()
                if isinstance(node, ast.Call):
                    given = {k.arg: getattr(k.value, "value", None) for k in node.keywords if k.arg}
                    yield where, called(node.func), given
                elif isinstance(node, ast.Attribute) and called(node) in ONLY_IN:
                    yield where, called(node), {}


def test_nothing_that_runs_what_a_file_holds_is_called(project_root: Path) -> None:
    wrong = []
    seen = set()
    for where, name, given in uses(project_root):
        seen.add(name)
        key, value = ONLY_WITH.get(name, ("shell", None))
        if (
            name in NEVER
            or name.rpartition(".")[2] in METHODS
            or where not in ONLY_IN.get(name, {where})
            or (name in ONLY_WITH and name != "np.save" and given.get(key, ...) is not value)
            or given.get("shell") is True
            or given.get("verify", True) is False
            or given.get("allow_pickle") is True
        ):
            wrong.append(f"{where}: {name}{given or ''}")
    assert wrong == []
    assert {"np.load", "torch.load", "torch.jit.load"} <= seen


# Secrets

SIGNED = "https://account.blob.core.windows.net/container/B02.tif?st=2026&sig=se%2Fcret"
SHOWN = {
    SIGNED: "https://account.blob.core.windows.net/container/B02.tif?...",
    f"'/vsicurl/{SIGNED}' not recognised": "'/vsicurl/https://account.blob.core.windows.net/"
    "container/B02.tif?...' not recognised",
    "/vsicurl?retry=1&url=https%3A%2F%2Fh%2Fp.tif%3Fsig%3Dsecret": "/vsicurl?retry=1&url="
    "https%3A%2F%2Fh%2Fp.tif?...",
    "Max retries exceeded with url: /c/B02.tif?st=2026&sig=secret (Caused by X)": "Max retries "
    "exceeded with url: /c/B02.tif?st=2026&sig=... (Caused by X)",
    "https://me:secret@stac.example.org/v1": "https://stac.example.org/v1",
    "{'Ocp-Apim-Subscription-Key': 'secret'}": "{'Ocp-Apim-Subscription-Key': '...'}",
    "Authorization: Bearer secret": "Authorization: ...",
    "authorization='Basic secret=='": "authorization='...'",
    "GET /a?collection=b&token=secret&limit=3": "GET /a?collection=b&token=...&limit=3",
    "nothing to hide? sig = 3": "nothing to hide? sig = 3",
}


@pytest.mark.parametrize("text", SHOWN)
def test_texts_are_shown_without_what_signs(text: str) -> None:
    assert without_signatures(text) == SHOWN[text]


def test_a_key_of_the_environment_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "0123abcd")
    assert without_signatures("sent with 0123abcd") == "sent with ..."
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "")
    assert without_signatures("sent") == "sent"


def test_addresses_are_kept_without_what_signs_and_otherwise_as_they_are() -> None:
    kept = {
        "https://h/p.tif?st=1&se=2&sp=rl&sig=secret": "https://h/p.tif",
        "https://h/p?collection=a&item=b": "https://h/p?collection=a&item=b",
        "https://h/p?a=1&token=secret&b=2#c": "https://h/p?a=1&b=2#c",
        "https://h/p?st=1&se=2": "https://h/p?st=1&se=2",
        "https://h/p?X-Amz-Date=1&X-Amz-Signature=secret&versionId=3": "https://h/p?versionId=3",
        "https://me:secret@h/p": "https://h/p",
        "s3://bucket/key": "s3://bucket/key",
        "/a/path?sig=1": "/a/path?sig=1",
    }
    content = {"assets": [{"href": address} for address in kept], "n": 1, "none": None}
    assert unsigned(content) == content | {"assets": [{"href": value} for value in kept.values()]}


@pytest.mark.parametrize(
    "source",
    ["https://me:secret@stac.example.org/v1", "https://stac.example.org/v1?key=1&sig=s3cret"],
)
def test_a_catalog_with_a_password_is_rejected_without_showing_it(source: str) -> None:
    content = Config().model_dump(mode="json")
    content["catalog"]["source"] = source
    with pytest.raises(UserError, match="contains a password or key") as caught:
        parse(content)
    assert "ecret" not in str(caught.value) and "s3cret" not in str(caught.value)
    assert Catalog(source="https://stac.example.org/v1?f=json").source.endswith("?f=json")


def test_foreign_text_is_shown_in_one_line_that_changes_no_terminal() -> None:
    assert in_a_line("a\nb\t\x1b[2J\u202e\ud800 c") == "a b ?[2J?? c"
    assert len(in_a_line("x" * 10**6)) < 400
    in_a_line("\ud800").encode()


# Dependencies


class Advisories(BaseHTTPRequestHandler):
    """The answers of an advisory service that knows of one package."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["package"]["name"]
        affected = {
            "package": {"name": name, "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}],
        }
        known = {"id": "PYSEC-2030-1", "summary": "bad", "affected": [affected]}
        body = json.dumps({"vulns": [known] if name == "zarr" else []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: Any) -> None:
        """Nothing to tell."""


@pytest.mark.slow
def test_the_audit_fails_where_a_pinned_version_is_vulnerable(
    project_root: Path, tmp_path: Path
) -> None:
    def audit(lock: str, port: int) -> tuple[int, list[str], str]:
        (tmp_path / "lock").write_text(lock)
        command = [sys.executable, project_root / "tests" / "audit.py", "--lock", tmp_path / "lock"]
        command += ["--service", f"http://127.0.0.1:{port}/v1/query"]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout.splitlines(), done.stderr

    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        code, lines, _ = audit("# a comment\naffine==3.0.1\nzarr==3.1.6\n", server.server_port)
        assert code == 1
        assert lines[0].startswith("zarr 3.1.6: PYSEC-2030-1, ") and lines[0].endswith(" in 9.9")
        assert lines[1:] == ["audit: 2 pinned packages, 1 with known vulnerabilities"]
        assert audit("affine==3.0.1\n", server.server_port)[0] == 0
        server.shutdown()
    code, (line,), _ = audit("zarr==3.1.6\n", 9)
    assert code == 0 and line.endswith("does not answer (ConnectionError); nothing was audited")
    code, _, message = audit("zarr>=3\n", 9)
    assert code not in (0, None) and "not pinned" in message
