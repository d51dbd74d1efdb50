"""Cost of a run, and its parts.

Theory of operation
-------------------
A worker is paid for its life: the seconds of its stint times its price. The parts of this cost are taken out of it one
by one: start-up, the seconds in committed records by stage, and waste (failed attempts, and whatever was in hand when
the worker died). The rest is idle time. So the parts add up to what was paid, as long as no second is counted twice.
`sum_paid_usd` does not look at stages at all; it exists so that the sum of the parts can be checked against it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

from batchseg.ledger.records import Attempt, Record, SheetRecord, Stint
from batchseg.ledger.sessions import Session
from batchseg.ledger.stages import STAGES, Stage, sum_paid_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """US dollars by what they were paid for."""

    compute_bulk: float = 0.0
    compute_heavy: float = 0.0
    audit: float = 0.0
    """Computing both tiers on audited tiles, beyond what the routes need."""
    read: float = 0.0
    write: float = 0.0
    idle: float = 0.0
    start: float = 0.0
    """Start-up of workers: loading libraries and opening models."""
    waste: float = 0.0
    """Failed attempts, and the work in hand of workers that died."""
    head: float = 0.0
    """The machine of the driver."""

    @property
    def parts(self) -> dict[str, float]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def total_usd(self) -> float:
        return sum(self.parts.values())


def split_cost(
    tasks: Sequence[Record | SheetRecord],
    stints: Sequence[Stint],
    *,
    head_usd: float,
    lost_s: Mapping[str, float] = MappingProxyType({}),
) -> Cost:
    """Split the cost of tasks and workers by what it was paid for.

    Args:
        tasks: Committed chunks and sheets.
        stints: The lives of the workers; without them, the cost of the tasks alone.
        head_usd: What the driver's machine cost.
        lost_s: Seconds of each lost worker's life, as its driver saw it. A worker that stood still sent no heartbeat,
            and was paid for until it was ended; that time is waste.
    """
    usd: defaultdict[str, float] = defaultdict(float, head=head_usd)
    worked_s: defaultdict[str, float] = defaultdict(float)
    for task in tasks:
        for stage, stage_usd in price_stages(task.attempt).items():
            usd[stage] += stage_usd
        worked_s[task.attempt.worker] += sum_paid_s(task.attempt.seconds)
    ended_unix_s = _find_ends(tasks)
    for stint in stints:
        ended = ended_unix_s[stint.worker]
        in_hand_s = sum(s for task, s in stint.in_hand_s.items() if ended.get(task, 0.0) < _find_last_beat(stint))
        life_s = _measure_life_s(stint, ended)
        still_s = max(0.0, lost_s.get(stint.worker, 0.0) - life_s)
        waste_s = stint.waste_s + in_hand_s + still_s
        idle_s = max(0.0, life_s + still_s - stint.start_s - waste_s - worked_s[stint.worker])
        for part, seconds in (("start", stint.start_s), ("waste", waste_s), ("idle", idle_s)):
            usd[part] += seconds * stint.usd_per_hour / 3600
    return Cost(**usd)


def price_head(sessions: Iterable[Session], *, default_usd_per_hour: float) -> float:
    """Sum the cost of all drivers' machines in dollars: each session at its own price, so no later price changes it.

    Args:
        sessions: The sessions of a run.
        default_usd_per_hour: The price of sessions that did not write down theirs.
    """
    usd = 0.0
    for session in sessions:
        own_price = session.head_usd_per_hour
        usd += session.seconds * (default_usd_per_hour if own_price is None else own_price) / 3600
    return usd


def sum_paid_usd(
    tasks: Sequence[Record | SheetRecord],
    stints: Sequence[Stint],
    *,
    head_usd: float,
    lost_s: Mapping[str, float] = MappingProxyType({}),
) -> float:
    """The lives of all workers at their prices, and the head, whatever the time was spent on."""
    ended_unix_s = _find_ends(tasks)
    workers_usd = 0.0
    for stint in stints:
        life_s = max(_measure_life_s(stint, ended_unix_s[stint.worker]), lost_s.get(stint.worker, 0.0))
        workers_usd += life_s * stint.usd_per_hour / 3600
    return workers_usd + head_usd


def price_stages(attempt: Attempt) -> dict[Stage, float]:
    """The cost of one committed task in dollars, by stage."""
    return {stage: attempt.seconds.get(stage, 0.0) * attempt.usd_per_hour / 3600 for stage in STAGES}


def _find_ends(tasks: Sequence[Record | SheetRecord]) -> defaultdict[str, dict[str, float]]:
    """The times at which tasks ended, by worker and task."""
    ended: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for task in tasks:
        ended[task.attempt.worker][str(task.key)] = task.attempt.ended_unix_s
    return ended


def _find_last_beat(stint: Stint) -> float:
    """The time of a worker's last heartbeat, by the steady clock that its tasks end by."""
    return stint.beat_unix_s if stint.lived_s is None else stint.begun_unix_s + stint.lived_s


def _measure_life_s(stint: Stint, ended_unix_s: Mapping[str, float]) -> float:
    """The length of a worker's life. It may die between a record and its next heartbeat; then the record counts."""
    return max(0.0, max([_find_last_beat(stint), *ended_unix_s.values()]) - stint.begun_unix_s)
