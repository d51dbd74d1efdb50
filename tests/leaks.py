"""Looks for a planted credential in all that was written, also inside of streams, tables, archives and images."""

from __future__ import annotations

import base64
import io
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import rasterio
from pyarrow import parquet

_ZLIB_STARTS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def list_forms(secret: str) -> set[bytes]:
    """The forms in which the word may stand; of base64, the letters that do not depend on neighbours."""
    content = secret.encode()
    encoded = []
    for before in range(3):
        letters = base64.b64encode(bytes(before) + content).rstrip(b"=")
        encoded.append(letters[(0, 2, 3)[before] : len(letters) - bool((before + len(content)) % 3)])
    return {content, quote(secret, safe="").encode(), content.hex().encode(), *encoded}


def find_leaks(*folders: Path, secret: str, texts: Mapping[str, str] | None = None) -> list[str]:
    """List the files, and the names of files, that hold the credential, and the given texts that do."""
    forms = list_forms(secret)
    leaks = [name for name, text in (texts or {}).items() if holds(text.encode(), forms)]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if holds(str(path.relative_to(folder)).encode(), forms):
                leaks.append(f"name of {path}")
            if path.is_file() and any(holds(content, forms) for content in expand(path)):
                leaks.append(str(path))
    return leaks


def holds(content: bytes, forms: set[bytes]) -> bool:
    return any(form in content for form in forms)


def expand(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what programs read in it."""
    content = path.read_bytes()
    yield content
    yield from list_streams(content)
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if content.startswith(b"SQLite format 3"):
        with sqlite3.connect(path) as database:
            yield "\n".join(database.iterdump()).encode()
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        yield f"{table.to_pylist()} {table.schema.metadata}".encode()
    if path.suffix in (".tif", ".vrt"):
        with rasterio.open(path) as raster:
            tags = [raster.tags(), *(raster.tags(ns=space) for space in raster.tag_namespaces()), raster.descriptions]
            yield f"{tags} {raster.tags(1)} {raster.files}".encode()


def list_streams(content: bytes) -> Iterator[bytes]:
    """Whatever zlib or gzip can decompress, wherever it begins."""
    for start in (*_ZLIB_STARTS, b"\x1f\x8b\x08"):
        at = content.find(start)
        while at >= 0:
            with suppress(zlib.error):
                yield zlib.decompressobj(wbits=47).decompress(content[at:], 1 << 22)
            at = content.find(start, at + 1)
