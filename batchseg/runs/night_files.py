"""The files of a folder of nights, as values.

index.json            every finished scene: its key, its name and its output
batch.json            the scenes that are being computed; gone when they are finished
latest.json           the newest good output of each scene
nights/TIME.json      what one start found and did
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from batchseg.errors import DamagedError, RecipeError
from batchseg.paths import BATCH_KEY, INDEX_KEY, LATEST_KEY, night_key
from batchseg.schema import build, plain
from batchseg.store import Store, get_json

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedScene:
    """One line of index.json."""

    key: str
    name: str
    output: str
    """The folder of the scene, relative to that of all nights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """batch.json: the scenes of one run."""

    folder: str
    """The output folder of the run, relative to that of all nights."""
    keys: dict[str, str]
    """URL -> key of each scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestScene:
    url: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """latest.json."""

    began: str
    """The time of the night that wrote it, ISO 8601."""
    scenes: dict[str, LatestScene]
    """By name."""


SceneState = Literal["done", "unchanged", "incomplete", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneResult:
    """What became of one scene tonight."""

    url: str
    name: str
    state: SceneState
    coverage: float
    """The share of its chunks that are committed."""
    output: str | None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSummary:
    """nights/TIME.json."""

    began: str
    ended: str
    exit_status: int
    why: str
    counts: dict[SceneState, int]
    scenes: tuple[SceneResult, ...]


def read_index(store: Store) -> dict[str, FinishedScene]:
    """URL -> finished scene; empty before the first night. A damaged index raises DamagedError."""
    content = _read(store, INDEX_KEY)
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise _damaged(INDEX_KEY, f"a {type(content).__name__}")
    return {str(url): _build(FinishedScene, entry, f"{INDEX_KEY}: {url}") for url, entry in content.items()}


def write_index(store: Store, index: Mapping[str, FinishedScene]) -> None:
    _write(store, INDEX_KEY, index)


def read_batch(store: Store) -> Batch | None:
    content = _read(store, BATCH_KEY)
    return None if content is None else _build(Batch, content, BATCH_KEY)


def write_batch(store: Store, batch: Batch) -> None:
    _write(store, BATCH_KEY, batch)


def delete_batch(store: Store) -> None:
    store.delete(BATCH_KEY)


def read_latest(store: Store) -> Latest | None:
    content = _read(store, LATEST_KEY)
    return None if content is None else _build(Latest, content, LATEST_KEY)


def write_latest(store: Store, latest: Latest) -> None:
    _write(store, LATEST_KEY, latest)


def write_summary(store: Store, began: datetime, summary: NightSummary) -> None:
    _write(store, night_key(began.strftime("%Y-%m-%dT%H-%M-%SZ")), summary)


def _read(store: Store, key: str) -> object | None:
    try:
        content: object = get_json(store, key)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        raise _damaged(key, str(error.got)) from error
    return content


def _write(store: Store, key: str, content: object) -> None:
    store.put(key, json.dumps(plain(content), indent=1).encode())


def _build(kind: type[T], content: object, where: str) -> T:
    try:
        return build(kind, content, where=where)
    except RecipeError as error:
        raise _damaged(where.partition(":")[0], str(error)) from error


def _damaged(key: str, got: str) -> DamagedError:
    return DamagedError(
        "the file is damaged",
        where=key,
        got=got,
        todo=f"restore {key}, or remove it; without it every scene is new",
    )
