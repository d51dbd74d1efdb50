"""What a run cost, and for what.

What is paid for is a worker's life: stint seconds x price. The parts are taken out of it one by one: start-up, the
seconds in committed records by stage, waste (attempts that failed, and what was in hand when a worker died); what is
left is idle. So the parts add up to what was paid, as long as no second is counted twice; `paid_usd` knows nothing of
stages, and is there to be compared with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from batchseg.ledger.records import Attempt, Record, SheetRecord, Stint
from batchseg.ledger.stages import STAGES, paid_s

COST_PARTS = ("compute_bulk", "compute_heavy", "audit", "read", "write", "idle", "start", "waste", "head")


def cost_parts(
    tasks: Sequence[Record | SheetRecord], stints: Sequence[Stint], *, wall_s: float, head_usd_per_hour: float
) -> dict[str, float]:
    """Dollars by what they were paid for."""
    usd: dict[str, float] = dict.fromkeys(COST_PARTS, 0.0)
    worked_s: defaultdict[str, float] = defaultdict(float)
    for task in tasks:
        for stage, spent_usd in usd_by_stage(task.attempt).items():
            usd[stage] += spent_usd
        worked_s[task.attempt.worker] += paid_s(task.attempt.seconds)
    ended_unix_s = _ended_unix_s(tasks)
    for stint in stints:
        ended = ended_unix_s[stint.worker]
        life_s = _life_s(stint, ended)
        lost_s = sum(s for task, s in stint.in_hand_s.items() if ended.get(task, 0.0) < stint.beat_unix_s)
        waste_s = stint.waste_s + lost_s
        idle_s = max(0.0, life_s - stint.start_s - waste_s - worked_s[stint.worker])
        for part, seconds in (("start", stint.start_s), ("waste", waste_s), ("idle", idle_s)):
            usd[part] += seconds * stint.usd_per_hour / 3600
    usd["head"] = wall_s * head_usd_per_hour / 3600
    return usd


def paid_usd(
    tasks: Sequence[Record | SheetRecord], stints: Sequence[Stint], wall_s: float, head_usd_per_hour: float
) -> float:
    """Lives x prices, whatever they were spent on."""
    ended_unix_s = _ended_unix_s(tasks)
    workers_usd = sum(_life_s(stint, ended_unix_s[stint.worker]) * stint.usd_per_hour for stint in stints) / 3600
    return workers_usd + wall_s * head_usd_per_hour / 3600


def usd_by_stage(attempt: Attempt) -> dict[str, float]:
    """What one committed task cost."""
    return {stage: attempt.seconds.get(stage, 0.0) * attempt.usd_per_hour / 3600 for stage in STAGES}


def _ended_unix_s(tasks: Sequence[Record | SheetRecord]) -> defaultdict[str, dict[str, float]]:
    """When each worker's tasks ended."""
    ended: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for task in tasks:
        ended[task.attempt.worker][str(task.key)] = task.attempt.ended_unix_s
    return ended


def _life_s(stint: Stint, ended_unix_s: Mapping[str, float]) -> float:
    """A worker may die between a record and its next beat: the record is the later word."""
    return max([stint.beat_unix_s, *ended_unix_s.values()]) - stint.begun_unix_s
