"""Conversion of a task's error into a value: the error in words, and whether another attempt may help."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from batchseg.errors import AbsentSceneError, BatchsegError, RefusedError
from batchseg.ledger.keys import TaskKey
from batchseg.output.sheet_reader import DamagedChunksError
from batchseg.redact import redact
from batchseg.workers.events import FailureKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Reason why an attempt failed; small, and picklable."""

    error: str
    retryable: bool
    kind: FailureKind = "failure"
    undone: tuple[TaskKey, ...] = ()


def is_out_of_memory(error: Exception) -> bool:
    """Test if the host or the device ran out of memory. Some libraries say it in words, without an error class."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("can't allocate memory", "bad_alloc", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def make_failure(error: Exception) -> Failure:
    """Describe any error of a task but out of memory."""
    if isinstance(error, DamagedChunksError):
        return Failure(error=str(error), retryable=True, undone=error.chunks)
    if isinstance(error, AbsentSceneError):
        return Failure(error=str(error), retryable=True, kind="absent")
    if isinstance(error, BatchsegError):
        kind: FailureKind = "refused" if isinstance(error, RefusedError) else "failure"
        return Failure(error=str(error), retryable=error.retryable, kind=kind)
    # An unknown error may pass (a connection, a moment of load), so it is retried. The story names its place.
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    return Failure(error=redact(f"{type(error).__name__}: {error} ({place})"), retryable=True)
