"""Reads, models and writes that never come back: a run in this process ends them, and goes on."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from batchseg.engine.segment import Model
from batchseg.patient_threads import has_stuck_threads
from batchseg.recipe import Fleet
from batchseg.recipe.fleet import Patience
from batchseg.resolve.job import Job
from batchseg.runs.drive import Stop
from batchseg.runs.session import Options, Outcome, run
from batchseg.scene.pixels import Pixels
from batchseg.scene.source import RasterSource
from batchseg.store import LocalStore, Store
from batchseg.tiers import Tier
from batchseg.workers.happenings import Happening, SceneAbsent, TaskCommitted, WorkerLate
from batchseg.workers.pool import DEPTH, LocalPool, Pool
from batchseg.workers.worker import Worker, WorkerSpec
from tests.fakes import CountingStore
from tests.runs import Workplace, fake_models, fake_pool, noise, product_bytes
from tiling.span import Window

LONG_S = 120.0
"""Only to end what hangs in a test that fails."""
READ_LIMIT = Fleet(patience=Patience(read_s=0.5, scene_s=0.1))
DEADLINE = Fleet(patience=Patience(most_s=2.0, read_s=LONG_S))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchseg.ledger.lease.SETTLE_S", 0.0)


@dataclass(slots=True)
class Trap:
    """Hangs the calls with these numbers, until it is opened."""

    numbers: frozenset[int] = frozenset({2})
    """None of them: all calls."""
    gate: threading.Event = field(default_factory=threading.Event)
    num_calls: int = 0
    num_hung: int = 0

    def __call__(self) -> None:
        self.num_calls += 1
        if not self.numbers or self.num_calls in self.numbers:
            self.num_hung += 1
            self.gate.wait(LONG_S)


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.gate.set()
    until_s = time.monotonic() + LONG_S
    while has_stuck_threads() and time.monotonic() < until_s:
        time.sleep(0.01)


def hang_reads(monkeypatch: pytest.MonkeyPatch, trap: Trap) -> None:
    read_whole = RasterSource.read

    def read(source: RasterSource, window: Window) -> Pixels:
        trap()
        return read_whole(source, window)

    monkeypatch.setattr(RasterSource, "read", read)


class HangingSegmenter:
    def __init__(self, inner: Any, trap: Trap) -> None:
        self._inner, self._trap, self.batch = inner, trap, inner.batch

    def __call__(self, x_NBHW: Any, /) -> Any:
        self._trap()
        return self._inner(x_NBHW)


def make_hanging_pool(trap: Trap) -> Callable[[Job, Store, Fleet], Pool]:
    def models(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
        quick, environment = fake_models(job, spec)
        return {t: Model(HangingSegmenter(m.segmenter, trap), m.halo_px, m.class_ids) for t, m in quick.items()}, (
            environment
        )

    def open_pool(job: Job, store: Store, fleet: Fleet) -> Pool:
        def open_worker() -> Worker:
            return Worker(WorkerSpec.new(pool="here", device="cpu", usd_per_hour=1.0), job, store, models).open()

        return LocalPool(open_worker, depth=DEPTH)

    return open_pool


@dataclass(slots=True)
class HangingStore(CountingStore):
    """Hangs puts of pixels."""

    trap: Trap = field(default_factory=Trap)

    def put(self, key: str, content: bytes) -> None:
        if re.search(r"mask\.zarr/labels/\d", key):
            self.trap()
        self.inner.put(key, content)


@dataclass(slots=True)
class Watch:
    seen: list[Happening] = field(default_factory=list)
    then: Callable[[Happening], None] = lambda _: None

    def notice(self, happening: Happening) -> None:
        self.seen.append(happening)
        self.then(happening)

    def tick(self) -> None:
        if self.seen:
            self.then(self.seen[-1])

    def count(self, kind: type[Happening]) -> int:
        return sum(isinstance(happening, kind) for happening in self.seen)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchseg.ledger.lease.SETTLE_S", 0.0)
        place = make_place(tmp_path_factory.mktemp("clean"))
        assert place.run().exit_status == 0
        return product_bytes(place.output)


def make_place(folder: Path) -> Workplace:
    return Workplace.of(folder, noise(100, 70))


def run_watched(place: Workplace, fleet: Fleet, watch: Watch, **changes: Any) -> Outcome:
    options = Options(open_models=fake_models, watchers=(watch,), stop=changes.pop("stop", Stop()))
    return run(place.recipe(), fleet, options=options, **({"open_pool": fake_pool} | changes))


def test_a_read_that_hangs_is_ended(
    trap: Trap, tmp_path: Path, clean: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hang_reads(monkeypatch, trap)
    place, watch = make_place(tmp_path), Watch()
    outcome = run_watched(place, READ_LIMIT, watch)
    assert trap.num_hung == 1
    assert (outcome.exit_status, outcome.metrics.quarantined) == (0, {})
    (absent,) = (seen for seen in watch.seen if isinstance(seen, SceneAbsent))
    assert "the read hangs; got nothing within 0.5 s" in absent.why
    assert "patience: read_s" in absent.why
    assert product_bytes(place.output) == clean


def test_a_scene_whose_reads_all_hang_is_one_story(trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap.numbers = frozenset()
    hang_reads(monkeypatch, trap)
    outcome = run_watched(make_place(tmp_path), READ_LIMIT, Watch())
    assert (outcome.exit_status, list(outcome.metrics.quarantined)) == (3, ["scene0"])
    assert trap.num_hung <= 5, "two in hand, and three looks"


def test_a_model_that_hangs_costs_its_worker(trap: Trap, tmp_path: Path, clean: dict[str, str]) -> None:
    place, watch = make_place(tmp_path), Watch()
    outcome = run_watched(place, DEADLINE, watch, open_pool=make_hanging_pool(trap))
    assert trap.num_hung == 1
    (late,) = (seen for seen in watch.seen if isinstance(seen, WorkerLate))
    assert "the deadline is 2 s (`patience: most_s`)" in late.why
    assert (outcome.exit_status, outcome.metrics.quarantined) == (0, {})
    assert outcome.metrics.workers.hired == 2
    assert product_bytes(place.output) == clean


def test_a_model_that_always_hangs_is_given_up_chunk_by_chunk(trap: Trap, tmp_path: Path) -> None:
    trap.numbers = frozenset()
    place = Workplace.of(tmp_path, noise(30, 30))
    outcome = run_watched(place, DEADLINE, Watch(), open_pool=make_hanging_pool(trap))
    assert (outcome.exit_status, list(outcome.metrics.quarantined)) == (3, ["scene0/0_0"])
    assert trap.num_hung == 3


def test_a_write_that_hangs_costs_its_worker_and_commits_nothing_later(
    trap: Trap, tmp_path: Path, clean: dict[str, str]
) -> None:
    place, watch = make_place(tmp_path), Watch()
    store: Any = HangingStore(LocalStore(place.output, durable=False), trap=trap)
    outcome = run_watched(place, DEADLINE, watch, store=store)
    assert watch.count(WorkerLate) == 1
    assert (outcome.exit_status, outcome.metrics.quarantined) == (0, {})
    assert product_bytes(place.output) == clean
    num_puts = sum(operation.startswith("put run/") for operation in store.operations)
    trap.gate.set()
    while has_stuck_threads():
        time.sleep(0.01)
    assert sum(operation.startswith("put run/") for operation in store.operations) == num_puts


@pytest.mark.parametrize("what", ["read", "model", "write"])
def test_a_stop_does_not_wait_for_what_hangs(
    what: str, trap: Trap, tmp_path: Path, clean: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, stop = make_place(tmp_path), Stop()
    changes: dict[str, Any] = {}
    with monkeypatch.context() as patch:
        if what == "read":
            hang_reads(patch, trap)
        elif what == "model":
            changes["open_pool"] = make_hanging_pool(trap)
        else:
            changes["store"] = HangingStore(LocalStore(place.output, durable=False), trap=trap)

        def stop_later(_: Happening) -> None:
            if watch.count(TaskCommitted) >= 2 and trap.num_hung:
                stop.request("SIGTERM", 143)

        watch = Watch(then=stop_later)
        trap.numbers = frozenset({5})
        begun_s = time.monotonic()
        fleet = Fleet(patience=Patience(stop_s=1.0, read_s=LONG_S))
        outcome = run_watched(place, fleet, watch, stop=stop, **changes)
        assert time.monotonic() - begun_s < LONG_S / 2
    assert (outcome.exit_status, trap.num_hung) == (143, 1)
    assert outcome.metrics.chunks.done >= 2
    trap.gate.set()
    assert place.run().exit_status == 0
    assert product_bytes(place.output) == clean


def test_a_budget_does_not_hurry_the_tasks_in_hand(tmp_path: Path) -> None:
    place, stop = make_place(tmp_path), Stop()
    watch = Watch(then=lambda _: stop.request("budget") if watch.count(TaskCommitted) >= 2 else None)
    fleet = Fleet(patience=Patience(stop_s=0.001))
    outcome = run_watched(place, fleet, watch, stop=stop)
    assert outcome.exit_status == 4
    assert watch.count(TaskCommitted) >= 3


def test_default_deadlines_are_there() -> None:
    patience = Fleet().patience
    assert patience.most_s is not None
    assert patience.read_s < patience.most_s
    assert patience.stop_s <= 60.0
