"""What is written down about finished work; every report is a fold over these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from batchseg.engine.route import TileAudit
from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey
from batchseg.store import compute_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object of a task's output, as it was put."""

    key: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCounts:
    bulk: int = 0
    heavy: int = 0
    skipped: int = 0
    """Tiles without a pixel to predict: neither model ran."""

    def __add__(self, other: TileCounts) -> TileCounts:
        return TileCounts(
            bulk=self.bulk + other.bulk, heavy=self.heavy + other.heavy, skipped=self.skipped + other.skipped
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Who did it, when, and what it cost."""

    number: int
    worker: str
    pool: str
    device: str
    environment: dict[str, str]
    usd_per_hour: float
    started_unix_s: float
    ended_unix_s: float
    seconds: dict[str, float]
    """By stage; each second of a worker counts once. `busy_…` are the overlapping ones, for speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The stitched labels against the reference, over one chunk."""

    labels_id: str
    confusion: tuple[tuple[int, ...], ...]
    """Pixels: rows are reference classes, columns predicted ones, in the bundle's order."""
    unknown_px: int
    """Reference pixels whose code is no class of the bundle."""
    parts: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """The confusion by tier and priority ground; parts without a pixel are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one chunk holds; all of it adds up over chunks."""

    tiles: TileCounts
    valid_px: int
    class_px: tuple[int, ...]
    """Pixels a class, in the bundle's order."""
    area_km2: float | None
    """Geodesic ground area of the valid pixels; None where the scene has no place on the Earth."""
    class_area_km2: tuple[float, ...] | None
    confidence_sum: int
    """Of the confidence codes (0..254) of valid pixels."""
    agreement: Agreement | None
    tile_codes: tuple[int, ...] = ()
    """How each tile of the chunk was routed, row by row: codes of the tier layer, nodata where nothing was to label."""
    tile_scores: tuple[int, ...] = ()
    """How uncertain the bulk model was of each tile, in ten-thousandths; -1 where nobody asked."""
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
    """What every kind of record has."""

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
    """What of a record a resume needs: that a chunk is done, by which recipe, and what its output was."""

    key: ChunkKey
    fingerprint: str
    objects_digest: str

    @classmethod
    def of(cls, record: Record) -> Brief:
        digests = " ".join(stored.digest for stored in record.objects)
        return cls(record.key, record.fingerprint, compute_digest(digests.encode()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """Transitions over border lines and over lines half a core away: changes, pairs, changes, pairs."""

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
    """Of the records it was made from: another chunk, another sheet."""
    missing: tuple[ChunkKey, ...]
    objects: tuple[StoredObject, ...]
    seams: Seams
    """Inside the sheet."""
    attempt: Attempt
    edges: Edges | None = None
    """None of the only sheet of a scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stint:
    """One worker's life, rewritten at each commit and at each beat: so money lost to a kill is known to one beat."""

    worker: str
    pool: str
    host: str
    device: str
    usd_per_hour: float
    begun_unix_s: float
    beat_unix_s: float
    ended: bool
    start_s: float
    """Until the first task could begin: models opened, libraries loaded."""
    idle_s: float
    waste_s: float
    """Spent on attempts that failed."""
    in_hand_s: dict[str, float]
    """By task: spent so far on attempts that had not ended at the last beat."""
    peak_rss_bytes: int = 0
    failures: tuple[str, ...] = field(default=())
