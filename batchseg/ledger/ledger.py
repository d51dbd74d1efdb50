"""The ledger: all committed records of a run. Every resume and every report begins from it.

Theory of operation
-------------------
Each record is one JSON object, and it is put last: when a record can be read, everything that it names is stored whole
(invariant I3). Nothing is ever appended or updated in place, so no crash can tear it and no lock is needed. The driver
assigns tasks; the ledger only knows which tasks have ended. A record with another fingerprint stops the run before any
work (invariant I4): the folder belongs to another recipe.

    run/recipe.json                 the resolved recipe and its fingerprint
    run/records/SCENE/R_C.json      one committed chunk
    run/segments/NUMBER.jsonl       a thousand of them (ledger/segments.py)
    run/sheets/SCENE/R_C.json       one published set of GeoTIFFs
    run/stints/WORKER.json          one worker's life
    run/quarantine/TASK.json        a task that was given up, with its story; deleted when the task is done after all
    run/quarantine/SCENE.json       a scene that was given up, since nobody could read it; the next start tries it again
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from batchseg.egress import format_json
from batchseg.errors import DamagedError, ForeignRunError, UnknownKeyError
from batchseg.json_values import parse_value, put_sealed, read_value
from batchseg.ledger.keys import ChunkKey, Story, TaskKey
from batchseg.ledger.records import Brief, Record, SheetRecord, Stint, TaskRecord
from batchseg.ledger.segments import (
    list_segment_keys,
    no_garbage_collection,
    read_briefs,
    read_segment,
    remove_records,
    write_segment,
)
from batchseg.paths import (
    QUARANTINE_FOLDER,
    RECIPE_KEY,
    RECORDS_FOLDER,
    SHEET_RECORDS_FOLDER,
    STINTS_FOLDER,
    parse_segment_number,
    quarantine_key,
    stint_key,
)
from batchseg.schema import JsonObject
from batchseg.store import Store

NUM_READERS = 8
T = TypeVar("T")
RETRY_TASK = "run `batchseg run` again; it tries the task again"
_FILE_VERSION = re.compile(r"scenes\..+\.identity\.(?!url )\w+ ")
"""Beginning of a difference that only says that a scene's file has changed."""
REDO_TASK = "run `batchseg run` again; it does this task again"
REMOVE_STINT = "remove it; the money of this worker is missing from the costs then"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecipe:
    """run/recipe.json: the resolved recipe that all records of a folder belong to."""

    fingerprint: str
    resolved: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """run/quarantine/TASK.json: a task, or a whole scene, that was given up."""

    task: str
    """Name of the task, or of the scene; only a task's name has a slash."""
    story: Story


@dataclass(frozen=True, slots=True)
class Ledger:
    """The records of one output folder."""

    store: Store

    def commit(self, record: TaskRecord) -> None:
        """Put a task's record, after everything else that the task puts."""
        put_sealed(self.store, record.key.record_key, record, sort_keys=True)

    def read_record(self, key: ChunkKey) -> Record | None:
        """The record of one chunk; None where it is not committed."""
        return self.find_records([key]).get(key)

    def read_single_record(self, key: ChunkKey) -> Record | None:
        """The record of a chunk from its own object, where a worker has just put it; None where there is none."""
        try:
            content = self.store.get(key.record_key)
        except FileNotFoundError:
            return None
        return _parse(Record, content, where=key.record_key)

    def find_records(self, keys: Iterable[ChunkKey]) -> dict[ChunkKey, Record]:
        """The records of those of these chunks that are committed."""
        single = {key: self.read_single_record(key) for key in keys}
        missing = {key for key, record in single.items() if record is None}
        records = self._search_segments(missing) if missing else {}
        return records | {key: record for key, record in single.items() if record is not None}

    def read_records(self) -> Iterator[Record]:
        """The records of all committed chunks. Single ones are listed first and count most: see ledger/segments.py."""
        single = {record.key: record for record in self.read_all(Record, RECORDS_FOLDER)}
        segments = list_segment_keys(self.store)
        if not segments:
            return iter(single.values())
        records: dict[ChunkKey, Record] = {}
        with no_garbage_collection():
            for segment in segments:
                records.update((record.key, record) for record in read_segment(self.store, segment))
        records.update(single)
        return iter([records[key] for key in sorted(records)])

    def read_briefs(self) -> dict[ChunkKey, Brief]:
        """Read what a resume needs of all records. Several threads read, since on an object store each read waits."""
        single = {record.key: Brief.of(record) for record in self.read_all(Record, RECORDS_FOLDER)}
        briefs: dict[ChunkKey, Brief] = {}
        with no_garbage_collection(), ThreadPoolExecutor(NUM_READERS) as readers:
            for part in readers.map(lambda key: read_briefs(self.store, key), list_segment_keys(self.store)):
                briefs.update((brief.key, brief) for brief in part)
        return briefs | single

    def _search_segments(self, keys: set[ChunkKey]) -> dict[ChunkKey, Record]:
        """Newest segments first: chunks that are wanted together were mostly made together. Later records count."""
        records: dict[ChunkKey, Record] = {}
        for segment in reversed(list_segment_keys(self.store)):
            if records.keys() == keys:
                break
            if any(brief.key in keys for brief in read_briefs(self.store, segment)):
                older = {record.key: record for record in read_segment(self.store, segment) if record.key in keys}
                records = older | records
        return records

    def compact(self, records: Sequence[Record]) -> None:
        """Put committed records into one segment, and only then delete their objects. Only the driver does this."""
        last = list_segment_keys(self.store)[-1:]
        number = 1 + parse_segment_number(last[0]) if last else 0
        write_segment(self.store, number, records)
        for record in records:
            self.store.delete(record.key.record_key)

    def read_sheets(self) -> Iterator[SheetRecord]:
        return self.read_all(SheetRecord, SHEET_RECORDS_FOLDER)

    def read_stints(self) -> Iterator[Stint]:
        return self.read_all(Stint, STINTS_FOLDER)

    def read_all(self, kind: type[T], folder: str) -> Iterator[T]:
        """Everything in one folder of the ledger, as values of one dataclass."""
        for key, _ in sorted(self.store.names(folder)):
            try:
                content = self.store.get(key)
            except FileNotFoundError:
                continue  # a run that goes on meanwhile has put it into a segment, or makes it again
            yield _parse(kind, content, where=key)

    def forget(self, *tasks: TaskKey) -> None:
        """Delete the records of tasks whose objects are lost or damaged, before the tasks are done again."""
        for task in tasks:
            self.store.delete(task.record_key)
        chunks = {task for task in tasks if isinstance(task, ChunkKey)}  # segments have nothing else
        for segment in list_segment_keys(self.store) if chunks else ():
            if any(brief.key in chunks for brief in read_briefs(self.store, segment)):
                remove_records(self.store, segment, chunks)

    def write_stint(self, stint: Stint) -> None:
        """Write a worker's life so far; later beats replace it."""
        put_sealed(self.store, stint_key(stint.worker), stint, sort_keys=True)

    def quarantine(self, task: TaskKey, story: Story) -> None:
        """Write down that a task was given up, and what happened to it."""
        put_sealed(self.store, quarantine_key(str(task)), GivenUp(task=str(task), story=story))

    def unquarantine(self, task: TaskKey) -> None:
        """A task is done after all."""
        self.store.delete(quarantine_key(str(task)))

    def give_up_scene(self, scene: str, story: Story) -> None:
        """Write down that a scene was given up. Its chunks are not in quarantine: the next start tries them again."""
        put_sealed(self.store, quarantine_key(scene), GivenUp(task=scene, story=story))

    def read_given_up_scenes(self) -> dict[str, Story]:
        """The scenes that the last start gave up, each with what happened."""
        return {name: story for name, story in self.read_stories().items() if "/" not in name}

    def reopen(self, *, tasks: bool) -> None:
        """Give the scenes that were given up another chance, and with `tasks` all tasks too."""
        for name in self.read_stories():
            if tasks or "/" not in name:
                self.store.delete(quarantine_key(name))

    def read_story(self, task: TaskKey) -> Story | None:
        """Read why a task was given up, alone or with its scene; None for a task that was not."""
        for name in (str(task), task.scene):
            try:
                return read_value(self.store, quarantine_key(name), GivenUp, todo=RETRY_TASK).story
            except FileNotFoundError:
                continue
        return None

    def read_stories(self) -> dict[str, Story]:
        """The stories of all tasks and scenes that were given up, by their names.

        Raises:
            DamagedError: A file of the quarantine cannot be read.
        """
        keys = sorted(key for key, _ in self.store.names(QUARANTINE_FOLDER))
        quarantine = [read_value(self.store, key, GivenUp, todo=RETRY_TASK) for key in keys]
        return {given_up.task: given_up.story for given_up in quarantine}

    def read_recipe(self) -> StoredRecipe | None:
        """The recipe that began this folder; None for a new folder."""
        try:
            return read_value(self.store, RECIPE_KEY, StoredRecipe, todo="give another output folder")
        except FileNotFoundError:
            return None

    def check_recipe(self, fingerprint: str, resolved: JsonObject) -> None:
        """Raise ForeignRunError where this folder belongs to another recipe (invariant I4). Writes nothing."""
        earlier = self.read_recipe()
        if earlier is not None and earlier.fingerprint != fingerprint:
            raise _make_foreign_error(find_differences(earlier.resolved, resolved))

    def write_recipe(self, fingerprint: str, resolved: JsonObject) -> None:
        """Write the resolved recipe into a new folder; in an old folder check that it is the same."""
        self.check_recipe(fingerprint, resolved)
        if self.read_recipe() is None:
            recipe = StoredRecipe(fingerprint=fingerprint, resolved=resolved)
            put_sealed(self.store, RECIPE_KEY, recipe, sort_keys=True)


def _make_foreign_error(differences: list[str]) -> ForeignRunError:
    fields = ", ".join(differences) or "the way it is computed"
    has_changed_files_only = bool(differences) and all(_FILE_VERSION.match(line) for line in differences)
    return ForeignRunError(
        f"this folder holds the results of another recipe; different: {fields}",
        where="output",
        todo="give another output folder, or put the first files back; `gdaladdo -ro` makes overviews beside a file "
        "that do not change it"
        if has_changed_files_only
        else "give another output folder, or the recipe that began this one",
    )


def _parse(kind: type[T], content: bytes, *, where: str) -> T:
    try:
        return parse_value(content, kind, where=where, todo=REMOVE_STINT if kind is Stint else REDO_TASK)
    except DamagedError as error:
        if isinstance(error.__cause__, UnknownKeyError):
            raise DamagedError(
                "another version of batchseg wrote this file",
                where=where,
                got=error.got,
                todo="finish the run with the version that began it, or give another output folder",
            ) from error.__cause__
        raise


def find_differences(old: object, new: object, path: str = "") -> list[str]:
    """The fields in which two resolved recipes differ, like `tiling.core (512 -> 256)`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            line
            for key in keys
            for line in find_differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    if json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True):
        return []
    return [f"{path} ({_shorten(old)} -> {_shorten(new)})"]


def _shorten(value: object, limit: int = 48) -> str:
    text = format_json(value, sort_keys=True)  # redacted before it is cut: half of a credential is not recognised
    return text if len(text) <= limit else text[: limit - 1] + "…"
