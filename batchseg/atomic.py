"""Files and folders that appear whole or not at all, whatever dies and whenever.

Everything is written under another name in the same folder, and renamed into place at the end. The names of unfinished
files begin with `.unfinished-`, so that a program that lists or sweeps a folder knows them.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".unfinished-"
FILE_MODE = 0o640
"""The widest rights of a file: its user may write, its group may read. The umask narrows them further."""
FOLDER_MODE = 0o750
LEAST_UMASK = 0o777 & ~FOLDER_MODE
"""The umask that leaves files `FILE_MODE`, and folders `FOLDER_MODE`."""
_GROUP_READS = 0o040
_TOKEN_BYTES = 6
_UNFINISHED_NAME = re.compile(re.escape(UNFINISHED) + f"[0-9a-f]{{{2 * _TOKEN_BYTES}}}")


@contextmanager
def replace_file(path: Path, *, durable: bool = True, tag: str | None = None) -> Iterator[Path]:
    """Yield an unfinished file to write. It takes the place of `path` at the end; an error removes it.

        with replace_file(path) as unfinished:
            unfinished.write_bytes(content)

    Args:
        path: The file to make or to replace. Its folder must exist.
        durable: Whether to wait until the content is on the disk, so that it survives a crash of the machine too.
        tag: The end of the unfinished file's name. With a fixed tag the next attempt overwrites what a killed process
            left, so only one process may write at a time. None: a random tag, for several writers.
    """
    unfinished = _name_unfinished(path, tag)
    unfinished.unlink(missing_ok=True)  # a writer would follow a link, and change all names of a file that has several
    try:
        yield unfinished
        move_file(unfinished, path, durable=durable)
    finally:
        unfinished.unlink(missing_ok=True)


def move_file(source: Path, path: Path, *, durable: bool = True) -> None:
    """Put a finished file of the same disk in the place of `path`, with the rights of a new file there."""
    _set_rights(source, path)
    if durable:
        with source.open("rb") as file:
            os.fsync(file.fileno())
    source.replace(path)


def create_file(path: Path, content: bytes) -> bool:
    """Make a file only if there is none; of several processes one succeeds. Returns whether this one did."""
    unfinished = _name_unfinished(path)
    try:
        unfinished.write_bytes(content)
        _set_rights(unfinished, path)
        os.link(unfinished, path)  # unlike a rename, a link fails where something is there
    except FileExistsError:
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    return True


@contextmanager
def limit_new_files() -> Iterator[None]:
    """Give new files and folders of this process no more rights than `FILE_MODE` and `FOLDER_MODE`."""
    before = os.umask(0o077)
    os.umask(before | LEAST_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, with no more rights than `FOLDER_MODE`. What exists stays as it is."""
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def _set_rights(source: Path, path: Path) -> None:
    """Give an unfinished file the rights that a new file beside `path` gets.

    Some libraries write wider files, and those that work with private temporary files write narrower ones.
    """
    mode = stat.S_IMODE(source.stat().st_mode)
    wanted = mode & FILE_MODE if mode & _GROUP_READS else _probe_rights(path)
    if mode != wanted:
        with suppress(OSError):  # a disk without rights, like exFAT, refuses
            source.chmod(wanted)


def _probe_rights(path: Path) -> int:
    """The rights of a new file in this folder. To ask for the umask would mean to set it, for all threads."""
    probe = _name_unfinished(path)
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()


@contextmanager
def create_folder(folder: Path) -> Iterator[Path]:
    """Yield an unfinished folder to fill; it gets its name at the end, and an error removes it.

    For caches that several processes may fill at once with the same content: the first one succeeds, and what the
    others wrote is removed.
    """
    make_folder(folder.parent)
    unfinished = _name_unfinished(folder)
    unfinished.mkdir(mode=FOLDER_MODE)
    try:
        yield unfinished
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise  # it was not that another process was faster
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _name_unfinished(path: Path, tag: str | None = None) -> Path:
    return path.with_name(f"{UNFINISHED}{tag or secrets.token_hex(_TOKEN_BYTES)}")


def is_unfinished(name: str) -> bool:
    """True if this module gave a file this name; a user's file that only begins alike is not meant."""
    return _UNFINISHED_NAME.fullmatch(name) is not None
