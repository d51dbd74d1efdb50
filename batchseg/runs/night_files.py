"""The files of a folder of nights, as values.

index.json            every finished scene: its key, its name and its output
batch.json            the scenes that are being computed; gone when they are finished
latest.json           the newest good output of each scene
nights/TIME.json      what one start found and did
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from batchseg.errors import DamagedError
from batchseg.json_values import parse_value, read_value
from batchseg.paths import BATCH_KEY, INDEX_KEY, LATEST_KEY, NIGHTS_FOLDER
from batchseg.redact import make_public_url
from batchseg.store import Store

T = TypeVar("T")
RESTORE_INDEX = "restore it, or remove it; without it every scene is new"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedScene:
    """One line of index.json."""

    key: str
    name: str
    output: str
    """The folder of the scene, relative to that of all nights."""
    parts: dict[str, str] = field(default_factory=dict)
    """Short hashes of what the key is made of, by name; empty in an index that was written before it had them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    scenes: dict[str, FinishedScene]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """batch.json: the scenes of one run."""

    folder: str
    """The output folder of the run, relative to that of all nights."""
    keys: dict[str, str]
    """Public address -> key of each scene."""


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
    """Result of one scene tonight."""

    url: str
    name: str
    state: SceneState
    coverage: float
    """The share of its chunks that are committed."""
    output: str | None
    error: str | None = None
    """The cause of a failure."""
    reason: str | None = None
    """Reason why the scene was computed tonight; None for a scene that was not."""
    cost_usd: float | None = None
    """Dollars of the scene's chunks and GeoTIFFs; None for a scene that was not computed tonight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSummary:
    """nights/TIME.json."""

    began: str
    ended: str
    exit_status: int
    why: str
    counts: dict[SceneState, int]
    scenes: tuple[SceneResult, ...]
    run: str | None = None
    """The folder of tonight's run, relative to that of all nights; None if there was nothing to compute."""
    cost_usd: float | None = None
    """Dollars of tonight's run, with the start of workers and idle time; None without a run."""


def read_index(store: Store) -> dict[str, FinishedScene]:
    """Public address -> finished scene; empty before the first night. A damaged index raises DamagedError.

    Earlier versions wrote addresses with their signatures; the next night writes the index without them.
    """
    try:
        content = store.get(INDEX_KEY)
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        raise DamagedError(error.what, where=INDEX_KEY, got=error.got, todo=RESTORE_INDEX) from error
    # The index is a mapping of scenes, without a key of its own around it.
    index = parse_value(b'{"scenes": ' + content + b"}", _Index, where=INDEX_KEY, todo=RESTORE_INDEX)
    return {make_public_url(url): scene for url, scene in index.scenes.items()}


def read_batch(store: Store) -> Batch | None:
    batch = _read(store, BATCH_KEY, Batch)
    if batch is None:
        return None
    return replace(batch, keys={make_public_url(url): key for url, key in batch.keys.items()})


def read_latest(store: Store) -> Latest | None:
    return _read(store, LATEST_KEY, Latest)


def _read(store: Store, key: str, kind: type[T]) -> T | None:
    try:
        return read_value(store, key, kind)
    except FileNotFoundError:
        return None


def read_newest_summary(store: Store) -> NightSummary | None:
    """Read the summary of the last night; None where no night has ended yet."""
    keys = sorted(key for key, _ in store.names(NIGHTS_FOLDER) if key.endswith(".json"))
    return read_value(store, keys[-1], NightSummary) if keys else None
