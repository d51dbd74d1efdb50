"""Every key of an output folder, in one place.

    metrics.json, ledger.parquet, report.html, evaluation.json      reports
    SCENE/item.json                                                 the scene's output as a STAC item
    SCENE/mask.zarr, SCENE/sheets/                                  stored layers, and the GeoTIFFs of many sheets
    SCENE/mask_LAYER.vrt, SCENE/mask_LAYER.qml                      what shows a stored layer in QGIS
    run/recipe.json, run/plan.json, run/pilot.json                  what the run is
    run/records/SCENE/R_C.json, run/segments/NUMBER.jsonl           committed chunks, alone and by the thousand
    run/sheets/SCENE/R_C.json                                       published sets of GeoTIFFs
    run/stints/WORKER.json                                          lives of workers
    run/quarantine/TASK.json                                        tasks that were given up
    run/driver.json, run/sessions/NAME.json, run/claims/NAME.json   the lease and its holders
    run/priority/SCENE.wkb                                          priority ground as the run drew it
    run/log.jsonl, run/log/, run/exit.json, run/scratch/            what happened, how it ended, unfinished files

A folder of nights holds one such folder per night, and:

    index.json, batch.json, latest.json, nights/TIME.json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

RUN_FOLDER = "run"

RECIPE_KEY = "run/recipe.json"
PLAN_KEY = "run/plan.json"
PILOT_KEY = "run/pilot.json"
LEASE_KEY = "run/driver.json"
EXIT_KEY = "run/exit.json"
LOG_KEY = "run/log.jsonl"

RECORDS_FOLDER = "run/records"
SHEET_RECORDS_FOLDER = "run/sheets"
SEGMENTS_FOLDER = "run/segments"
STINTS_FOLDER = "run/stints"
QUARANTINE_FOLDER = "run/quarantine"
SESSIONS_FOLDER = "run/sessions"
CLAIMS_FOLDER = "run/claims"
LOG_FOLDER = "run/log"
PRIORITY_FOLDER = "run/priority"
SCRATCH_FOLDER = "run/scratch"

METRICS_KEY = "metrics.json"
TABLE_KEY = "ledger.parquet"
PAGE_KEY = "report.html"
EVALUATION_KEY = "evaluation.json"
EVALUATIONS_FOLDER, COMPARISONS_FOLDER = "evaluations", "compare"
RESERVED_NAMES = frozenset(
    {RUN_FOLDER, METRICS_KEY, TABLE_KEY, PAGE_KEY, EVALUATION_KEY, EVALUATIONS_FOLDER, COMPARISONS_FOLDER}
)
"""Names that no scene may have, since a scene's folder lies beside them."""

INDEX_KEY = "index.json"
BATCH_KEY = "batch.json"
LATEST_KEY = "latest.json"
NIGHTS_FOLDER = "nights"


@dataclass(frozen=True, slots=True)
class OutputKeys:
    """All keys that something writes to in an output folder."""

    files: frozenset[str]
    """Keys in folders that files of the user may share."""
    folders: frozenset[str]
    """Folders that are the writer's own: every file in them is."""

    def owns(self, key: str) -> bool:
        return key in self.files or any(parent in self.folders for parent in list_parents(key))

    def list_folders(self) -> list[str]:
        """Every folder that is written to, parents first; without the output folder itself."""
        keys = (*self.files, *(f"{folder}/" for folder in self.folders))
        return sorted({parent for key in keys for parent in list_parents(key)})


def list_parents(key: str) -> Iterator[str]:
    """The folders that a key lies in, outermost first."""
    parts = key.split("/")[:-1]
    return ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def segment_key(number: int) -> str:
    return f"{SEGMENTS_FOLDER}/{number:08d}.jsonl"


def is_segment_key(key: str) -> bool:
    folder, _, name = key.rpartition("/")
    number, _, suffix = name.partition(".")
    return folder == SEGMENTS_FOLDER and number.isdecimal() and suffix == "jsonl"


def parse_segment_number(key: str) -> int:
    """The inverse of `segment_key`."""
    return int(key.rpartition("/")[2].partition(".")[0])


def stint_key(worker: str) -> str:
    return f"{STINTS_FOLDER}/{worker}.json"


def quarantine_key(task: str) -> str:
    """The file of a task that was given up, by the task's name."""
    return f"{QUARANTINE_FOLDER}/{task}.json"


def session_key(name: str) -> str:
    return f"{SESSIONS_FOLDER}/{name}.json"


def claim_key(predecessor: str | None) -> str:
    """The claim to follow this holder; None for a folder that was never held."""
    return f"{CLAIMS_FOLDER}/{predecessor or 'nobody'}.json"


def evaluation_key(name: str) -> str:
    """The key of an evaluation that is kept by name."""
    return f"{EVALUATIONS_FOLDER}/{name}.json"


def session_log_key(begun_unix_s: float, session: str) -> str:
    """The log of one session, where objects cannot be appended to."""
    return f"{LOG_FOLDER}/{round(begun_unix_s)}-{session}.jsonl"


def priority_key(scene: str) -> str:
    return f"{PRIORITY_FOLDER}/{scene}.wkb"


def item_key(scene: str) -> str:
    return f"{scene}/item.json"


def zarr_key(scene: str) -> str:
    return f"{scene}/mask.zarr"


def zarr_view_key(scene: str, layer: str, suffix: str) -> str:
    """A file beside the Zarr that shows one of its layers."""
    return f"{scene}/mask_{layer}{suffix}"


def sheets_folder(scene: str) -> str:
    """The GeoTIFFs of a scene that has several sheets."""
    return f"{scene}/sheets"


def night_key(began: str) -> str:
    """The summary of one start of a night."""
    return f"{NIGHTS_FOLDER}/{began}.json"
