"""The lease of an output folder: one driver per run, and how a dead driver is replaced.

A driver writes `run/driver.json` and renews it every 5 s, and writes the same into `run/sessions/`, where it stays. A
newcomer that finds the file watches it. A holder whose process is gone from this host is replaced at once. Any other
holder gets 12 s; if its heartbeat moves meanwhile, the newcomer stops with BusyError. A holder that finds another name
in the file was replaced while it stood still, and stops too.

Several newcomers may come at the same moment, and only one may follow. The one that creates
`run/claims/PREDECESSOR.json` follows, since that object can be created once only. Some servers do not support such a
put, or do not keep to it under load, so the last newcomer to write `run/driver.json` wins in any case.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import psutil

from batchseg.clock import Moment
from batchseg.errors import BusyError, DamagedError
from batchseg.json_values import put_sealed, seal_value
from batchseg.ledger.sessions import Session, read_holder, read_sessions
from batchseg.paths import EXIT_KEY, LEASE_KEY, claim_key, session_key
from batchseg.store import Store

BEAT_S = 5.0
PATIENCE_S = 12.0
LOOK_EVERY_S = 0.5
SETTLE_S = 0.3
"""The time after which several drivers that wrote at the same moment all see the name that was written last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The content of `run/claims/PREDECESSOR.json`; what counts is that the file exists."""

    name: str


@dataclass(slots=True)
class Lease:
    """The right of this process to write to one output folder."""

    store: Store
    head_usd_per_hour: float | None = None
    """The price of this machine, which the session keeps."""
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    begun: Moment = field(default_factory=Moment.now)
    lost_workers_s: dict[str, float] = field(default_factory=dict)
    """Seconds of each lost worker's life, as this driver saw it; the session keeps them for the bill."""
    took_over: str | None = None
    """The dead process that this one replaced, in words."""
    damage: DamagedError | None = None
    """The defect of the run/driver.json that this lease replaced."""
    _is_time_counted: bool = False

    def acquire(self, *, sleep: Callable[[float], None] = time.sleep, patience_s: float = PATIENCE_S) -> None:
        """Become the holder of the folder.

        Args:
            sleep: Waits; tests pass their own.
            patience_s: How long a holder may miss its heartbeats before it counts as dead.

        Raises:
            BusyError: Another driver holds the folder and is alive, or was quicker.
            DamagedError: run/driver.json cannot be read, and the last driver may be alive.
        """
        holder = self._find_holder()
        if holder is not None and not holder.ended and (_is_dead(holder) or self._is_still(holder, sleep, patience_s)):
            self.took_over = holder.process
        claim = claim_key(None if holder is None else holder.name)
        if self.store.put_new(claim, seal_value(claim, Claim(name=self.name))) is False:
            self._wait_for_rival(holder, sleep, patience_s)
        self._write(ended=False)
        sleep(SETTLE_S)
        self.renew()

    def _find_holder(self) -> Session | None:
        """The holder by run/driver.json; where that is damaged, the last session, if its driver is known to be gone."""
        try:
            return read_holder(self.store)
        except DamagedError as error:
            last = max(read_sessions(self.store), key=lambda session: session.beat_unix_s, default=None)
            if last is None or not (_is_dead(last) or _has_exit(self.store)):
                raise
            self.damage = error
            return replace(last, ended=True)

    def renew(self) -> None:
        """Write a heartbeat. Raises BusyError where another driver has become the holder."""
        holder = read_holder(self.store)
        if holder is None or holder.name != self.name:
            raise BusyError("another driver has taken this run over", where="output")
        self._write(ended=False)

    def count_time(self) -> None:
        """End the session's time with a last heartbeat: the reports that follow are no part of the run's time."""
        self.renew()
        self._is_time_counted = True

    def release(self) -> None:
        """Mark the lease as ended, so that the next driver need not wait; not where another driver is the holder."""
        holder = read_holder(self.store)
        if holder is not None and holder.name == self.name:
            self._write(ended=True)

    def _wait_for_rival(self, holder: Session | None, sleep: Callable[[float], None], patience_s: float) -> None:
        """Another newcomer made the claim first. One that does not become the holder in time has died on its way."""
        waited_s = 0.0
        while waited_s < patience_s:
            now = read_holder(self.store)
            if now is not None and (holder is None or now.name != holder.name):
                raise _busy_error(now)
            sleep(LOOK_EVERY_S)
            waited_s += LOOK_EVERY_S

    def _is_still(self, holder: Session, sleep: Callable[[float], None], patience_s: float) -> bool:
        """Watch the holder: True if it missed its heartbeats, False if it ended. Raises BusyError if it is alive."""
        waited_s = 0.0
        while waited_s < patience_s:
            sleep(LOOK_EVERY_S)
            waited_s += LOOK_EVERY_S
            now = read_holder(self.store)
            if now is None or now.ended:
                return False
            if now.beat_unix_s != holder.beat_unix_s or now.name != holder.name:
                raise _busy_error(now)
        return True

    def _write(self, *, ended: bool) -> None:
        session = Session(
            name=self.name,
            host=platform.node(),
            pid=os.getpid(),
            process_begun_unix_s=psutil.Process().create_time(),
            begun_unix_s=self.begun.unix_s,
            beat_unix_s=time.time(),
            lived_s=self.begun.measure_age_s(),
            ended=ended,
            head_usd_per_hour=self.head_usd_per_hour,
            lost_workers_s=dict(self.lost_workers_s),
        )
        put_sealed(self.store, LEASE_KEY, session)
        if not self._is_time_counted:
            put_sealed(self.store, session_key(self.name), session)


def _has_exit(store: Store) -> bool:
    """Test if run/exit.json is there: a driver removes it when it begins, and writes it when it ends."""
    try:
        store.get(EXIT_KEY)
    except FileNotFoundError:
        return False
    return True


def _busy_error(holder: Session) -> BusyError:
    return BusyError(
        f"{holder.process} is running this recipe into this folder",
        where="output",
        todo="wait for it, stop it, or give another output folder; `batchseg status` shows how far it is",
    )


def _is_dead(holder: Session) -> bool:
    """Test if the holder's process is gone. Known only on this host; a reused process number is another process."""
    if holder.host != platform.node():
        return False
    try:
        process = psutil.Process(holder.pid)
        is_same = abs(process.create_time() - holder.process_begun_unix_s) < 1.0
        return not is_same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
