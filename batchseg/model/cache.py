"""The cache of this machine: fetched bundles and converted graphs. A folder that only its owner may enter.

What lies in the cache decides output bytes, so it is never trusted unread. Every entry has a file with its name and the
digests of its other files. An entry that does not match them is made again, and a line of the log says so.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from batchseg.atomic import UNFINISHED, create_folder
from batchseg.egress import format_json, write_text
from batchseg.errors import BundleError
from batchseg.redact import redact
from batchseg.schema import JsonObject

_DIGESTS = "digests.json"
_LOG = logging.getLogger("batchseg")
_filling: ContextVar[FillingTime | None] = ContextVar("filling", default=None)


def find_cache_folder() -> Path:
    return Path(os.environ.get("BATCHSEG_CACHE") or Path.home() / ".cache" / "batchseg")


@dataclass(slots=True)
class FillingTime:
    """The time in which entries were made that a later process finds."""

    seconds: float = 0.0


@contextmanager
def time_filling() -> Iterator[FillingTime]:
    """Add up the seconds in which the code inside makes entries of the cache, in this thread."""
    time_spent = FillingTime()
    token = _filling.set(time_spent)
    try:
        yield time_spent
    finally:
        _filling.reset(token)


@contextmanager
def _clock_filling() -> Iterator[None]:
    begun_s, time_spent = time.perf_counter(), _filling.get()
    try:
        yield
    finally:
        if time_spent is not None:
            time_spent.seconds += time.perf_counter() - begun_s


def open_entry(section: str, name: str, fill: Callable[[Path], None]) -> Path:
    """Find an entry whose files are those that were written, or make it.

    Args:
        section: The folder of such entries.
        name: The name of the entry; it must name the content.
        fill: Writes the files of the entry into an empty folder. Its OSErrors count as errors of the cache.

    Raises:
        BundleError: Other users could change the cache, or it cannot be written.
    """
    try:
        folder = open_section(section) / name
        if os.path.lexists(folder) and not _is_whole(folder):
            _remove_damaged(folder)
        if not folder.exists():
            # Atomically: two workers may make an entry at once, and one of them may die.
            with create_folder(folder) as unfinished:
                with _clock_filling():
                    fill(unfinished)
                write_text(unfinished / _DIGESTS, format_json(_describe(unfinished, name)))
    except OSError as error:
        raise BundleError(
            "the cache of bundles and graphs cannot be used",
            where=str(find_cache_folder()),
            expected="a folder that can be written, on a disk with space",
            got=str(error),
            todo="set BATCHSEG_CACHE to such a folder",
        ) from error
    return folder


def open_section(section: str) -> Path:
    """Make a folder of the cache that only its owner may enter, or close it to others.

    Raises:
        BundleError: Another user could replace the folder or what is in it.
    """
    root = find_cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    facts = root.stat()  # it may be a link: the user's own, to a larger disk
    if facts.st_uid not in (0, os.getuid()) or (facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX):
        raise _refuse_shared(root, facts)
    folder = root / section
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise _refuse_shared(folder, facts)
    if stat.S_IMODE(facts.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder


def _refuse_shared(folder: Path, facts: os.stat_result) -> BundleError:
    return BundleError(
        "other users could change the models in this cache",
        where=str(folder),
        expected=f"a folder of user {os.getuid()} that others cannot write to",
        got=f"{stat.filemode(facts.st_mode)} of user {facts.st_uid}",
        todo="set BATCHSEG_CACHE to a folder of your own",
    )


def _is_whole(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and _describe(folder, folder.name) == json.loads(
            (folder / _DIGESTS).read_bytes()
        )
    except (OSError, ValueError, RecursionError):
        return False


def _describe(folder: Path, name: str) -> JsonObject:
    """The name of an entry and the digests of its files. With its name, no entry passes for another one.

    Raises:
        ValueError: Something in the folder is no file: reading a link or a pipe might never end.
    """
    digests = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise ValueError(f"{path} is no file")
        if stat.S_ISREG(mode) and path != folder / _DIGESTS:
            digests[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"entry": name, "sha256": digests}


def _remove_damaged(folder: Path) -> None:
    """Remove an entry, unless another process has made it again since it was looked at."""
    with _lock(folder.parent):
        if not os.path.lexists(folder) or _is_whole(folder):
            return
        _LOG.warning("%s: this entry of the cache is damaged, and is made again", redact(str(folder)))
        aside = folder.with_name(f"{UNFINISHED}{secrets.token_hex(6)}")
        folder.rename(aside)
    if aside.is_symlink() or not aside.is_dir():
        aside.unlink()
    else:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with suppress(OSError):  # a few network disks have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
