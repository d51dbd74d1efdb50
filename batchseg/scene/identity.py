"""The version of a file that is read. All chunks of a run come from one version of a scene (invariant I2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from batchseg.errors import AbsentSceneError, SceneError, StorageError
from batchseg.redact import make_public_url
from batchseg.remote import is_remote, read_facts
from batchseg.scene.gdal_name import parse_gdal_name
from batchseg.scene.names import url_of_gdal_path
from batchseg.scene.vrt_text import digest_vrt_text
from tiling.span import Window

REQUESTS_AT_ONCE = 16
_VERSION_FIELDS = ("size_bytes", "mtime_ns", "etag", "modified", "text")


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
    text: str | None = None
    """Digest of the text of a scene's own VRT, which then has no size and no time here: programs that only look at it
    write statistics into it."""

    def plain(self) -> dict[str, str | int]:
        """Return the known facts as JSON; a part of the fingerprint, so its keys never change."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: fact for name, fact in facts.items() if fact is not None}

    def describe_version(self) -> str:
        """Describe the version of the file itself, for messages."""
        facts = self.plain()
        return ", ".join(f"{name} {facts[name]}" for name in _VERSION_FIELDS if name in facts) or "no file"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """Another file that holds pixels of a raster, in the version that the run was planned with."""

    url: str
    identity: FileIdentity
    windows: tuple[Window, ...] = ()
    """Parts of the raster that show the file; none: not known, so that any part may."""

    def is_seen_in(self, window: Window) -> bool:
        return not self.windows or any(part.meets(window) for part in self.windows)


def read_identity(url: str, parts: tuple[str, ...] = (), *, by_text: bool = False) -> FileIdentity:
    """Read the version of a file, and of other files that hold its pixels.

    A name of GDAL's has the version of the file behind it: a member of an archive has the version of the archive.

    Args:
        url: The file.
        parts: The other files: a mask, the parts of a VRT.
        by_text: Whether a local VRT is known by its text instead of its size and time.
    """
    file = find_file(url)
    path, remote_facts = Path(file), read_facts(file) if is_remote(file) else {}
    stat = path.stat() if file and path.is_file() else None
    text = digest_vrt_text(path) if by_text and stat is not None else None
    is_plain = stat is not None and text is None
    return FileIdentity(
        url=make_public_url(url),
        size_bytes=remote_facts.get("size_bytes") if stat is None else stat.st_size if is_plain else None,
        etag=remote_facts.get("etag"),
        modified=remote_facts.get("modified"),
        remote_parts=_digest_remote(set(map(_locate, parts)) - {url, file}),
        mtime_ns=stat.st_mtime_ns if stat is not None and is_plain else None,
        parts=_digest_local([Path(part) for part in sorted(map(_locate, parts)) if Path(part) != path]),
        text=text,
    )


def _locate(part: str) -> str:
    """Find the file or the URL behind a part: GDAL lists members of archives, and objects by names of its own."""
    part = url_of_gdal_path(part)
    return part if is_remote(part) or not part.startswith("/vsi") else find_file(part)


def find_file(url: str) -> str:
    """Find the file on disk, or the URL of the object, behind a name; the empty text where none can be told."""
    name = parse_gdal_name(url)
    return "" if name is None else name.file


def read_parts(files: Mapping[str, tuple[Window, ...]]) -> tuple[FilePart, ...]:
    """Read the versions of the other files of a raster; those on servers side by side."""
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        identities = list(threads.map(read_identity, files))
    return tuple(
        FilePart(url=file, identity=identity, windows=windows)
        for (file, windows), identity in zip(files.items(), identities, strict=True)
    )


def check_identity(url: str, identity: FileIdentity) -> None:
    """Raise SceneError where a file has no version that could be compared later: no identity, no run."""
    own = (identity.mtime_ns, identity.etag, identity.modified, identity.text)
    is_folder = Path(find_file(url) or "-").is_dir() and identity.parts is not None
    if not is_folder and all(fact is None for fact in own):
        raise refuse_unknown_version(url, identity.describe_version())


def refuse_unknown_version(url: str, got: str) -> SceneError:
    """Make the error for a file whose replacement would go unnoticed."""
    return SceneError(
        "the version of the file cannot be known, so a replaced file would go unnoticed",
        where=url,
        expected="a file, an archive, or an object whose server tells its ETag or the time of its last change",
        got=got,
        todo="copy it to a file or a bucket, and name it by its path or URL",
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
        current = read_identity(url, by_text=identity.text is not None)
    except (OSError, StorageError) as error:  # a mount is gone, or a server does not answer
        got = str(error) or type(error).__name__
        raise AbsentSceneError("the file cannot be read any more", where=url, got=got) from error
    is_gone = current.size_bytes is None and current.text is None
    if is_gone and (identity.size_bytes is not None or identity.text is not None):
        raise AbsentSceneError("there is no such file any more", where=url, todo="put it back")
    if any(getattr(current, name) != getattr(identity, name) for name in _VERSION_FIELDS):
        raise AbsentSceneError(
            "the file has changed since the run was planned",
            where=url,
            expected=identity.describe_version(),
            got=current.describe_version(),
            todo="put the first version back, or run the recipe again into another output folder",
        )


def check_parts_unchanged(parts: Iterable[FilePart], window: Window) -> None:
    """Raise SceneError when a file that shows in a window is no longer of the version of the plan."""
    seen = [part for part in parts if part.is_seen_in(window)]
    local = [part for part in seen if not is_remote(part.url)]
    for part in local:
        check_unchanged(part.url, part.identity)
    if len(local) < len(seen):
        remote = [part for part in seen if is_remote(part.url)]
        with ThreadPoolExecutor(min(REQUESTS_AT_ONCE, len(remote))) as threads:
            list(threads.map(lambda part: check_unchanged(part.url, part.identity), remote))
