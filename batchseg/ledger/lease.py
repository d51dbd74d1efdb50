"""One driver a run: who holds an output folder, and how a dead holder is replaced.

A driver writes `run/driver.json` and renews it every 5 s, and the same into `run/sessions/`, where it stays: the wall
time of a run is that of all its drivers. A newcomer that finds the file looks on: a holder whose process
is gone from this host is replaced at once; otherwise the newcomer waits up to 12 s, and if the file moves it stops. A
holder that finds another name in the file has been replaced while it stood still, and stops too.

Of several newcomers at the same moment one may follow: who puts `run/claims/PREDECESSOR.json`, which can be put once
only. Some servers do not know such a put, or do not keep to it under pressure, so the last one to write stays anyhow.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil

from batchseg.errors import BusyError
from batchseg.paths import LEASE_KEY, SESSIONS_FOLDER, claim_key, session_key
from batchseg.store import Store, get_json

BEAT_S = 5.0
PATIENCE_S = 12.0
SETTLE_S = 0.3
"""Of several who claim at the same moment the last one to write stays; the others see its name after this time."""


@dataclass(slots=True)
class Lease:
    """A process as the holder of one output folder."""

    store: Store
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    begun_unix_s: float = field(default_factory=time.time)
    took_over: str | None = None
    _counted: bool = False

    def acquire(self, *, sleep: Callable[[float], None] = time.sleep, patience_s: float = PATIENCE_S) -> None:
        """Become the holder, or raise BusyError."""
        found = self._read()
        if found is not None and not found["ended"] and (_is_dead(found) or self._is_still(found, sleep, patience_s)):
            self.took_over = f"process {found['pid']} on {found['host']}"
        claim = claim_key(None if found is None else found["name"])
        if self.store.put_new(claim, json.dumps({"name": self.name}).encode()) is False:
            self._give_way(found, sleep, patience_s)
        self._write(ended=False)
        sleep(SETTLE_S)
        self.renew()

    def renew(self) -> None:
        found = self._read()
        if found is None or found["name"] != self.name:
            raise BusyError("another driver has taken this run over", where="output")
        self._write(ended=False)

    def count_time(self) -> None:
        """A last beat for the books: what comes after, the reports themselves, is not counted as the run's time."""
        self.renew()
        self._counted = True

    def release(self) -> None:
        """Say that the run has ended, so that the next one need not wait; not if someone else holds it by now."""
        found = self._read()
        if found is not None and found["name"] == self.name:
            self._write(ended=True)

    def _give_way(self, found: dict[str, Any] | None, sleep: Callable[[float], None], patience_s: float) -> None:
        """Another newcomer was quicker; one that is not seen to hold the folder in time has died on its way."""
        waited_s = 0.0
        while waited_s < patience_s:
            now = self._read()
            if now is not None and (found is None or now["name"] != found["name"]):
                raise _busy(now)
            sleep(0.5)
            waited_s += 0.5

    def _is_still(self, found: dict[str, Any], sleep: Callable[[float], None], patience_s: float) -> bool:
        """Look on: whether the holder stands still; False if it ended meanwhile."""
        waited_s = 0.0
        while waited_s < patience_s:
            sleep(0.5)
            waited_s += 0.5
            now = self._read()
            if now is None or now["ended"]:
                return False
            if now["beat_unix_s"] != found["beat_unix_s"] or now["name"] != found["name"]:
                raise _busy(now)
        return True

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = get_json(self.store, LEASE_KEY)
        except FileNotFoundError:
            return None
        return found

    def _write(self, *, ended: bool) -> None:
        content = {
            "name": self.name,
            "host": platform.node(),
            "pid": os.getpid(),
            "process_begun_unix_s": psutil.Process().create_time(),
            "begun_unix_s": self.begun_unix_s,
            "beat_unix_s": time.time(),
            "ended": ended,
        }
        for key in (LEASE_KEY, *(() if self._counted else (session_key(self.name),))):
            self.store.put(key, json.dumps(content, indent=1).encode())


def _busy(holder: dict[str, Any]) -> BusyError:
    return BusyError(
        f"process {holder['pid']} on {holder['host']} is running this recipe into this folder",
        where="output",
        todo="wait for it, stop it, or give another output folder; `batchseg status` shows how far it is",
    )


def wall_s(store: Store) -> float:
    """Seconds that drivers have spent on this run, up to their last beats."""
    sessions = [get_json(store, key) for key, _ in sorted(store.names(SESSIONS_FOLDER))]
    return float(sum(session["beat_unix_s"] - session["begun_unix_s"] for session in sessions))


def _is_dead(found: dict[str, Any]) -> bool:
    """Known for sure only on this host; a process number that was given out again is not the old process."""
    if found["host"] != platform.node():
        return False
    try:
        process = psutil.Process(found["pid"])
        same = abs(process.create_time() - found["process_begun_unix_s"]) < 1.0
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
