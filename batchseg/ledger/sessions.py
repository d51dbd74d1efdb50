"""The sessions of a run: which process held the output folder, for how long, and at what price.

A session is the time between a driver's taking the folder and its last heartbeat. `run/sessions/NAME.json` keeps every
session for good, so that the wall time of a run and the dollars of its head node are sums over sessions: a resume at
another price changes nothing of what was paid before. `run/driver.json` is a copy of the session that holds the folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from batchseg.json_values import read_value
from batchseg.paths import LEASE_KEY, SESSIONS_FOLDER
from batchseg.store import Store

REMOVE_HOLDER = "make sure that no run uses this folder, then remove the file"
REMOVE_SESSION = "remove it; the time and the price of this session are missing from the costs then"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One driver process as a holder of an output folder."""

    name: str
    host: str
    pid: int
    process_begun_unix_s: float
    begun_unix_s: float
    beat_unix_s: float
    """The time of the last heartbeat."""
    ended: bool
    head_usd_per_hour: float | None = None
    """The price of the machine that the driver runs on. None: written before sessions had prices, see run/plan.json."""
    lived_s: float | None = None
    """Seconds up to the last heartbeat, by a clock that nobody sets. None: written before sessions had it."""
    lost_workers_s: dict[str, float] = field(default_factory=dict)
    """Seconds from the placement to the loss of each worker that this driver lost."""

    @property
    def seconds(self) -> float:
        """The wall time up to the last heartbeat."""
        return max(0.0, self.beat_unix_s - self.begun_unix_s) if self.lived_s is None else self.lived_s

    @property
    def process(self) -> str:
        """The process, in words."""
        return f"process {self.pid} on {self.host}"


def read_sessions(store: Store) -> tuple[Session, ...]:
    """All sessions of a run, in the order of their names.

    Args:
        store: The output folder.

    Returns:
        One value per session; empty where the folder was never held.

    Raises:
        DamagedError: A session's file does not hold a session.
    """
    keys = sorted(key for key, _ in store.names(SESSIONS_FOLDER))
    return tuple(read_value(store, key, Session, todo=REMOVE_SESSION) for key in keys)


def read_holder(store: Store) -> Session | None:
    """The session that holds the output folder now, or held it last; None where it was never held.

    Raises:
        DamagedError: run/driver.json does not hold a session.
    """
    try:
        return read_value(store, LEASE_KEY, Session, todo=REMOVE_HOLDER)
    except FileNotFoundError:
        return None


def count_wall_s(store: Store) -> float:
    """The seconds that drivers have spent on this run, up to their last heartbeats."""
    return sum(session.seconds for session in read_sessions(store))


def join_losses(sessions: Iterable[Session]) -> dict[str, float]:
    """The seconds of each lost worker's life over all sessions."""
    return {worker: seconds for session in sessions for worker, seconds in session.lost_workers_s.items()}
