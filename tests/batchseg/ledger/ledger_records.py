"""Records, attempts, stints of workers and sessions of drivers, for what is computed from ledgers."""

from __future__ import annotations

from typing import Any

from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Attempt, Measured, Record, Stint, TileCounts
from batchseg.ledger.sessions import Session

BEGUN_UNIX_S = 1_700_000_000.0


def attempt_of(worker: str, ended_s: float, seconds: dict[str, float], usd_per_hour: float = 1.0) -> Attempt:
    return Attempt(
        number=1,
        worker=worker,
        pool="pool",
        device="cpu",
        environment={"device": "cpu"},
        usd_per_hour=usd_per_hour,
        started_unix_s=BEGUN_UNIX_S,
        ended_unix_s=BEGUN_UNIX_S + ended_s,
        seconds=seconds,
    )


def record_of(key: ChunkKey, attempt: Attempt, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "tiles": TileCounts(bulk=1),
        "valid_px": 1,
        "class_px": (1, 0, 0),
        "area_km2": 0.5,
        "class_area_km2": (0.5, 0.0, 0.0),
        "confidence_sum": 127,
        "agreement": None,
    }
    measured = Measured(**(values | changes))
    kind = "done" if measured.valid_px else "empty"
    return Record(key=key, fingerprint="f", kind=kind, objects=(), measured=measured, attempt=attempt)


def stint_of(worker: str, beat_s: float, **changes: Any) -> Stint:
    values: dict[str, Any] = {
        "worker": worker,
        "pool": "pool",
        "host": "host",
        "device": "cpu",
        "usd_per_hour": 1.0,
        "begun_unix_s": BEGUN_UNIX_S,
        "beat_unix_s": BEGUN_UNIX_S + beat_s,
        "ended": True,
        "start_s": 0.0,
        "idle_s": 0.0,
        "waste_s": 0.0,
        "in_hand_s": {},
    }
    return Stint(**(values | changes))


def session_of(name: str, begun_s: float, beat_s: float, head_usd_per_hour: float | None = 0.0) -> Session:
    return Session(
        name=name,
        host="host",
        pid=1,
        process_begun_unix_s=BEGUN_UNIX_S,
        begun_unix_s=BEGUN_UNIX_S + begun_s,
        beat_unix_s=BEGUN_UNIX_S + beat_s,
        ended=True,
        head_usd_per_hour=head_usd_per_hour,
    )
