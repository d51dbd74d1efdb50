"""Bundles behind URLs: copied once per machine, and used from there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from batchseg.errors import BundleError, RefusedError, StorageError
from batchseg.model.cache import open_entry
from batchseg.redact import make_public_url
from batchseg.remote import read_facts, read_object

_ITEM = "item.json"
_FAILURES = (FileNotFoundError, KeyError, TypeError, ValueError, RecursionError, RefusedError, StorageError)


def fetch_bundle(url: str) -> Path:
    """Find or make a local folder with this version of the bundle. Its item is checked when the bundle is opened."""
    url = url.rstrip("/")
    try:
        return _fetch(url)
    except _FAILURES as error:
        raise _refuse(url, error) from None


def join_url(url: str, name: str) -> str:
    """The address of a file in a folder; a query, which may authorise the request, stays behind it."""
    folder, mark, query = url.partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"


def _fetch(url: str) -> Path:
    item = read_object(join_url(url, _ITEM))
    weights = str(json.loads(item)["assets"]["weights"]["href"]).removeprefix("./")
    if "/" in weights or "\\" in weights or weights in ("", ".", "..", _ITEM):
        raise ValueError(f"the weights must lie beside {_ITEM}, got {weights!r}")
    public_url = make_public_url(url)
    version = json.dumps([public_url, item.decode(), read_facts(join_url(url, weights))], sort_keys=True)
    name = Path(public_url).name

    def fill(folder: Path) -> None:
        bundle = folder / name
        bundle.mkdir()
        (bundle / _ITEM).write_bytes(item)
        (bundle / weights).write_bytes(_read_weights(url, weights))

    return open_entry("bundles", hashlib.blake2b(version.encode(), digest_size=16).hexdigest(), fill) / name


def _read_weights(url: str, name: str) -> bytes:
    try:
        return read_object(join_url(url, name))
    except FileNotFoundError as error:
        raise _refuse(url, error) from None  # it would count as an error of the cache


def _refuse(url: str, error: Exception) -> BundleError:
    return BundleError(
        "the bundle could not be fetched",
        where=url,
        expected=f"{_ITEM} and the weights that it names",
        got=f"{type(error).__name__}: {error}",
        todo="check the address and the credentials",
    )
