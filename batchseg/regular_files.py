"""Regular files, the only ones that are read: a pipe or a device may keep its reader waiting for ever, or never end."""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache
from itertools import islice
from pathlib import Path

from batchseg.errors import IrregularFileError

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)

MAX_LISTED = 50_000
"""The number of files of a folder that are looked at, which takes some hundredths of a second."""


def find_irregularity(path: str | Path) -> str | None:
    """Say what a name leads to, like `a pipe`; None for a regular file, a folder, or nothing."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None  # whoever opens it says that there is none
    return None if stat.S_ISDIR(mode) else _describe(mode)


def check_file(path: str | Path) -> None:
    """Raise IrregularFileError for a pipe, a socket or a device, before a library opens it."""
    kind = find_irregularity(path)
    if kind is not None:
        raise _refuse(str(path), kind)


def find_size_bytes(path: Path) -> int | None:
    """The size of a file in bytes; None for a link that leads nowhere, and for a file that has been deleted since."""
    try:
        return path.stat().st_size
    except OSError:
        if os.path.lexists(path) and not path.is_symlink():
            raise
        return None


def find_irregular_sidecar(path: str | Path) -> tuple[str, str] | None:
    """Find a pipe, a socket or a device among the files that belong to a file by their names, and say what it is.

    GDAL opens many of these without being asked: of `scene.tif` for example `scene.tif.msk` and `scene_RPC.TXT`.
    """
    path = Path(path)
    try:
        irregular = _list_irregular(path.parent, path.parent.stat().st_mtime_ns)
    except OSError:
        return None
    stem = path.stem.casefold()
    for name, kind in irregular:
        rest = name.casefold().removeprefix(stem)
        if len(rest) < len(name) and not rest[:1].isalnum():
            return str(path.parent / name), kind
    return None


@lru_cache(maxsize=256)
def _list_irregular(folder: Path, _: int) -> tuple[tuple[str, str], ...]:
    """List what is no regular file in a folder, in the version of this time; the longest are not listed to the end."""
    with os.scandir(folder) as entries:
        others = [entry for entry in islice(entries, MAX_LISTED) if not entry.is_file(follow_symlinks=False)]
    kinds = [(entry.name, find_irregularity(entry.path)) for entry in others]
    return tuple((name, kind) for name, kind in kinds if kind is not None)


def read_regular(path: str | Path) -> bytes:
    """Read a whole regular file.

    Raises:
        IrregularFileError: The name leads to something else.
        OSError: There is no such file, or it cannot be read.
    """
    with open(path, "rb", opener=open_regular) as file:
        return file.read()


def open_regular(path: str, flags: int) -> int:
    """Open a regular file; an `opener` for `open`. It never waits, whatever takes the file's place meanwhile.

    Raises:
        IrregularFileError: The name leads to something else.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o640)
    except OSError as error:
        if error.errno == errno.EISDIR:
            raise _refuse(path, "a folder") from error
        if error.errno == errno.ENXIO:  # a socket, or a pipe without a reader
            raise _refuse(path, find_irregularity(path) or "a pipe") from error
        raise
    kind = _describe(os.fstat(descriptor).st_mode)
    if kind is None:
        return descriptor
    os.close(descriptor)
    raise _refuse(path, kind)


def _refuse(path: str, kind: str) -> IrregularFileError:
    return IrregularFileError(
        "this must be a regular file", where=path, got=kind, todo="put a regular file in its place"
    )


def _describe(mode: int) -> str | None:
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)
