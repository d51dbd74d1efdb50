"""Bundles behind URLs: copied once a machine, and used from there."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path

from batchseg.errors import BundleError, RefusedError, StorageError
from batchseg.remote import read_facts, read_object

_ITEM = "item.json"


def cache_folder() -> Path:
    return Path(os.environ.get("BATCHSEG_CACHE") or Path.home() / ".cache" / "batchseg")


def fetch_bundle(url: str, cache: Path) -> Path:
    """A local folder with this version of the bundle; what its item says is checked by whoever loads it."""
    url = url.rstrip("/")
    try:
        return _fetch(url, cache)
    except (FileNotFoundError, KeyError, TypeError, ValueError, RefusedError, StorageError) as error:
        raise BundleError(
            "no bundle could be fetched from here",
            where=url,
            expected=f"{_ITEM} and the weights that it names",
            got=f"{type(error).__name__}: {error}",
            todo="check address and credentials",
        ) from None


def _fetch(url: str, cache: Path) -> Path:
    item = read_object(f"{url}/{_ITEM}")
    weights = str(json.loads(item)["assets"]["weights"]["href"]).removeprefix("./")
    if "/" in weights or "\\" in weights or weights in ("", ".", "..", _ITEM):
        raise ValueError(f"weights named {weights!r} do not lie beside {_ITEM}")
    version = json.dumps([url, item.decode(), read_facts(f"{url}/{weights}")], sort_keys=True)
    folder = cache / "bundles" / hashlib.blake2b(version.encode(), digest_size=16).hexdigest() / Path(url).name
    if not folder.exists():
        # Under another name first: two workers may fetch at once, and one of them may die.
        unfinished = folder.parent.with_name(f"{folder.parent.name}.{secrets.token_hex(4)}") / folder.name
        unfinished.mkdir(parents=True)
        (unfinished / _ITEM).write_bytes(item)
        (unfinished / weights).write_bytes(read_object(f"{url}/{weights}"))
        try:
            os.rename(unfinished.parent, folder.parent)  # noqa: PTH104 - fails where another worker was faster
        except OSError:
            if not folder.exists():
                raise
            shutil.rmtree(unfinished.parent)
    return folder
