"""Which tiers a task needs, as far as that is known before any model runs."""

from __future__ import annotations

from collections.abc import Callable

from batchseg.job.job import Job
from batchseg.job.routing import is_heavy_alone
from batchseg.ledger.keys import ChunkKey, TaskKey
from batchseg.runs.lines import Need
from tiling.grid import tiles_of


def need_in(job: Job, *, limited: bool) -> Callable[[TaskKey], Need]:
    """For each task of a job; `any` for all of them where no worker is `limited` to a tier."""
    if not limited:
        return lambda _: "any"
    if len(job.models) == 1:
        return lambda task: next(iter(job.models)) if isinstance(task, ChunkKey) else "any"
    # What the bulk model is unsure of, and what is audited, turns out only while a chunk is done.
    open_ended = getattr(job, "doubt", None) is not None or getattr(job, "audit_share", 0.0) > 0

    def need(task: TaskKey) -> Need:
        if not isinstance(task, ChunkKey):
            return "any"
        priority = job.scenes[task.scene].priority_tiles
        tiles = tiles_of(job.lattice(task.scene), job.window(task))
        if all(is_heavy_alone(job, task.scene, tile.row, tile.col) for tile in tiles):
            return "heavy"
        return "both" if open_ended or any((tile.row, tile.col) in priority for tile in tiles) else "bulk"

    return need
