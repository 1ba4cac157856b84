"""A catalog or server can send what it likes: it runs nothing, reads nothing here, gets no key."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from file_server import BLOB_HOST, TOKEN_PATH, Answer, Fault, FileServer, write_api
from hypothesis import given
from hypothesis import strategies as st
from scenes import OPTICAL, Archive, granule_metadata

from pipeline_lib.acquire import clouds, search
from pipeline_lib.acquire.angles import parse_angles
from pipeline_lib.acquire.catalog import license_of
from pipeline_lib.acquire.items import checked_items, read_pinned
from pipeline_lib.acquire.reading import address_of
from pipeline_lib.acquire.retries import LARGEST_BYTES, Damaged, Missing, get
from pipeline_lib.acquire.signing import Signer
from pipeline_lib.config import Catalog
from pipeline_lib.errors import UserError
from pipeline_lib.scripting import job

DAY = "2021-05-11T10:20:31Z"
YEAR = date(2021, 1, 1), date(2021, 12, 31)
KEY = "k3y-0f-the-subscription"


@pytest.fixture
def archive(archive: Archive) -> Archive:
    archive.optical(DAY)
    return archive


def edit_item(archive: Archive, **changes: Any) -> None:
    file = archive.folder / "items" / "all.json"
    content = json.loads(file.read_text())
    content["features"][0] |= changes
    file.write_text(json.dumps(content))


# XML


def with_document_type(declared: str, used: str) -> bytes:
    text = granule_metadata().decode()
    text = text.replace("?>", f"?><!DOCTYPE a [{declared}]>", 1)
    return text.replace("</ULX>", f"{used}</ULX>", 1).encode()


def laughs(number: int) -> str:
    again = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, number))
    return f'<!ENTITY l0 "ha">{again}'


@pytest.mark.parametrize(
    ("declared", "used"),
    [
        (laughs(10), "&l9;"),
        ('<!ENTITY long "' + "1" * 10_000 + '">', "&long;" * 10_000),
        ('<!ENTITY file SYSTEM "file:///etc/hostname">', "&file;"),
        ('<!ENTITY % more SYSTEM "http://127.0.0.1:9/more.dtd"> %more;', ""),
        ("<!ELEMENT a ANY>", ""),
    ],
)
def test_entities_are_rejected_and_never_resolved(declared: str, used: str) -> None:
    begin = time.monotonic()
    with pytest.raises(Damaged, match="declares a document type") as caught:
        parse_angles(with_document_type(declared, used), OPTICAL.bands)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (">EPSG:32632<", ">EPSG:4326<", "EPSG:4326: not the grid"),
        (">600000<", ">nan<", "nan, .*: not the grid"),
        (">5000<", ">1e-300<", "x 1e-300 m apart"),
        (">5000<", ">inf<", "x inf m apart"),
        ("<VALUES>40 ", "<VALUES>inf ", "zenith of inf"),
        ("<VALUES>40 ", "<VALUES>1e30 ", "zenith of 1e"),
    ],
)
def test_angles_that_can_not_be_are_rejected(old: str, new: str, message: str) -> None:
    text = granule_metadata().decode()
    assert old in text
    with pytest.raises(Damaged, match=message):
        parse_angles(text.replace(old, new).encode(), OPTICAL.bands)


def test_a_granule_that_is_too_large_is_not_parsed() -> None:
    with pytest.raises(Damaged, match="MB, which no granule"):
        parse_angles(b" " * (LARGEST_BYTES + 1), OPTICAL.bands)


# TorchScript


def test_a_cloud_model_with_a_changed_byte_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = clouds.verified_model()
    package = tmp_path / "sentle"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    copy = package / clouds.MODEL_FILE
    spec = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(clouds, "find_spec", lambda name: spec)
    monkeypatch.setattr("torch.jit.load", lambda *given, **more: pytest.fail("it was loaded"))
    for damaged in (content[:1000] + b"\0" + content[1001:], content[:-1], b""):
        copy.write_bytes(damaged)
        with pytest.raises(UserError, match="not the cloud model that this version was made for"):
            clouds.CloudModel()
    copy.write_bytes(content)
    assert clouds.verified_model() == content


# Addresses

REMOTE = Catalog(source="https://stac.example.org/v1", signing="none", retries=0)
STARTS = ["", "/", "file://", "/vsicurl/", "/vsizip/", "vrt://", "\\\\host\\", "../", "C:\\", "{"]
STARTS += ["zip+https://", "NETCDF:", " https://", "HTTPS://", "h\nttps://", "ftp://", "data:"]
STARTS += ["<VRTDataset>", "/vsistdin/", "http://a.org/", "/vsicurl/https://a.org/", "s3://b/"]


@given(st.sampled_from(STARTS), st.text(max_size=30))
def test_items_of_a_remote_catalog_lead_to_no_file_of_this_machine(start: str, rest: str) -> None:
    item = {"id": "a", "assets": {"B02": {"href": start + rest}}}
    try:
        address = address_of(item, "B02", REMOTE)
    except (Missing, UserError) as error:
        assert re.search(r"not on the network|is not supported, only http", str(error))
        assert str(error).isprintable()
    else:
        assert address.startswith(("http://", "https://"))


def test_a_remote_catalog_can_not_make_us_read_a_local_scene(
    archive: Archive, tmp_path: Path
) -> None:
    """The same files are read where the catalog is the folder, and not where it is an API."""
    items = archive.pin(OPTICAL, tmp_path / "items.json")
    archive.build(OPTICAL, tmp_path, items=items)
    with pytest.raises(UserError, match="its address is not on the network, though the catalog"):
        archive.build(OPTICAL, tmp_path, items=items, source=REMOTE.source)


def test_a_remote_raster_can_not_lead_to_a_local_one(archive: Archive, tmp_path: Path) -> None:
    items = archive.pin(OPTICAL, tmp_path / "items.json")
    (scene,) = archive.folder.glob("assets/*")
    secret = shutil.copy(scene / "B04.tif", tmp_path / "secret.tif")
    (scene / "B04.tif").write_text(
        '<VRTDataset rasterXSize="96" rasterYSize="96"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with FileServer(archive.folder) as server:
        items.write_text(items.read_text().replace(f"{archive.folder}/", f"{server.url}/"))
        with pytest.raises(UserError, match=r"none of its 1 items .*B04: not a"):
            archive.build(OPTICAL, tmp_path, items=items, source=server.url, retries=0, timeout_s=5)


@pytest.mark.parametrize("place", ["/dev/zero", "/", "x" * 300])
def test_a_device_or_folder_is_not_read_as_a_scene(
    archive: Archive, tmp_path: Path, place: str
) -> None:
    items = archive.pin(OPTICAL, tmp_path / "items.json")
    content = json.loads(items.read_text())
    content["items"][0]["assets"]["granule-metadata"]["href"] = place
    items.write_text(json.dumps(content))
    with pytest.raises(UserError, match="granule-metadata: not a file"):
        archive.build(OPTICAL, tmp_path, items=items)


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", "a" * 300, "%2e%2e/ä"])
def test_an_identifier_is_never_a_path(archive: Archive, tmp_path: Path, name: str) -> None:
    edit_item(archive, id=name)
    before = set(tmp_path.rglob("*"))
    assert archive.build(OPTICAL, tmp_path)["item"].values.tolist() == [name]
    written = {path.name for path in set(tmp_path.rglob("*")) - before}
    assert written == {"pins.json", "cube.zarr.zip"}


def item(**changes: Any) -> dict[str, Any]:
    plain = {
        "id": "a",
        "properties": {"datetime": DAY},
        "assets": {"B02": {"href": "https://example.org/B02.tif"}},
    }
    return plain | changes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (item(id="a\nfake line"), "holds control characters"),
        (item(id="\x1b[2Jgone"), "holds control characters"),
        (item(id=7), "item 7: id: "),
        (item(assets={"B02": {}}), "assets.B02.href"),
        (item(assets=None), "assets"),
        (item(properties={}), "neither datetime nor start_datetime"),
        (item(properties={"datetime": "yesterday"}), "properties.datetime"),
        (item(properties={"datetime": "9999-12-31T23:59:59Z"}), "the year 9999"),
        (item(properties={"datetime": DAY, "sat:relative_orbit": 2**70}), "sat:relative_orbit"),
        (item(properties={"datetime": DAY, "s2:mgrs_tile": ["32", "T"]}), "s2:mgrs_tile"),
        (item(properties={"datetime": DAY, "x": float("nan")}), "item a: "),
        (item(bbox=[1, 2, 3]), "bbox"),
        (item(bbox=["1", "2", "3", "4"]), "bbox"),
        ("no item", "item number 0"),
    ],
)
def test_items_that_are_not_stac_are_rejected_in_one_line(wrong: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        checked_items([wrong], "https://stac.example.org/v1")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_what_is_null_counts_as_unset(archive: Archive, tmp_path: Path) -> None:
    null = dict.fromkeys(["platform", "sat:relative_orbit", "sat:orbit_state", "proj:code"])
    edit_item(archive, properties=archive.items[0]["properties"] | null)
    assert archive.build(OPTICAL, tmp_path)["relative_orbit"].values.tolist() == [-1]


def test_pinned_items_that_were_edited_are_rejected(archive: Archive, tmp_path: Path) -> None:
    items = archive.pin(OPTICAL, tmp_path / "items.json")
    content = json.loads(items.read_text())
    for key, value in [("grid", {"epsg": 4326}), ("items", 7), ("request", {}), ("query", 1)]:
        items.write_text(json.dumps(content | {key: value}))
        with pytest.raises(UserError, match="damaged or edited; delete it and run again"):
            read_pinned(items)


def test_an_api_that_leads_to_a_file_or_never_ends_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pystac opens what is no address as a file of this machine."""
    monkeypatch.setattr("pipeline_lib.acquire.catalog.MOST_PAGES", 5)
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"features": [item()]}))
    with FileServer(tmp_path) as server:
        api = f"{server.url}/api"
        catalog = Catalog(source=api, signing="none", retries=0, timeout_s=5)

        def another_page(answer: Answer) -> None:
            link = {"rel": "next", "href": f"{api}/search", "method": "GET"}
            page = {"features": [item(id=f"a{len(server.requests)}")], "links": [link]}
            answer.another(json.dumps(page).encode())

        for search_at, message in (
            (secret.as_uri(), "which is no address"),
            (f"{api}/search", "more than 5 pages"),
            ("", "it links to file:///.*, which is no address"),
        ):
            more = {"search": search_at, "then": secret.as_uri()}
            write_api(tmp_path, server.url, OPTICAL.collection, [item()], **more)
            server.faults = [Fault("api/search", another_page)] if search_at else []
            with pytest.raises(UserError, match=message) as caught:
                search(catalog, "sentinel-2-l2a", (10, 45, 12, 47), *YEAR)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["Catalog", "Feature"])
def test_an_api_that_is_not_stac_is_rejected_in_one_line(tmp_path: Path, kind: str) -> None:
    """pystac-client raises a warning as an error, and errors of a dozen kinds."""
    page = {"stac_version": "1.0.0", "description": "a", "links": []}
    (tmp_path / "index.json").write_text(json.dumps(page | item(type=kind)))
    with FileServer(tmp_path) as server:
        server.faults = [Fault("/.+", lambda it: it.status(404))]
        catalog = Catalog(source=server.url, signing="none", retries=0, timeout_s=5)
        with pytest.raises(UserError, match=r"failed \(.*\); check that") as caught:
            search(catalog, "sentinel-2-l2a", (10, 45, 12, 47), *YEAR)
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match=r"check that|no collection") as caught:
            license_of(catalog, "sentinel-2-l2a")
        assert "\n" not in str(caught.value)


# Keys and signatures

SIGNED = "?st=2026&se=2027&sp=rl&sv=2024&sr=c&skoid=1&sig=se%2Fcret"


def test_a_catalog_whose_addresses_are_signed_is_pinned_unsigned(
    archive: Archive, tmp_path: Path
) -> None:
    signed = f"https://{BLOB_HOST}/assets/{{}}{SIGNED}"
    assets = {k: {"href": signed.format(a["href"])} for k, a in archive.items[0]["assets"].items()}
    assets["preview"] = {"href": f"https://x.org/map?item=a&api_key={KEY}&z=1"}
    links = [{"rel": "self", "href": f"https://me:{KEY}@x.org/a"}]
    edit_item(archive, assets=assets, links=links)
    text = archive.pin(OPTICAL, tmp_path / "items.json").read_text()
    assert "cret" not in text and KEY not in text
    (pinned,) = json.loads(text)["items"]
    assert pinned["assets"]["preview"]["href"] == "https://x.org/map?item=a&z=1"
    assert pinned["assets"]["B02"]["href"].endswith("/B02.tif")


FAULTS: dict[str, Callable[[Answer], None]] = {
    "none": Answer.file,
    "refused": lambda answer: answer.status(403),
    "busy": lambda answer: answer.status(503),
    "cut": lambda answer: answer.file(cut=0.3),
    "closed": lambda answer: answer.file(sent=0.3),
}


@pytest.mark.parametrize(
    "fault", ["none", *(pytest.param(name, marks=pytest.mark.slow) for name in list(FAULTS)[1:])]
)
def test_no_signature_and_no_key_in_anything_that_a_job_leaves(
    archive: Archive,
    tmp_path: Path,
    fault: str,
    token_endpoint: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    archive.optical("2021-06-11T10:20:31Z")
    run = tmp_path / "run"
    with FileServer(archive.folder) as server:
        token_endpoint(server.sas_url)
        monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", KEY)
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        server.needs_token = True
        if fault != "none":
            server.faults = [Fault("2021-05-11.*(B04|xml)", FAULTS[fault])]
        run.mkdir()
        items = archive.pin(OPTICAL, run / "items.json")
        items.write_text(items.read_text().replace(f"{archive.folder}/", f"http://{BLOB_HOST}/"))
        output = [str(run / "cube.zarr.zip")]
        rule = SimpleNamespace(log=[str(run / "rule.log")], output=output, rule="build_cube")
        more = {"source": server.url, "signing": "planetary-computer", "timeout_s": 1}
        try:
            with job(rule):
                archive.build(OPTICAL, run, items=items, retries=1, **more)
        except SystemExit:
            assert fault in ("busy", "refused")
        assert any(TOKEN_PATH in request for request in server.requests)
        assert any("sig=" in request for request in server.requests)
    shown = capfd.readouterr()
    files = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    left = files + shown.err.encode() + shown.out.encode()
    assert b"sig=" not in left.replace(b"sig=...", b"")
    assert KEY.encode() not in left


def test_a_body_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipeline_lib.acquire.retries.LARGEST_BYTES", 1000)
    (tmp_path / "large").write_bytes(b"x" * 5000)
    with FileServer(tmp_path) as server, pytest.raises(Missing, match="larger than"):
        get(f"{server.url}/large", timeout_s=5)


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.example.org/x.blob.core.windows.net/c/a.tif",
        "https://evil.example.org#.blob.core.windows.net/c/a.tif",
        "https://me@x.blob.core.windows.net/c/a.tif",
        "https://x.blob.core.windows.net:8443/c/a.tif",
        "https://x.blob.core.windows.net.evil.example.org/c/a.tif",
        "https://x.blob.core.windows.net/../../token/a.tif",
        "https://evil.example.org\\.blob.core.windows.net/c/a.tif",
        "ftp://x.blob.core.windows.net/c/a.tif",
    ],
)
def test_only_azures_own_storage_is_signed(href: str) -> None:
    assert Signer(Catalog(source="https://stac.example.org")).sign(href) == href


@pytest.mark.parametrize("token", [{"token": "sig=1", "msft:expiry": "never"}, {}, "none"])
def test_a_token_that_is_not_one_ends_in_one_line(
    tmp_path: Path, token_endpoint: Callable[[str], None], token: object
) -> None:
    with FileServer(tmp_path) as server:
        token_endpoint(server.url)
        server.faults = [Fault(".", lambda it: it.another(json.dumps(token).encode()))]
        signer = Signer(Catalog(source=server.url, retries=0, timeout_s=2))
        with pytest.raises(UserError, match="not a token"):
            signer.sign(f"https://{BLOB_HOST}/c/a.tif")


@pytest.mark.parametrize("status", [302, 308])
def test_the_subscription_key_does_not_follow_a_redirect(
    tmp_path: Path,
    token_endpoint: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    with FileServer(tmp_path) as elsewhere, FileServer(tmp_path) as server:
        monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", KEY)
        token_endpoint(server.sas_url)
        target = f"{elsewhere.sas_url}/archive/c"
        server.faults = [Fault(TOKEN_PATH, lambda answer: answer.status(status, Location=target))]
        signer = Signer(Catalog(source=server.url, retries=0, timeout_s=2))
        with pytest.raises(UserError, match="redirects, and a key is not sent on") as caught:
            signer.sign(f"https://{BLOB_HOST}/c/a.tif")
        assert len(server.requests) == 1 and elsewhere.requests == []
    assert KEY not in str(caught.value)
