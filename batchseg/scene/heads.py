"""Reading the first bytes of a file before GDAL does, wherever it lies: on disk, on a server, or in an archive."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from batchseg.errors import RefusedError, SceneError
from batchseg.regular_files import find_irregular_sidecar, find_irregularity, open_regular
from batchseg.remote import ask_patiently, find_error_code, make_read_options, open_filesystem
from batchseg.scene.gdal_name import GdalName, parse_gdal_name

_ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
)


def read_head(name: GdalName, num_bytes: int) -> bytes | None:
    """Read up to so many bytes of a file; b"" of a folder; None where the content of an archive cannot be read here."""
    if name.archive == "other":
        return None
    if name.archive is not None:
        return _read_member(name, num_bytes)
    if name.is_remote:
        return _read_remote(name.file, num_bytes)
    if Path(name.file).is_dir():
        return b""
    with open(name.file, "rb", opener=open_regular) as file:
        return file.read(num_bytes)


def check_regular(url: str, file: str) -> None:
    """Raise SceneError for a pipe, a socket or a device, which would keep its reader waiting for ever.

    The files that belong to a file by their names must be regular too, since GDAL opens them without being asked.
    """
    kind, sidecar = find_irregularity(file), find_irregular_sidecar(file)
    if kind is not None:
        raise SceneError("this must be a regular file", where=url, got=kind, todo="copy its content to a file")
    if sidecar is not None:
        name, kind = sidecar
        got, todo = f"{name}, {kind}", "remove it, or put a regular file in its place"
        raise SceneError("the files that belong to this one must be regular files", where=url, got=got, todo=todo)


def find_existing(beside: GdalName, paths: Sequence[str]) -> list[str]:
    """Find those of some files that exist; a link to nothing counts. All of them are to lie beside one file."""
    if beside.archive in ("zip", "tar"):
        members = set(list_members(beside))
        return [path for path in paths if (name := parse_gdal_name(path)) is not None and name.member in members]
    if beside.is_remote:
        with ThreadPoolExecutor(len(paths)) as threads:
            return [path for path, exists in zip(paths, threads.map(_is_on_server, paths), strict=True) if exists]
    return [path for path in paths if os.path.lexists(path.removeprefix("/vsigzip/"))]


def _is_on_server(path: str) -> bool:
    name = parse_gdal_name(path)
    try:
        return name is not None and read_head(name, 1) is not None
    except (FileNotFoundError, RefusedError):
        return False


def list_members(name: GdalName) -> list[str]:
    """List the members of a zip or tar archive as GDAL names them; none where it cannot be read."""
    try:
        with _open_file(name) as file:
            if name.archive == "tar":
                with tarfile.open(fileobj=file) as tar:
                    return [_clean(member.name) for member in tar]
            with zipfile.ZipFile(file) as archive:
                return [_clean(member) for member in archive.namelist()]
    except _ARCHIVE_ERRORS:
        return []


def _clean(member: str) -> str:
    return re.sub(r"^(?:\./|/)+", "", member.replace("\\", "/")).rstrip("/")


def _read_remote(url: str, num_bytes: int) -> bytes:
    filesystem, path = open_filesystem(url)

    def read() -> bytes:
        if url.startswith("s3://"):
            return _read_range(filesystem, path, num_bytes)
        with filesystem.open(path, "rb", block_size=num_bytes, cache_type="none") as file:
            content: bytes = file.read(num_bytes)
            return content

    return ask_patiently("give the first bytes of an object", url, read)


def _read_range(filesystem: Any, path: str, num_bytes: int) -> bytes:
    """Read from S3 in one request; opening an object asks for its size first, and for a list where it is missing."""
    try:
        content: bytes = filesystem.cat_file(path, start=0, end=num_bytes, **make_read_options(filesystem))
    except OSError as error:
        if find_error_code(error) == "InvalidRange":
            return b""  # an empty object
        raise
    return content


def _read_member(name: GdalName, num_bytes: int) -> bytes | None:
    try:
        with _open_file(name) as file:
            if name.archive == "gzip":
                with gzip.GzipFile(fileobj=file) as plain:
                    return plain.read(num_bytes)
            if name.archive == "tar":
                with tarfile.open(fileobj=file) as tar:
                    member = tar.extractfile(_find_only(tar.getmembers(), "name", name.member))
                    return None if member is None else member.read(num_bytes)
            archive = zipfile.ZipFile(file)
            with archive.open(_find_only(archive.infolist(), "filename", name.member)) as content:
                return content.read(num_bytes)
    except _ARCHIVE_ERRORS:
        return None


def _find_only(members: Sequence[Any], key: str, name: str) -> Any:
    """Find the member of a name. Where an archive has two, GDAL may read the other one."""
    (only,) = (member for member in members if _clean(getattr(member, key)) == name)
    return only


@contextmanager
def _open_file(name: GdalName) -> Iterator[IO[bytes]]:
    if name.is_remote:
        filesystem, path = open_filesystem(name.file)
        opened: Any = ask_patiently("open an object", name.file, lambda: filesystem.open(path, "rb"))
    else:
        opened = io.FileIO(name.file)
    with opened as file:
        yield file
