"""Storage of a run: whole objects under keys like `run/records/scene/0_0.json`.

An object appears whole or not at all, whichever process dies at whatever moment. The ledger and the output ask nothing
else of storage. A local folder keeps this promise by renaming files, an object store by its nature.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batchseg.atomic import UNFINISHED, create_file, is_unfinished, make_folder, move_file, replace_file
from batchseg.errors import DamagedError, IrregularFileError, RefusedError
from batchseg.paths import SCRATCH_FOLDER, OutputKeys, list_parents
from batchseg.regular_files import find_size_bytes, read_regular
from batchseg.scratch import open_scratch, sweep_scratch

NOT_OURS = "this file does not hold what batchseg writes there"
LOOK_AT_IT = "look at it, and remove it if it can be spared"
_SCRATCH_PREFIX = "unfinished-"


class Store(Protocol):
    """The whole storage contract. Keys have `/` separators and no leading one.

    `tests/store_contract.py` has the tests that every implementation must pass, to inherit.
    """

    def get(self, key: str) -> bytes:
        """Return an object; FileNotFoundError where there is none."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Make or replace an object, atomically."""
        ...

    def put_new(self, key: str, content: bytes) -> bool | None:
        """Make an object only if there is none.

        Returns whether it was made; None where the storage cannot tell.
        """
        ...

    def put_file(self, key: str, path: Path) -> None:
        """The same as `put`, from a local file, which the store may move away."""
        ...

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the key and the size in bytes of every object below the folder `prefix`."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object. A missing object is no error."""
        ...

    def find_taken(self, keys: OutputKeys) -> Iterator[str]:
        """Yield the keys of what lies where these keys would be written."""
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """Open a private local folder for files that `put_file` will take; it is removed at the end."""
        ...

    def sweep(self, keys: OutputKeys, *, deep: bool = True) -> int:
        """Remove the unfinished files of dead writers of these keys, and return their number.

        Only the driver calls it, while it has no workers. Without `deep` it does nothing that needs a walk through the
        whole output. It removes only names that a store made, and follows no link.
        """
        ...

    @property
    def address(self) -> str:
        """The folder or URL, for messages."""
        ...


@dataclass(frozen=True, slots=True)
class LocalStore:
    """A folder. It writes an object beside its place and renames it into place.

    It writes and deletes inside of the folder only: a symbolic link on the way to a key is refused. The folder itself
    may be a link.
    """

    root: Path
    durable: bool = True
    """True to wait until objects are on the disk, so that they survive a crash of the machine too."""

    def get(self, key: str) -> bytes:
        try:
            return read_regular(self.root / key)
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from None
        except IrregularFileError as error:
            raise DamagedError(NOT_OURS, where=key, got=error.got, todo=LOOK_AT_IT) from error

    def put(self, key: str, content: bytes) -> None:
        with replace_file(self._make_place(key), durable=self.durable) as unfinished:
            unfinished.write_bytes(content)

    def put_new(self, key: str, content: bytes) -> bool:
        return create_file(self._make_place(key), content)

    def put_file(self, key: str, path: Path) -> None:
        move_file(path, self._make_place(key))

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        for folder, _, files in os.walk(self.root / prefix, onerror=_raise):
            for file in files:
                path = Path(folder) / file
                size_bytes = None if file.startswith(UNFINISHED) else find_size_bytes(path)
                if size_bytes is not None:
                    yield path.relative_to(self.root).as_posix(), size_bytes

    def delete(self, key: str) -> None:
        self._find_place(key).unlink(missing_ok=True)

    def find_taken(self, keys: OutputKeys) -> Iterator[str]:
        for folder in keys.list_folders():
            if os.path.lexists(self.root / folder) and not is_real_folder(self.root / folder):
                yield folder
            elif folder in keys.folders:
                names = (f"{folder}/{name}" for name in _list_names(self.root / folder) if not is_unfinished(name))
                yield from (key for key in names if key not in keys.folders)
        yield from (key for key in sorted(keys.files) if os.path.lexists(self.root / key))

    def sweep(self, keys: OutputKeys, *, deep: bool = True) -> int:
        left = [path for folder in ("", *keys.list_folders()) for path in self._find_unfinished(folder)] if deep else []
        for path in left:
            path.unlink(missing_ok=True)
        scratch = self.root / SCRATCH_FOLDER
        return len(left) + (
            sweep_scratch(scratch, _SCRATCH_PREFIX) if self._find_link(f"{SCRATCH_FOLDER}/") is None else 0
        )

    def _find_unfinished(self, folder: str) -> Iterator[Path]:
        if self._find_link(f"{folder}/") is None:
            paths = (self.root / folder / name for name in _list_names(self.root / folder) if is_unfinished(name))
            yield from (path for path in paths if path.is_file() and not path.is_symlink())

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder on the same disk, from which finished files can be renamed into place."""
        base = self._make_place(f"{SCRATCH_FOLDER}/")
        make_folder(base)
        with open_scratch(base, _SCRATCH_PREFIX) as folder:
            yield folder

    def _make_place(self, key: str) -> Path:
        """The file of a key, in a folder that exists."""
        target = self._find_place(key)
        make_folder(target.parent)
        return target

    def _find_place(self, key: str) -> Path:
        """The file of a key.

        Raises:
            RefusedError: The key leads out of the output folder, or a folder lies there.
        """
        link = self._find_link(key)
        if link is not None or ".." in key.split("/") or key.startswith("/"):
            raise RefusedError(
                "a run writes and deletes inside of its output folder only",
                where=self.address,
                got=f"{key}, which leads out of it" if link is None else f"{link}, a symbolic link",
                todo="put a folder there, or give another output folder" if link is not None else LOOK_AT_IT,
            )
        if not key.endswith("/") and is_real_folder(self.root / key):
            raise RefusedError("a file of the run must lie here", where=key, got="a folder", todo=LOOK_AT_IT)
        return self.root / key

    def _find_link(self, key: str) -> str | None:
        """The first symbolic link among the folders of a key."""
        return next((folder for folder in list_parents(key) if (self.root / folder).is_symlink()), None)

    @property
    def address(self) -> str:
        return str(self.root)


_NO_PLACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this disk is used up",
    errno.EROFS: "the disk has become read-only",
    errno.EACCES: "writing is not allowed any more",
}


def find_refusal(store: Store, error: BaseException) -> RefusedError | None:
    """The refusal behind an error of the operating system: the output folder takes nothing more. None for other errors.

    Only a folder can refuse, because all workers share it. Beside an object store, a full disk is one worker's scratch.
    """
    if not isinstance(error, OSError) or error.errno not in _NO_PLACE or "://" in store.address:
        return None
    todo = "make room for it" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "make it writable"
    return RefusedError(
        _NO_PLACE[error.errno], where=store.address, got=str(error), todo=f"{todo}, then run the same command again"
    )


@contextmanager
def raise_refusals(store: Store) -> Iterator[None]:
    """Raise RefusedError instead of an error of the operating system that is a refusal (`find_refusal`)."""
    try:
        yield
    except OSError as error:
        refusal = find_refusal(store, error)
        if refusal is None:
            raise
        raise refusal from error


def _raise(error: OSError) -> None:
    """A missing folder is empty. A folder that cannot be read is an error (invariant I7)."""
    if not isinstance(error, FileNotFoundError):
        raise error


def is_real_folder(path: Path) -> bool:
    """Test if a folder is there, and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _list_names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
