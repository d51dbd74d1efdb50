"""Moments, and the time since them, on machines whose clock may be set while a process works.

The time of day jumps when a clock is corrected or a machine wakes up. So it only says when something was; a duration
inside one process always comes from the steady clock, which nothing sets.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment in the life of this process."""

    unix_s: float
    steady_s: float

    @staticmethod
    def now() -> Moment:
        return Moment(time.time(), time.monotonic())

    def measure_age_s(self) -> float:
        """Seconds from this moment to now."""
        return time.monotonic() - self.steady_s
