"""Which version of a file is read. All chunks of a run come from one version of a scene (invariant I2)."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from batchseg.errors import AbsentSceneError, StorageError
from batchseg.redact import make_public_url
from batchseg.remote import is_remote, read_facts
from batchseg.scene.names import gdal_path, url_of_gdal_path

REQUESTS_AT_ONCE = 16
_VERSION_FIELDS = ("size_bytes", "mtime_ns", "etag", "modified")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """Version of a file and of the other files that hold pixels of it. Each fact is None where it is not known."""

    url: str
    """Address without credentials."""
    size_bytes: int | None = None
    etag: str | None = None
    modified: str | None = None
    """Time of the last change, as the server writes it."""
    remote_parts: str | None = None
    """Digest over the versions of other remote files that hold pixels."""
    mtime_ns: int | None = None
    """Time of the last change of a local file."""
    parts: str | None = None
    """Digest over the sizes and times of other local files that hold pixels."""

    def plain(self) -> dict[str, str | int]:
        """Return the known facts as JSON; a part of the fingerprint, so its keys never change."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: fact for name, fact in facts.items() if fact is not None}

    def describe_version(self) -> str:
        """Describe the version of the file itself, for messages."""
        facts = self.plain()
        return ", ".join(f"{name} {facts[name]}" for name in _VERSION_FIELDS if name in facts) or "no file"


def read_identity(url: str, parts: tuple[str, ...] = ()) -> FileIdentity:
    """Read the version of a file, and of other files that hold its pixels (`parts`: a mask, the parts of a VRT)."""
    path, remote_facts = Path(gdal_path(url)), read_facts(url) if is_remote(url) else {}
    stat = path.stat() if path.is_file() else None
    return FileIdentity(
        url=make_public_url(url),
        size_bytes=remote_facts.get("size_bytes") if stat is None else stat.st_size,
        etag=remote_facts.get("etag"),
        modified=remote_facts.get("modified"),
        remote_parts=_digest_remote({url_of_gdal_path(part) for part in parts} - {url}),
        mtime_ns=None if stat is None else stat.st_mtime_ns,
        parts=_digest_local([Path(part) for part in sorted(parts) if Path(part) != path]),
    )


def _digest_remote(urls: set[str]) -> str | None:
    remote = sorted(filter(is_remote, urls))
    if not remote:
        return None
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        facts = list(threads.map(read_facts, remote))
    versions = [(make_public_url(url), *sorted(fact.items())) for url, fact in zip(remote, facts, strict=True)]
    return hashlib.blake2b(repr(versions).encode(), digest_size=16).hexdigest()


def _digest_local(paths: list[Path]) -> str | None:
    versions = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()]
    return hashlib.blake2b(repr(versions).encode(), digest_size=16).hexdigest() if versions else None


def check_unchanged(url: str, identity: FileIdentity) -> None:
    """Raise AbsentSceneError when the file is no longer of the version that the run was planned with."""
    try:
        current = read_identity(url)
    except (OSError, StorageError) as error:  # a mount is gone, or a server does not answer
        got = str(error) or type(error).__name__
        raise AbsentSceneError("the file cannot be read any more", where=url, got=got) from error
    if current.size_bytes is None and identity.size_bytes is not None:
        raise AbsentSceneError("there is no such file any more", where=url, todo="put it back")
    if any(getattr(current, name) != getattr(identity, name) for name in _VERSION_FIELDS):
        raise AbsentSceneError(
            "the file has changed since the run was planned",
            where=url,
            expected=identity.describe_version(),
            got=current.describe_version(),
            todo="put the first version back, or run the recipe again into another output folder",
        )
