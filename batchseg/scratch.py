"""Private folders for unfinished files.

Temporary folders are often shared with other users of the machine. So a scratch folder has a name that nobody can
guess, belongs to this user, and is closed to all others (0700). Its process holds a lock on it until the folder is
removed, and the lock of a killed process is free. So a sweep removes what dead processes left, and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batchseg.errors import RefusedError

_TOKEN_BYTES = 12
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def open_scratch(base: Path, prefix: str) -> Iterator[Path]:
    """Yield a new private folder in `base`, and remove it at the end.

    Args:
        base: An existing folder.
        prefix: The beginning of the folder's name; `sweep_scratch` finds the folder by it.
    """
    folder = base / f"{prefix}{secrets.token_hex(_TOKEN_BYTES)}"
    unlocked = folder.with_name(f".{folder.name}")  # a sweep that comes before the lock does not know this name
    unlocked.mkdir(mode=0o700)
    lock = os.open(unlocked, _OPEN_FOLDER)
    try:
        with suppress(OSError):  # a few network disks have no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def check_shared_folder(base: Path) -> None:
    """Raise RefusedError when other users can replace files in a folder. The sticky bit, as on /tmp, forbids it."""
    mode = base.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise RefusedError(
            "every user of this machine can replace files in the folder for unfinished files",
            where=str(base),
            expected="a folder of this user, or the sticky bit as on /tmp",
            got=stat.filemode(mode),
            todo=f"give `chmod o-w {base}`, or name another folder",
        )


def sweep_scratch(base: Path, prefix: str) -> int:
    """Remove the folders that dead processes of this user left in `base`, and return their number."""
    name = re.compile(re.escape(prefix) + f"[0-9a-f]{{{2 * _TOKEN_BYTES}}}")
    with suppress(FileNotFoundError):
        return sum(_remove_dead(folder) for folder in list(base.iterdir()) if name.fullmatch(folder.name))
    return 0


def _remove_dead(folder: Path) -> bool:
    try:
        lock = os.open(folder, _OPEN_FOLDER)
    except OSError:
        return False  # a file, a link, the folder of another user, or one that has just been removed
    try:
        facts = os.fstat(lock)
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            return False
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # its process is alive, or this disk has no locks to tell that it is not
    finally:
        os.close(lock)
    shutil.rmtree(folder, ignore_errors=True)
    return True
