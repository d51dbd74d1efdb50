"""Regular files, the only ones that are read: a pipe or a device may keep its reader waiting for ever, or never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from batchseg.errors import IrregularFileError

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def find_irregularity(path: str | Path) -> str | None:
    """Say what a name leads to, like `a pipe`; None for a regular file, a folder, or nothing."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None  # whoever opens it says that there is none
    return None if stat.S_ISDIR(mode) else _describe(mode)


def read_file(path: str | Path) -> bytes:
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
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    except OSError as error:
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
        "this must be a regular file", where=path, got=kind, todo="copy its content to a file, and name that"
    )


def _describe(mode: int) -> str | None:
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)
