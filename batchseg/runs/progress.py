"""How far a run is, as numbers; how they are shown is not decided here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Record, SheetRecord
from batchseg.runs.drive import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    num_chunks: int
    num_done: int
    num_failed: int
    num_sheets: int
    num_sheets_done: int
    num_workers: int
    valid_px: int
    elapsed_s: float
    usd: float
    left_s: float | None
    """Expected seconds to go; None until something is known."""

    @property
    def chunks_ended(self) -> bool:
        return self.num_done + self.num_failed >= self.num_chunks

    @property
    def sheets_ended(self) -> bool:
        return self.num_sheets_done >= self.num_sheets

    @property
    def mpx_per_s(self) -> float:
        return self.valid_px / 1e6 / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(slots=True)
class Progress:
    """Counts what is committed, and stops the run when it has cost what it may."""

    num_chunks: int
    num_before: int
    num_sheets: int
    usd_before: float
    usd_per_hour: float
    max_usd: float | None
    stop: Stop
    show: Callable[[Snapshot], None]
    now: Callable[[], float] = time.monotonic
    _begun_s: float = field(init=False)
    _first_s: float | None = None
    _done: set[ChunkKey] = field(default_factory=set)
    _num_failed: int = 0
    _num_sheets_done: int = 0
    _valid_px: int = 0
    _workers: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._begun_s = self.now()

    def event(self, kind: str, **facts: Any) -> None:
        if kind == "WorkerReady":
            self._workers.add(facts["worker"])
            self._first_s = self._first_s or self.now()
        elif kind == "worker_lost":
            self._workers.discard(facts["worker"])
        elif kind == "quarantined":
            self._num_failed += 1

    def committed(self, record: Record | SheetRecord) -> None:
        if isinstance(record, Record):
            self._done.add(record.key)  # one that was found damaged is committed twice
            self._valid_px += record.measured.valid_px
        else:
            self._num_sheets_done += 1

    def tick(self) -> None:
        snapshot = self.snapshot()
        if self.max_usd is not None and snapshot.usd >= self.max_usd:
            self.stop.request("budget")
        self.show(snapshot)

    def snapshot(self) -> Snapshot:
        elapsed_s = self.now() - self._begun_s
        left = self.num_chunks - self.num_before - len(self._done) - self._num_failed
        working_s = self.now() - self._first_s if self._first_s is not None else 0.0
        return Snapshot(
            num_chunks=self.num_chunks,
            num_done=self.num_before + len(self._done),
            num_failed=self._num_failed,
            num_sheets=self.num_sheets,
            num_sheets_done=self._num_sheets_done,
            num_workers=len(self._workers),
            valid_px=self._valid_px,
            elapsed_s=elapsed_s,
            usd=self.usd_before + elapsed_s * self.usd_per_hour / 3600,
            left_s=working_s / len(self._done) * left if self._done else None,
        )
