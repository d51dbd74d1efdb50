"""Small JSON files of a run as values: written from dataclasses, and read into them strictly.

A run seals the files that it reads again (`seals.py`). A seal is checked whenever its file is read. Files without a
seal are read too: those for users, like metrics.json, and those of runs that began before there were seals.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from batchseg.egress import encode_json
from batchseg.errors import DamagedError, RecipeError
from batchseg.schema import build, plain
from batchseg.seals import SEAL_KEY, add_seal, is_seal_broken, split_seal
from batchseg.store import LOOK_AT_IT, NOT_OURS, Store

T = TypeVar("T")
BROKEN_SEAL = "its digest is not that of its content"


def get_json(store: Store, key: str) -> Any:
    """Read a small JSON file of a run; FileNotFoundError where there is none."""
    content = store.get(key)
    try:
        return json.loads(content)
    except ValueError as error:
        raise DamagedError("this is not JSON", where=key, got=str(error), todo=LOOK_AT_IT) from error


def parse_value(content: bytes, kind: type[T], *, where: str, what: str = NOT_OURS, todo: str = LOOK_AT_IT) -> T:
    """Make a dataclass of a small JSON file, strictly. A seal must be that of the content.

    Args:
        content: The file.
        kind: The dataclass that was stored.
        where: The file's key, for the seal and for messages.
        what: What is wrong where the file holds something else.
        todo: What the user can do about it then.

    Raises:
        DamagedError: The content is not JSON, has another seal, or has other fields than `kind`.
    """
    if is_seal_broken(content, where):
        raise DamagedError(what, where=where, got=BROKEN_SEAL, todo=todo)
    try:
        data = json.loads(split_seal(content)[0])
        if isinstance(data, dict) and SEAL_KEY in data:  # no stored dataclass has a field of this name
            raise DamagedError(what, where=where, got=f"a `{SEAL_KEY}` that is not where batchseg writes it", todo=todo)
        return build(kind, data, where=where)
    except RecipeError as error:
        # Without `todo`, which is written for people who write YAML.
        place = None if error.where == where else (error.where or "").removeprefix(f"{where}: ")
        got = RecipeError(error.what, where=place, expected=error.expected, got=error.got)
        raise DamagedError(what, where=where, got=str(got), todo=todo) from error
    except ValueError as error:
        raise DamagedError(what, where=where, got=f"no JSON: {error}", todo=todo) from error


def read_value(store: Store, key: str, kind: type[T], *, todo: str = LOOK_AT_IT) -> T:
    """The dataclass that was stored; FileNotFoundError where there is none."""
    return parse_value(store.get(key), kind, where=key, todo=todo)


def put_value(store: Store, key: str, value: object) -> None:
    """Store a dataclass as a small JSON file for users, atomically."""
    store.put(key, to_json(value))


def put_sealed(store: Store, key: str, value: object, *, sort_keys: bool = False) -> None:
    """Store a dataclass as a small JSON file with a seal, atomically."""
    store.put(key, seal_value(key, value, sort_keys=sort_keys))


def seal_value(key: str, value: object, *, sort_keys: bool = False) -> bytes:
    """Make the sealed JSON of a dataclass, for this key in a store."""
    return add_seal(to_json(value, sort_keys=sort_keys), key)


def to_json(value: object, *, sort_keys: bool = False) -> bytes:
    return encode_json(plain(value), indent=1, sort_keys=sort_keys)
