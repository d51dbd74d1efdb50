"""The records of finished work; every report is a fold over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from batchseg.engine.route import TileAudit
from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey
from batchseg.seals import compute_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One stored object of a task's output."""

    key: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCounts:
    """Tiles by the model that labelled them."""

    bulk: int = 0
    heavy: int = 0
    skipped: int = 0
    """Number of tiles without a pixel to label, so that no model ran."""

    def __add__(self, other: TileCounts) -> TileCounts:
        return TileCounts(
            bulk=self.bulk + other.bulk, heavy=self.heavy + other.heavy, skipped=self.skipped + other.skipped
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The attempt that succeeded: which worker made it, when, and at what cost."""

    number: int
    worker: str
    pool: str
    device: str
    environment: dict[str, str]
    usd_per_hour: float
    started_unix_s: float
    ended_unix_s: float
    seconds: dict[str, float]
    """Seconds by stage; each second of a worker counts once. The `busy_…` seconds overlap, and show speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The labels of one chunk compared with the reference."""

    labels_id: str
    confusion: tuple[tuple[int, ...], ...]
    """Pixels: rows are reference classes, columns are predicted classes, both in the bundle's order."""
    unknown_px: int
    """Number of reference pixels whose value is no class of the bundle."""
    parts: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """Confusion by tier and priority ground; parts without a pixel are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Contents of one chunk; every number adds up over chunks."""

    tiles: TileCounts
    valid_px: int
    class_px: tuple[int, ...]
    """Pixels per class, in the bundle's order."""
    area_km2: float | None
    """Geodesic ground area of the valid pixels; None if the scene has no place on the Earth."""
    class_area_km2: tuple[float, ...] | None
    confidence_sum: int
    """Sum of the confidence values (0 to 254) of valid pixels."""
    agreement: Agreement | None
    tile_codes: tuple[int, ...] = ()
    """Codes of the tier layer, one per tile, row by row; nodata where the tile had no pixel to label."""
    tile_scores: tuple[int, ...] = ()
    """Uncertainty of the bulk model on each tile, in ten-thousandths; -1 where it was not measured."""
    audits: tuple[TileAudit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One committed chunk."""

    key: ChunkKey
    fingerprint: str
    kind: Literal["done", "empty"]
    objects: tuple[StoredObject, ...]
    measured: Measured
    attempt: Attempt


class TaskRecord(Protocol):
    """Fields that the record of every kind of task has."""

    @property
    def key(self) -> TaskKey: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def objects(self) -> tuple[StoredObject, ...]: ...

    @property
    def attempt(self) -> Attempt: ...


@dataclass(frozen=True, slots=True)
class Brief:
    """The part of a record that a resume needs: which chunk is done, by which recipe, and the digest of its output."""

    key: ChunkKey
    fingerprint: str
    objects_digest: str

    @classmethod
    def of(cls, record: Record) -> Brief:
        digests = " ".join(stored.digest for stored in record.objects)
        return cls(record.key, record.fingerprint, compute_digest(digests.encode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """Class changes across border lines and across lines half a core away: changes, pairs, changes, pairs."""

    tile: tuple[int, int, int, int]
    chunk: tuple[int, int, int, int]
    tier: tuple[int, int, int, int]
    same_tier: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The outermost rows and columns of a sheet, packed (`output/sheet_seams.py`)."""

    top: str
    bottom: str
    left: str
    right: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRecord:
    """One published set of GeoTIFFs over a block of chunks."""

    key: SheetKey
    fingerprint: str
    inputs_digest: str
    """Digest of the records that it was made from; when a chunk changes, the sheet is made again."""
    missing: tuple[ChunkKey, ...]
    objects: tuple[StoredObject, ...]
    seams: Seams
    """Seams inside the sheet; those between sheets are counted from their edges."""
    attempt: Attempt
    edges: Edges | None = None
    """Outermost pixels of the sheet; None if it is the only sheet of its scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stint:
    """One worker's life. It is rewritten at each heartbeat, so the money lost to a kill is known to one heartbeat."""

    worker: str
    pool: str
    host: str
    device: str
    usd_per_hour: float
    begun_unix_s: float
    beat_unix_s: float
    ended: bool
    start_s: float
    """Seconds until the first task could begin: opening models, loading libraries."""
    idle_s: float
    waste_s: float
    """Seconds spent on attempts that failed."""
    in_hand_s: dict[str, float]
    """Seconds by task, spent so far on attempts that had not ended at the last heartbeat."""
    peak_rss_bytes: int = 0
    failures: tuple[str, ...] = field(default=())
    lived_s: float | None = None
    """Seconds from begin to last heartbeat, by a clock that nobody sets. None: written before stints had it."""
