"""Lives of lost workers, as the driver saw them: for the bill of workers that stood still."""

from __future__ import annotations

from pathlib import Path

from batchseg.ledger.lease import Lease
from batchseg.ledger.sessions import join_losses, read_sessions
from batchseg.runs.loss_times import LossTimes
from batchseg.store import LocalStore
from batchseg.workers.happenings import WorkerGone, WorkerOpened, WorkerPlaced, WorkerSentHome


def test_only_workers_that_are_lost_are_kept_with_the_time_from_placement_to_loss() -> None:
    now_s = 0.0
    lost_s: dict[str, float] = {}
    losses = LossTimes(lost_s, now=lambda: now_s)
    losses.notice(WorkerPlaced(worker="frozen", node="n", usd_per_hour=1.0))
    losses.notice(WorkerPlaced(worker="orderly", node="n", usd_per_hour=1.0))
    now_s = 5.0
    losses.notice(WorkerOpened(worker="frozen", usd_per_hour=1.0))
    losses.notice(WorkerOpened(worker="in-process", usd_per_hour=1.0))
    now_s = 605.0
    losses.notice(WorkerSentHome(worker="orderly", why="no work"))
    losses.notice(WorkerGone(worker="frozen", why="late", kind="late"))
    losses.notice(WorkerGone(worker="never placed", why="died at birth", kind="preemption"))
    assert lost_s == {"frozen": 605.0}


def test_the_session_keeps_the_losses_of_its_driver(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = Lease(store)
    first.acquire(sleep=lambda _: None)
    first.lost_workers_s["a"] = 12.5
    first.release()
    second = Lease(store)
    second.acquire(sleep=lambda _: None)
    second.lost_workers_s["b"] = 1.0
    second.renew()
    assert join_losses(read_sessions(store)) == {"a": 12.5, "b": 1.0}
