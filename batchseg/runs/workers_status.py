"""The workers of a run, counted from its log: those that work, and those that were lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from batchseg.runs.log import LogEntry
from batchseg.workers.happenings import (
    AttemptFailed,
    RunBegun,
    WorkerGone,
    WorkerLeaving,
    WorkerOpened,
    WorkerPlaced,
    WorkerSentHome,
    WorkersUnplaced,
)

WORKER_EVENTS = frozenset(
    kind.log_name
    for kind in (
        RunBegun,
        AttemptFailed,
        WorkerPlaced,
        WorkerOpened,
        WorkerLeaving,
        WorkerSentHome,
        WorkerGone,
        WorkersUnplaced,
    )
)
"""Kinds of log lines that `fold_workers` reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersStatus:
    """The workers of a run. Losses and failed attempts are those of all sessions."""

    num_working: int
    """Workers that can take tasks now."""
    num_starting: int
    """Workers that are on a node and open their models."""
    num_leaving: int
    """Workers, of those that work, on nodes that will be taken away."""
    num_lost: int
    num_preempted: int
    """Workers, of those that were lost, that the cloud took away."""
    num_failed_attempts: int
    message: str | None
    """Workers that the cluster has no room for; None where every worker has a place."""


def fold_workers(entries: Iterable[LogEntry], *, is_running: bool) -> WorkersStatus:
    """Fold the lines of a log. A driver that does not run has no workers, whatever its last lines say."""
    working: set[str] = set()
    starting: set[str] = set()
    leaving: set[str] = set()
    num_lost = num_preempted = num_failed = 0
    message: str | None = None
    for entry in entries:
        worker = str(entry.facts.get("worker"))
        if entry.event == RunBegun.log_name:
            working, starting, leaving, message = set(), set(), set(), None
        elif entry.event == WorkerPlaced.log_name:
            starting.add(worker)
        elif entry.event == WorkerOpened.log_name:
            starting.discard(worker)
            working.add(worker)
            message = None
        elif entry.event == WorkerLeaving.log_name:
            leaving.add(worker)
        elif entry.event in (WorkerGone.log_name, WorkerSentHome.log_name):
            for workers in (working, starting, leaving):
                workers.discard(worker)
            num_lost += entry.event == WorkerGone.log_name
            num_preempted += entry.event == WorkerGone.log_name and entry.facts.get("what") == "preemption"
        elif entry.event == AttemptFailed.log_name:
            num_failed += 1
        elif entry.event == WorkersUnplaced.log_name:
            message = str(entry.facts.get("why"))
    return WorkersStatus(
        num_working=len(working) if is_running else 0,
        num_starting=len(starting) if is_running else 0,
        num_leaving=len(leaving & working) if is_running else 0,
        num_lost=num_lost,
        num_preempted=num_preempted,
        num_failed_attempts=num_failed,
        message=message if is_running else None,
    )
