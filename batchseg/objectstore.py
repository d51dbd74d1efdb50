"""Storage of a run on a server: S3 and compatible servers, or any other filesystem of fsspec.

Theory of operation
-------------------
An object store keeps by nature the promise for which a local folder renames files: other processes see a put whole or
not at all, and an answered put is durable. A big file goes up in parts, which stay invisible until the last request
joins them. So every operation here is one request, or one upload that ends in one, and can be repeated without harm:
the same key gets the same bytes. botocore retries passing failures (500, 503, resets, silence). Where it gives up, a
StorageError costs the task an attempt; where a retry would change nothing, a RefusedError stops the run (`remote.py`).

Listings are never cached. Consistency between processes comes from the server: Amazon S3, radosgw and similar servers
answer a read after a write with the written content.

Claims use a conditional put (If-None-Match: *). Servers without it answer 501 or 400; the claim is then undecided, and
the driver follows its second rule: it reads the lease back after a while (`ledger/lease.py`). Some servers accept a
conditional put and do not keep it under load (OpenStack Swift), so the second rule always applies.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.errors import RecipeError, RefusedError, StorageError
from batchseg.paths import OutputKeys
from batchseg.redact import has_credentials
from batchseg.remote import (
    T,
    ask_patiently,
    find_error_code,
    is_remote,
    make_read_options,
    make_upload_options,
    open_filesystem,
    translate_errors,
)
from batchseg.scratch import check_shared_folder, open_scratch, sweep_scratch
from batchseg.store import LocalStore, Store

_EXISTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_UNKNOWN = frozenset({"NotImplemented", "InvalidRequest", "InvalidArgument", "501"})
"""Answers of servers without conditional puts."""

LISTS_AT_ONCE = 16


def open_store(output: str) -> Store:
    """Open the `output` of a recipe: a local folder, or a URL."""
    if is_remote(output):
        return ObjectStore(output)
    return LocalStore(Path(output.removeprefix("file://")).expanduser())


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """Objects under a URL like s3://bucket/folder. It holds no connection, so it can be sent to workers."""

    url: str

    def __post_init__(self) -> None:
        scheme, _, rest = self.url.partition("://")
        if "?" in rest or has_credentials(self.url):
            raise RecipeError(
                "an address must not hold credentials",
                where=f"output: {self.url}",
                todo="set them in the environment (docs/object-storage.md)",
            )
        if scheme in ("http", "https", "local") or not rest.strip("/"):
            raise RecipeError(
                "nothing can be written to this address",
                where=f"output: {self.url}",
                expected="a folder, or a URL like s3://bucket/folder",
                todo="give another output",
            )

    def get(self, key: str) -> bytes:
        files, path = self._at(key)
        content: bytes = self._ask("give an object", key, lambda: files.cat_file(path, **make_read_options(files)))
        return content

    def put(self, key: str, content: bytes) -> None:
        files, path = self._at(key)
        with _no_folder(self._where(key)):
            self._ask("take an object", key, lambda: files.pipe_file(path, content))

    def put_new(self, key: str, content: bytes) -> bool | None:
        """Put an object only if there is none. Returns whether it was put; None where the server cannot tell.

        The answer to a put may get lost, and the retry then finds the object of the first attempt. So the object is
        read back, and the content must be one that no other process would put.
        """
        files, path = self._at(key)
        with _no_folder(self._where(key)):
            put = self._ask("take an object", key, lambda: _create(files, path, content))
        if put is False:
            with suppress(FileNotFoundError):
                return self.get(key) == content
        return put

    def put_file(self, key: str, path: Path) -> None:
        files, target = self._at(key)
        with _no_folder(self._where(key)):
            self._ask("take a file", key, lambda: files.put_file(str(path), target, **make_upload_options(files)))
        path.unlink()

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        listed = self._ask("list objects", prefix, lambda: self._find(prefix))
        start = len(self._at("")[1]) + 1
        for name, facts in listed.items():
            # Some consoles make "folders": empty objects whose names end in a slash.
            if facts["type"] == "file" and not name.endswith("/"):
                yield name[start:], int(facts["size"])

    def _find(self, prefix: str) -> dict[str, Any]:
        files, path = self._at(prefix)
        try:
            listed: dict[str, Any] = files.find(path, detail=True)
        except FileNotFoundError as error:
            if find_error_code(error) == "NoSuchBucket":
                raise
            return {}
        return listed

    def delete(self, key: str) -> None:
        files, path = self._at(key)
        with suppress(FileNotFoundError):
            self._ask("delete an object", key, lambda: files.rm_file(path))

    def find_taken(self, keys: OutputKeys) -> Iterator[str]:
        """List what lies under the first part of each key: the folders of scenes, and single objects."""
        tops = sorted({key.partition("/")[0] for key in (*keys.files, *keys.folders)})
        with ThreadPoolExecutor(LISTS_AT_ONCE) as threads:
            for listed in threads.map(lambda top: [key for key, _ in self.names(top)], tops):
                yield from filter(keys.owns, listed)

    def sweep(self, keys: OutputKeys, *, deep: bool = True) -> int:  # noqa: ARG002 - unfinished uploads are one listing
        """Remove the parts of abandoned uploads, and what dead processes left on this machine."""
        return sweep_scratch(_find_scratch_base(), self._scratch_prefix) + self._abort_uploads(keys)

    def _abort_uploads(self, keys: OutputKeys) -> int:
        files, path = self._at("")
        if not self.url.startswith("s3://"):
            return 0
        bucket, _, prefix = path.partition("/")
        try:
            with translate_errors("list unfinished uploads", self.url):
                answer = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
                uploads = [
                    upload
                    for upload in answer.get("Uploads", [])
                    if keys.owns(upload["Key"].removeprefix(f"{prefix}/"))
                ]
                for upload in uploads:
                    with suppress(FileNotFoundError):
                        files.call_s3(
                            "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
        except (RefusedError, StorageError):
            # Few users have the right to list uploads, and some servers cannot. Abandoned parts only cost money, and a
            # lifecycle rule of the bucket usually removes them.
            return 0
        return len(uploads)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of this machine for files on their way to the server."""
        base = _find_scratch_base()
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_shared_folder(base)
        with open_scratch(base, self._scratch_prefix) as folder:
            yield folder

    @property
    def _scratch_prefix(self) -> str:
        """It names the output, so that a run sweeps what its own dead processes left."""
        return f"batchseg-{hashlib.blake2b(self.address.encode(), digest_size=8).hexdigest()}-"

    @property
    def address(self) -> str:
        return self.url.rstrip("/")

    def _at(self, key: str) -> tuple[Any, str]:
        files, root = open_filesystem(self.url)
        return files, f"{root}/{key}" if key else root

    def _ask(self, what: str, key: str, ask: Callable[[], T]) -> T:
        return ask_patiently(what, self._where(key), ask)

    def _where(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}"


def _find_scratch_base() -> Path:
    return Path(os.environ.get("BATCHSEG_SCRATCH") or tempfile.gettempdir())


def _create(files: Any, path: str, content: bytes) -> bool | None:
    try:
        files.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    except (OSError, NotImplementedError) as error:
        code = find_error_code(error)
        if code in _EXISTS:
            return False
        if code in _UNKNOWN or isinstance(error, NotImplementedError):
            return None
        raise
    return True


class _no_folder:  # noqa: N801 - reads like `suppress`
    """Turns the FileNotFoundError of a put into a refusal: on an object store it means that there is no bucket."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise RefusedError(
                "the bucket does not exist", where=self._where, todo="create it, or give another output"
            ) from None
