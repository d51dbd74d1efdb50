"""Collisions: inputs, and files of others, that lie where something would be written.

On a disk, files and folders are compared by identity (device and inode), not by name. So links of both kinds, letter
case, relative paths and mounts make no difference. On a server, addresses are compared in one spelling.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from batchseg.errors import RecipeError
from batchseg.paths import OutputKeys, list_parents
from batchseg.redact import make_public_url
from batchseg.remote import find_endpoint_url, is_remote
from batchseg.scene.names import url_of_gdal_path
from batchseg.store import Store

NUM_NAMED = 5
"""The number of files that a message names."""
_Identity = tuple[int, int]
"""Device and inode."""
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
_ARCHIVE = re.compile(r"^/vsi(?:zip|tar|gzip|7z|rar|subfile|sparse|cached)/", re.ASCII)
_MARKS = re.compile(r"[\"'|?!,:]")
"""Characters between the path and the other parts of a GDAL name, like `NETCDF:"scene.nc":band`."""


def check_inputs(store: Store, keys: OutputKeys, names: Iterable[str]) -> None:
    """Raise RecipeError when one of these inputs lies where these keys would be written."""
    address = store.address
    places = _ServerPlaces(address, keys) if is_remote(address) else _LocalPlaces.of(Path(address), keys)
    for name in dict.fromkeys(names):
        key = places.find_key(name)
        if key is not None:
            raise RecipeError(
                "the output must not replace an input",
                where=f"output: {address}",
                expected="an output folder whose files are not inputs",
                got=f"{make_public_url(name)}, which lies where {key} is written",
                todo="give another output folder, or move the input",
            )


def make_foreign_error(address: str, foreign: Sequence[str], *, writer: str) -> RecipeError:
    """The error about files of others.

    Args:
        address: The folder or URL that the writer writes to.
        foreign: The keys where it would write and something lies that it did not make.
        writer: What writes, like `run`.
    """
    more = f" and {len(foreign) - NUM_NAMED} more" if len(foreign) > NUM_NAMED else ""
    return RecipeError(
        f"there are files where the {writer} would write, and no {writer} into this folder made them",
        where=f"output: {address}",
        got=f"{', '.join(foreign[:NUM_NAMED])}{more}",
        todo="give another folder, or move these files away",
    )


def list_bundle_files(ref: str) -> Iterator[str]:
    """List the files of a bundle, and its folder."""
    yield ref
    if is_remote(ref):
        yield f"{ref.rstrip('/')}/item.json"
        return
    with suppress(OSError):
        yield from (str(path) for path in sorted(Path(ref.removeprefix("file://")).iterdir()))


@dataclass(frozen=True, slots=True)
class _LocalPlaces:
    """List what lies in a local output folder already; a place where nothing lies yet is not that of an input."""

    root: Path
    keys: OutputKeys
    identified: dict[_Identity, str]

    @classmethod
    def of(cls, root: Path, keys: OutputKeys) -> _LocalPlaces:
        known = ((_identify(root / key), key) for key in (*sorted(keys.folders), *sorted(keys.files)))
        return cls(root, keys, {identity: key for identity, key in known if identity is not None})

    def find_key(self, name: str) -> str | None:
        return next((key for path in list_local_paths(name) if (key := self._find_key(path)) is not None), None)

    def _find_key(self, path: Path) -> str | None:
        real = path.resolve()
        identities = filter(None, map(_identify, (real, *real.parents)))
        key = next((self.identified[identity] for identity in identities if identity in self.identified), None)
        return key or self._find_hard_link(real)

    def _find_hard_link(self, real: Path) -> str | None:
        """A file of the run's own folders that is this very file."""
        facts = real.stat()
        if not self.identified or not stat.S_ISREG(facts.st_mode) or facts.st_nlink == 1:
            return None
        for folder in sorted(self.keys.folders):
            with suppress(OSError), os.scandir(self.root / folder) as entries:
                for entry in entries:
                    if entry.inode() == facts.st_ino and entry.stat().st_dev == facts.st_dev:
                        return f"{folder}/{entry.name}"
        return None


def _identify(path: Path) -> _Identity | None:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino


def list_local_paths(name: str) -> Iterator[Path]:
    """List the existing files and folders that a name of a raster or a vector file may mean."""
    if is_remote(name) and not name.startswith(("vrt://", "zip://")):
        return
    text = name.removeprefix("file://")
    while _ARCHIVE.match(text):
        text = _ARCHIVE.sub("", text)
    for part in dict.fromkeys((text, *_MARKS.split(text))):
        path = Path(re.sub(r"^//(?=/)", "", part))
        with suppress(OSError, ValueError):
            # A member of an archive has a path below that of the file.
            known = (place for place in (path, *path.parents) if place.exists())
            first = next(known, None) if part else None
            if first is not None and (first == path or first.is_file()):
                yield first


@dataclass(frozen=True, slots=True)
class _ServerPlaces:
    """The objects under a URL."""

    url: str
    keys: OutputKeys

    def find_key(self, name: str) -> str | None:
        root, address = normalise_url(self.url), normalise_url(name)
        if root is None or address is None or not address.startswith(f"{root}/"):
            return None
        key = address.removeprefix(f"{root}/")
        if key in self.keys.folders:
            return key
        return next((place for place in (key, *list_parents(key)) if self.keys.owns(place)), None)


def normalise_url(name: str) -> str | None:
    """The address of an object, in the one spelling that all names of it share; None for a local file."""
    while _ARCHIVE.match(name):
        name = _ARCHIVE.sub("/", name)
    url = url_of_gdal_path(re.sub(r"^/+vsi", "/vsi", name).partition("|")[0])
    scheme, separator, rest = url.partition("://")
    scheme = _ALIASES.get(scheme.lower(), scheme.lower())
    if not separator or scheme == "file":
        return None
    if scheme in ("http", "https"):
        return _normalise_http(url)
    bucket, _, path = rest.rstrip("/").partition("/")
    return f"{scheme}://{bucket.lower()}/{path}".rstrip("/")


def _normalise_http(url: str) -> str:
    """An object store answers over HTTP too, with the bucket in the path or before the host's name."""
    parts = urlsplit(url)
    host, path = parts.netloc.rpartition("@")[2].lower(), unquote(parts.path).strip("/")
    endpoint = urlsplit(find_endpoint_url() or "https://s3.amazonaws.com").netloc.lower()
    if host == "storage.googleapis.com":
        return f"gs://{path}"
    if host == endpoint or re.fullmatch(r"s3[.-][a-z0-9.-]*amazonaws\.com(:443)?", host):
        return f"s3://{path}"
    if host.endswith(f".{endpoint}"):
        return f"s3://{host.removesuffix(f'.{endpoint}')}/{path}"
    bucket = re.fullmatch(r"(.+)\.s3[.-][a-z0-9.-]*amazonaws\.com(:443)?", host)
    return f"s3://{bucket[1]}/{path}" if bucket else f"{parts.scheme}://{host}/{path}"
