"""Changes to files: by bytes, and by what stands in them (JSON, XML, CSV, zip, HDF5, safetensors).

A case is a mapping of file name to bytes. Everything is drawn from one random generator.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from random import Random
from typing import Any

Files = dict[str, bytes]
Change = Callable[[Random, bytes], bytes]

NUMBERS = [0, -1, 1, 2, 255, 2**31, 2**53, 2**63, 2**64, 10**30, -(10**12), 0.5, -0.0, 1e-320]
NUMBERS += [1e308, math.inf, -math.inf, math.nan, 100_000, 10**9]
TEXTS = ["", " ", "x", "\n", "\0", "null", "NaN", "inf", "1e400", "9" * 400, "a\nb", "\x1b[31mred"]
TEXTS += ["../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "/vsicurl/http://127.0.0.1:9/x"]
TEXTS += ["<VRTDataset/>", "http://127.0.0.1:9/x?sig=secret", "2020-02-30", "9999-12-31T23:59:59Z"]
TEXTS += ["0001-01-01T00:00:00+14:00", "EPSG:99999", "EPSG:4326", "\ud800", "é" * 50, "A" * 5000]
TEXTS += ["pickle", "blosc", "<f8", "|O", "-9999", "20170230", "١٢", "1_0", "0x10", "true"]


def changed(rng: Random, files: Files, others: Sequence[Files]) -> Files:
    """The files with one to eight changes; ``others`` are spliced in now and then."""
    result = dict(files)
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3, 4, 8])):
        name = rng.choice(sorted(result))
        if rng.random() < 0.05 and others:
            result[name] = spliced(rng, result[name], rng.choice(others).get(name, b""))
            continue
        change = by_meaning(name) if rng.random() < 0.75 else by_bytes
        try:
            result[name] = change(rng, result[name])
        except Exception:
            # What is broken already has no meaning left to change.
            result[name] = by_bytes(rng, result[name])
    return result


def by_meaning(name: str) -> Change:
    """The change that knows what stands in a file of this name."""
    suffix = PurePosixPath(name).suffix
    if PurePosixPath(name).name in (".zarray", ".zattrs", ".zgroup", ".zmetadata"):
        suffix = ".json"
    kinds: dict[str, Change] = {
        ".json": json_text,
        ".xml": xml_text,
        ".csv": table_text,
        ".zip": archive,
        ".gz": packed,
        ".nc": hdf5,
        ".safetensors": safetensors,
    }
    return kinds.get(suffix, by_bytes)


def by_bytes(rng: Random, content: bytes) -> bytes:
    """Flips, cuts, repetitions and foreign numbers, anywhere."""
    data = bytearray(content)
    at = rng.randrange(len(data) + 1)
    length = min(len(data) - at, int(2 ** rng.uniform(0, 12)))
    kind = rng.randrange(8)
    if kind == 0:
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        del data[at : at + length]
    elif kind == 3:
        data[at:at] = data[at : at + length] * rng.choice([1, 2, 10])
    elif kind == 4:
        data[at:at] = rng.randbytes(min(length, 64))
    elif kind == 5:
        form = rng.choice(["<I", ">I", "<Q", "<H", "<d"])
        number = rng.choice([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1])
        if form == "<d":
            raw = struct.pack(form, float(rng.choice([math.nan, math.inf, -1.0, 1e300])))
        else:
            raw = struct.pack(form, number % 256 ** struct.calcsize(form))
        data[at : at + len(raw)] = raw
    elif kind == 6:
        data[at : at + length] = bytes([rng.choice([0, 0xFF, 0x20, 0x0A, 0x22])]) * length
    else:
        return number_text(rng, content)
    return bytes(data)


def spliced(rng: Random, one: bytes, other: bytes) -> bytes:
    """The beginning of one and the end of the other."""
    return one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]


def number_text(rng: Random, content: bytes) -> bytes:
    """One of the numbers that a text holds, replaced."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", content[:200_000]))
    if not found:
        return content
    place = rng.choice(found)
    new = rng.choice(TEXTS) if rng.random() < 0.3 else str(rng.choice(NUMBERS))
    return content[: place.start()] + new.encode("utf-8", "replace") + content[place.end() :]


def odd_value(rng: Random) -> Any:
    """Something that JSON can hold, or nearly."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice(TEXTS)
    if kind == 2:
        return rng.choice([None, True, False, [], {}, [[]], {"": {}}])
    if kind == 3:
        return [odd_value(rng) for _ in range(rng.choice([1, 2, 6, 50]))]
    if kind == 4:
        return {rng.choice(TEXTS): odd_value(rng) for _ in range(rng.choice([1, 3]))}
    nested: Any = rng.choice(NUMBERS)
    for _ in range(rng.choice([5, 200, 600])):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


def changed_json(rng: Random, content: Any) -> Any:
    """The value with one node changed; whatever is mutable in it may be changed in place."""
    places = [(None, None)]
    stack = [content]
    while stack:
        node = stack.pop()
        entries = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in entries:
            places.append((node, key))
            if isinstance(value, dict | list):
                stack.append(value)
    node, key = rng.choice(places)
    if node is None:
        return odd_value(rng)
    kind = rng.randrange(5)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[rng.choice([*TEXTS, key + "x"])] = node.pop(key)
    elif kind == 2:
        other, name = rng.choice(places[1:])
        # A copy: a value that held itself would be no tree.
        node[key] = json.loads(json.dumps(other[name])) if name in _keys(other) else odd_value(rng)
    else:
        node[key] = odd_value(rng)
    return content


def _keys(node: Any) -> Sequence[Any]:
    return list(node) if isinstance(node, dict) else range(len(node))


def json_text(rng: Random, content: bytes) -> bytes:
    """JSON with one value changed."""
    tree = json.loads(content)
    if isinstance(tree, dict | list):
        tree = changed_json(rng, tree)
    return json.dumps(tree, indent=1).encode("utf-8", "surrogatepass")


def xml_text(rng: Random, content: bytes) -> bytes:
    """XML with an element left out, doubled, moved, or its text or attribute changed."""
    kind = rng.randrange(6)
    text = content.decode()
    if kind == 0:
        tags = list(re.finditer(r"<(\w+)[^>]*>", text))
        tag = rng.choice(tags)
        end = text.find(f"</{tag[1]}>", tag.end())
        end = end + len(tag[1]) + 3 if end >= 0 else tag.end()
        element = text[tag.start() : end]
        rest = text[: tag.start()] + text[end:]
        at = rng.choice([0, tag.start(), rng.randrange(len(rest) + 1)])
        new = rest[:at] + element * rng.choice([0, 0, 1, 2, 20]) + rest[at:]
    elif kind == 1:
        place = rng.choice(list(re.finditer(r">[^<]+<", text)))
        new = f"{text[: place.start()]}>{rng.choice([*TEXTS, *map(str, NUMBERS)])}<"
        new += text[place.end() :]
    elif kind == 2:
        place = rng.choice(list(re.finditer(r'="[^"]*"', text)))
        new = f'{text[: place.start()]}="{rng.choice(TEXTS)}"{text[place.end() :]}'
    elif kind == 3:
        bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
        what = rng.choice(
            ['<!ENTITY e0 "x">' + bomb, '<!ENTITY e SYSTEM "file:///etc/passwd">', ""]
        )
        new = text.replace("?>", f"?><!DOCTYPE a [{what}]>", 1)
        new = new.replace("</VALUES>", " &e9;</VALUES>" if "e9" in what else " &e;</VALUES>", 1)
    elif kind == 4:
        new = "<a>" * rng.choice([100, 100_000]) + text
    else:
        return number_text(rng, content)
    return new.encode("utf-8", "replace")


def table_text(rng: Random, content: bytes) -> bytes:
    """CSV with a cell, line or column changed, left out or doubled, or another dialect."""
    lines = content.decode().split("\n")
    row = rng.randrange(len(lines))
    cells = lines[row].split(",")
    column = rng.randrange(len(cells))
    kind = rng.randrange(9)
    if kind <= 2:
        cells[column] = rng.choice([*TEXTS, *map(str, NUMBERS), '"', '"1,5"', "1,5"])
        lines[row] = ",".join(cells)
    elif kind == 3:
        del lines[row]
    elif kind == 4:
        lines[row:row] = [lines[rng.randrange(len(lines))]] * rng.choice([1, 2, 1000])
    elif kind == 5:
        lines = [",".join(_without(line.split(","), column)) for line in lines]
    elif kind == 6:
        lines = [line + "," + line.split(",")[column % len(line.split(","))] for line in lines]
    elif kind == 7:
        change = rng.choice([(",", ";"), (".", ","), (",", "\t"), ("-9999", ""), ("20", "19")])
        return content.replace(change[0].encode(), change[1].encode())
    else:
        text = rng.choice(["\r\n", "\r", "\x0b", "\u2028"]).join(lines)
        return text.encode(rng.choice(["utf-8", "utf-16", "utf-8-sig"]), "replace")
    return "\n".join(lines).encode("utf-8", "replace")


def _without(cells: list[str], column: int) -> list[str]:
    return cells[:column] + cells[column + 1 :]


def archive(rng: Random, content: bytes) -> bytes:
    """A zip with a member changed, renamed, doubled, left out, or packed in another way."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        members = [(info.filename, source.read(info)) for info in source.infolist()]
    at = rng.randrange(len(members))
    name, held = members[at]
    kind = rng.randrange(8)
    pack = zipfile.ZIP_STORED
    if kind == 0:
        del members[at]
    elif kind == 1:
        members.append((rng.choice([name, "../" + name, "/" + name, *TEXTS[:12]]) or "x", held))
    elif kind == 2:
        members[at] = (members[rng.randrange(len(members))][0], held)
    elif kind == 3:
        pack = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    else:
        # Descriptions are few among chunks, and decide more.
        told = [n for n, (own, _) in enumerate(members) if by_meaning(own) is not by_bytes]
        at = rng.choice(told) if told and rng.random() < 0.8 else at
        name, held = members[at]
        members[at] = (name, by_meaning(name)(rng, held))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", pack) as made:
        for name, held in members:
            made.writestr(zipfile.ZipInfo(name.replace("\0", "0") or "x"), held, pack)
    return target.getvalue()


def packed(rng: Random, content: bytes) -> bytes:
    """The same inside gzip."""
    return gzip.compress(table_text(rng, gzip.decompress(content)), mtime=0)


def safetensors(rng: Random, content: bytes) -> bytes:
    """Weights whose header tells something else, or that hold other numbers."""
    (length,) = struct.unpack("<Q", content[:8])
    header, values = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.7:
        header = json.dumps(changed_json(rng, json.loads(header))).encode()
        return struct.pack("<Q", len(header)) + header + values
    return content[: 8 + length] + by_bytes(rng, values)


def hdf5(rng: Random, content: bytes) -> bytes:
    """A NetCDF-4 file with an attribute or a variable that is not what it should be."""
    import h5py
    import numpy as np

    held = io.BytesIO(content)
    with h5py.File(held, "r+") as file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        name = rng.choice(sorted(names))
        kind = rng.randrange(8)
        if kind <= 2:
            owner = file if rng.random() < 0.2 else file[name]
            known = [*owner.attrs, "units", "calendar", "scale_factor", "_FillValue", "crs_wkt"]
            value: Any = rng.choice([rng.choice(TEXTS).replace("\0", ""), rng.choice(NUMBERS)])
            if rng.random() < 0.2:
                value = np.zeros(rng.choice([0, 3, 100]), rng.choice(["f4", "i8", "S3"]))
            owner.attrs[rng.choice(known)] = value if abs_fits(value) else 1.0
        elif kind == 3:
            del file[name]
        elif kind == 4:
            file[rng.choice(["time", "x", "y", "vv", "crs", "new"]) + "_"] = file[name]
            del file[name]
        elif kind == 5:
            shape = tuple(rng.choice([0, 1, 2, 7, 2**20, 2**40]) for _ in file[name].shape)
            del file[name]
            form = rng.choice(["f4", "i2", "u1", "S5", "f8", "c8", "i8", "?"])
            chunks = tuple(min(max(side, 1), 4) for side in shape) or None
            file.create_dataset(name, shape, form, chunks=chunks, maxshape=shape or None)
        elif kind == 6:
            data = np.asarray(file[name])
            del file[name]
            kinds = [
                lambda: data.astype("S"),
                lambda: np.zeros(data.shape, [("a", "f4"), ("b", "i2")]),
                lambda: data[..., ::-1],
                lambda: data.T,
                lambda: data.ravel(),
                lambda: np.full(data.shape, rng.choice(NUMBERS[:8] + NUMBERS[11:18]), "f8"),
                lambda: np.array([str(v) for v in data.ravel()[:50]], h5py.string_dtype()),
            ]
            file[name] = rng.choice(kinds)()
        else:
            del file[name]
            file[name] = rng.choice(
                [
                    h5py.ExternalLink("/etc/passwd", "/x"),
                    h5py.SoftLink(f"/{name}"),
                    h5py.Empty("f4"),
                ]
            )
    return held.getvalue()


def abs_fits(value: Any) -> bool:
    """Whether HDF5 has a type for a value."""
    return not isinstance(value, int) or -(2**63) <= value < 2**63
