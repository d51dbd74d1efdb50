"""Tasks and workers for stories of the run state."""

from __future__ import annotations

from collections.abc import Iterable

from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey
from batchseg.runs.runstate import RunState
from batchseg.workers.events import Assign, FailureKind, Instruction, TaskFailed

SHEET = SheetKey("s", 0, 0)
COMMITTED = ChunkKey("s", 9, 9)


def chunk(number: int) -> ChunkKey:
    return ChunkKey("s", 0, number)


def state_of(
    num_chunks: int, *, sheet: bool = False, failures: int = 3, preemptions: int = 4, depth: int = 1
) -> RunState:
    chunks = [chunk(i) for i in range(num_chunks)]
    sheets: dict[TaskKey, set[TaskKey]] = {SHEET: set(chunks)} if sheet else {}
    return RunState.start([*chunks, *sheets], sheets, max_failures=failures, max_preemptions=preemptions, depth=depth)


def tasks(instructions: Iterable[Instruction]) -> list[TaskKey]:
    return [i.task for i in instructions if isinstance(i, Assign)]


def failed(worker: str, task: TaskKey, *, retryable: bool = True, kind: FailureKind = "failure") -> TaskFailed:
    return TaskFailed(worker, task, "broke", retryable, kind)
