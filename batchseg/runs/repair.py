"""Damaged files of an output folder, and which of them a run makes again.

Theory of operation
-------------------
An object appears whole or not at all, so a run never damages its own files. Disks, copies and people do. What a run
does about it depends on what the file says that nothing else says:

    plan.json, exit.json, metrics.json      written anew by every session
    driver.json                             follows from the sessions, if the last driver is known to be dead
    records, segments, GeoTIFF records      dropped: their tasks are done again
    quarantine                              dropped: the task is tried again
    recipe.json, sessions, stints           refused: no computation brings back a recipe or money that was paid

Each repair is in the log, and in the outcome of the run. A record with a key that this version does not know is not
damaged: another version wrote it, and the run refuses to go on. So does a run that finds more than MAX_DROPPED damaged
files of the ledger: something is wrong with the folder, and computing all of it again would cost as much as the run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from batchseg.errors import DamagedError, UnknownKeyError
from batchseg.json_values import read_value
from batchseg.paths import (
    EXIT_KEY,
    METRICS_KEY,
    PLAN_KEY,
    QUARANTINE_FOLDER,
    RECORDS_FOLDER,
    SEGMENTS_FOLDER,
    SHEET_RECORDS_FOLDER,
)
from batchseg.reports.metrics import Metrics
from batchseg.resolve.plan_file import PlanFile
from batchseg.runs.exit_status import ExitStatus
from batchseg.store import Store
from batchseg.workers.happenings import FileRemade

T = TypeVar("T")
MAX_DROPPED = 100
_LEDGER_FILE = re.compile(
    rf"({RECORDS_FOLDER}|{SHEET_RECORDS_FOLDER}|{QUARANTINE_FOLDER})/[^/]+/[a-z_]*\d+_\d+\.json"
    rf"|{QUARANTINE_FOLDER}/[^/]+\.json|{SEGMENTS_FOLDER}/\d{{8,}}\.jsonl"
)
"""Names that a run gives its files. A file with another name in these folders is the user's, and is never deleted."""
_REMEDIES = {
    RECORDS_FOLDER: "its chunk is computed again",
    SEGMENTS_FOLDER: "its chunks are computed again",
    SHEET_RECORDS_FOLDER: "its GeoTIFFs are made again",
    QUARANTINE_FOLDER: "its task is tried again",
}
_REWRITTEN: dict[str, type[PlanFile | ExitStatus | Metrics]] = {
    PLAN_KEY: PlanFile,
    EXIT_KEY: ExitStatus,
    METRICS_KEY: Metrics,
}


@dataclass(slots=True)
class Repair:
    """The damaged files that one session found and makes again."""

    store: Store
    remade: list[FileRemade] = field(default_factory=list)
    _num_dropped: int = 0

    def check_rewritten(self) -> None:
        """Look for damage in the files that every session writes anew; call it before they are written."""
        for key, kind in _REWRITTEN.items():
            try:
                read_value(self.store, key, kind)
            except FileNotFoundError:
                continue
            except DamagedError as error:
                self.add(key, error, "it is written again")

    def drop_damaged(self, read: Callable[[], T]) -> T:
        """Read the ledger; drop each damaged file that stands in the way, and read again."""
        while True:
            try:
                return read()
            except DamagedError as error:
                self._drop(error)

    def _drop(self, error: DamagedError) -> None:
        key = error.where or ""
        remedy = next((remedy for folder, remedy in _REMEDIES.items() if key.startswith(f"{folder}/")), None)
        if (
            remedy is None
            or not _LEDGER_FILE.fullmatch(key)
            or isinstance(error.__cause__, UnknownKeyError)
            or self._num_dropped == MAX_DROPPED
        ):
            raise error
        self._num_dropped += 1
        self.store.delete(key)
        self.add(key, error, remedy)

    def add(self, key: str, error: DamagedError, remedy: str) -> None:
        self.remade.append(FileRemade(file=key, why=error.got or error.what, remedy=remedy))
