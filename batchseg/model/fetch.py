"""Bundles behind URLs: copied once per machine, and used from there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from batchseg.atomic import create_folder
from batchseg.errors import BundleError, RefusedError, StorageError
from batchseg.remote import read_facts, read_object

_ITEM = "item.json"


def find_cache_folder() -> Path:
    return Path(os.environ.get("BATCHSEG_CACHE") or Path.home() / ".cache" / "batchseg")


def fetch_bundle(url: str, cache: Path) -> Path:
    """Find or make a local folder with this version of the bundle. Its item is checked when the bundle is opened."""
    url = url.rstrip("/")
    try:
        return _fetch(url, cache)
    except (FileNotFoundError, KeyError, TypeError, ValueError, RefusedError, StorageError) as error:
        raise BundleError(
            "the bundle could not be fetched",
            where=url,
            expected=f"{_ITEM} and the weights that it names",
            got=f"{type(error).__name__}: {error}",
            todo="check address and credentials",
        ) from None


def _fetch(url: str, cache: Path) -> Path:
    item = read_object(f"{url}/{_ITEM}")
    weights = str(json.loads(item)["assets"]["weights"]["href"]).removeprefix("./")
    if "/" in weights or "\\" in weights or weights in ("", ".", "..", _ITEM):
        raise ValueError(f"the weights must lie beside {_ITEM}, got {weights!r}")
    version = json.dumps([url, item.decode(), read_facts(f"{url}/{weights}")], sort_keys=True)
    folder = cache / "bundles" / hashlib.blake2b(version.encode(), digest_size=16).hexdigest() / Path(url).name
    if not folder.exists():
        # Atomically: two workers may fetch at once, and one of them may die.
        with create_folder(folder.parent) as unfinished:
            bundle = unfinished / folder.name
            bundle.mkdir()
            (bundle / _ITEM).write_bytes(item)
            (bundle / weights).write_bytes(read_object(f"{url}/{weights}"))
    return folder
