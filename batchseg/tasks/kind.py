"""A kind of task: one value that says all that workers and runs have to know of it.

To add a kind, write one file with its key, its record and a `TaskKind`, and add one line to `tasks/table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from batchseg.clock import Moment
from batchseg.engine.chunk import ChunkWork, Prediction
from batchseg.errors import ForeignRunError
from batchseg.ledger.keys import ChunkKey, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Attempt, Brief, TaskRecord
from batchseg.ledger.stages import StageClock
from batchseg.resolve.job import Job, SceneJob
from batchseg.scene.pixels import Source
from batchseg.store import Store
from batchseg.tiers import Need
from tiling.grid import Tile
from tiling.span import Window

K = TypeVar("K", bound=TaskKey)


class Workbench(Protocol):
    """Services of a worker for a task that it performs."""

    @property
    def job(self) -> Job: ...

    @property
    def store(self) -> Store: ...

    @property
    def clock(self) -> StageClock:
        """Takes the time of each stage, under the task's name."""
        ...

    def get_source(self, scene: SceneJob) -> Source:
        """The scene's pixels; the source stays open for the next task."""
        ...

    def predict(self, work: ChunkWork, task: str) -> Prediction:
        """Run the models on the worker's device, one task at a time."""
        ...

    def predict_blank(self, window: Window, tiles: list[Tile]) -> Prediction:
        """The prediction of a window without a pixel to label."""
        ...

    def describe_attempt(self, number: int, begun: Moment, task: str) -> Attempt:
        """The attempt, for the record; takes the task's seconds off the clock."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Facts about a run's tasks that are known when it begins."""

    job: Job
    ledger: Ledger
    committed_chunks: Mapping[ChunkKey, Brief]
    given_up: AbstractSet[TaskKey]
    """The tasks in quarantine that are not tried again."""
    is_wanted: Callable[[ChunkKey], bool]
    pending: set[TaskKey] = field(default_factory=set)
    """The tasks to do of the kinds that stand before this one in the table, and of this one so far."""

    def check_recipe(self, records: Iterable[Brief | TaskRecord]) -> None:
        """Raise ForeignRunError where a record has another fingerprint (invariant I4)."""
        for record in records:
            if record.fingerprint != self.job.fingerprint:
                raise ForeignRunError(
                    f"the record of {record.key} belongs to another recipe",
                    where="output",
                    expected=self.job.fingerprint,
                    got=record.fingerprint,
                    todo="give another output folder",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskKind(Generic[K]):
    """One kind of task. The functions get keys of this kind only."""

    key_type: type[K]
    perform: Callable[[Workbench, K, int], TaskRecord]
    """Do a task, at this attempt number, and commit its record last."""
    find_pending: Callable[[Survey], Iterator[tuple[K, AbstractSet[TaskKey]]]]
    """The tasks to do, in order, each with the pending tasks that it waits for. A task that has failed for good is
    waited for no longer, so `perform` must cope with what is missing."""
    read_records: Callable[[Ledger], Iterator[TaskRecord]]
    uses_models: bool = False
    """True if `perform` runs models, so that a smaller batch helps where memory runs out."""
    make_need_rule: Callable[[Job], Callable[[K], Need]] | None = None
    """The tiers that each task needs, where workers are limited to a tier. None: any worker can do any task."""


AnyTaskKind = TaskKind[Any]
