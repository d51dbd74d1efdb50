"""Lives of lost workers, as the driver saw them.

A worker's own stint ends with its last heartbeat. A worker that stands still, such as a stopped process or a machine
that swaps, sends none, but it is paid for until the driver ends it. So the driver keeps the time from a worker's
placement to its loss, and the session of the driver has it for the bill.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from batchseg.workers.happenings import Happening, WorkerGone, WorkerOpened, WorkerPlaced, WorkerSentHome


@dataclass(slots=True)
class LossTimes:
    """A watcher that measures the life of each worker that is lost."""

    lost_s: dict[str, float]
    """Seconds of each lost worker's life; the session of the lease holds the same mapping."""
    now: Callable[[], float] = time.monotonic
    _placed_s: dict[str, float] = field(default_factory=dict)

    def notice(self, happening: Happening) -> None:
        match happening:
            case WorkerPlaced(worker=worker) | WorkerOpened(worker=worker):
                self._placed_s.setdefault(worker, self.now())
            case WorkerGone(worker=worker) if worker in self._placed_s:
                self.lost_s[worker] = round(self.now() - self._placed_s.pop(worker), 3)
            case WorkerSentHome(worker=worker):
                self._placed_s.pop(worker, None)
            case _:
                pass

    def tick(self) -> None:
        """The heartbeat of the lease writes the losses."""
