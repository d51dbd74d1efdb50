"""A kind of task is one file and one line of the table: here is one more, and the rest of the code knows nothing of it.

A *footprint* waits for all chunks of a scene, and puts one small object beside the scene's GeoTIFFs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from batchseg.clock import Moment
from batchseg.errors import TaskError
from batchseg.ledger.keys import ChunkKey, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Attempt, StoredObject
from batchseg.runs.session import Options, Outcome, run
from batchseg.seals import compute_digest
from batchseg.store import LocalStore
from batchseg.tasks import table
from batchseg.tasks.kind import Survey, TaskKind, Workbench
from tests.runs import Workplace, fake_models, fake_pool, noise, product_bytes


@dataclass(frozen=True, slots=True, order=True)
class FootprintKey(TaskKey):
    kind: ClassVar[str] = "footprint"
    prefix: ClassVar[str] = "footprint_"
    records_folder: ClassVar[str] = "run/footprints"


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintRecord:
    key: FootprintKey
    fingerprint: str
    objects: tuple[StoredObject, ...]
    attempt: Attempt


def read_footprints(ledger: Ledger) -> Iterator[FootprintRecord]:
    return ledger.read_all(FootprintRecord, FootprintKey.records_folder)


def find_pending_footprints(survey: Survey) -> Iterator[tuple[FootprintKey, AbstractSet[TaskKey]]]:
    made = {record.key for record in read_footprints(survey.ledger)}
    for scene in survey.job.scenes.values():
        key = FootprintKey(scene.name, 0, 0)
        awaited = survey.pending.intersection(survey.job.list_chunks(scene))
        if key not in survey.given_up and (awaited or key not in made):
            yield key, awaited


def perform_footprint(bench: Workbench, key: FootprintKey, number: int) -> FootprintRecord:
    begun, ledger = Moment.now(), Ledger(bench.store)
    with bench.clock.stage("write", str(key)):
        chunks = bench.job.list_chunks(bench.job.scenes[key.scene])
        content = json.dumps(sorted(map(str, ledger.find_records(chunks)))).encode()
        stored = StoredObject(
            key=f"{key.scene}/footprint.json", size_bytes=len(content), digest=compute_digest(content)
        )
        bench.store.put(stored.key, content)
    record = FootprintRecord(
        key=key,
        fingerprint=bench.job.fingerprint,
        objects=(stored,),
        attempt=bench.describe_attempt(number, begun, str(key)),
    )
    ledger.commit(record)
    return record


def fail(bench: Workbench, key: FootprintKey, number: int) -> FootprintRecord:
    raise TaskError("no footprint today", where=str(key))


FOOTPRINTS = TaskKind(
    key_type=FootprintKey,
    perform=perform_footprint,
    find_pending=find_pending_footprints,
    read_records=read_footprints,
)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace.of(tmp_path, noise(70, 45), noise(20, 20))


def list_kind(monkeypatch: pytest.MonkeyPatch, kind: TaskKind[FootprintKey]) -> None:
    """One line of the table."""
    standard = table.TASK_KINDS[:2]
    monkeypatch.setattr(table, "TASK_KINDS", (*standard, kind))


def run_again(place: Workplace, *, retry_quarantined: bool = False) -> Outcome:
    options = Options(open_models=fake_models, retry_quarantined=retry_quarantined)
    store = LocalStore(place.output, durable=False)
    return run(place.recipe(), open_pool=fake_pool, options=options, store=store)


def performed(place: Workplace) -> list[str]:
    """The tasks that have been committed, in order."""
    entries = [json.loads(line) for line in (place.output / "run" / "log.jsonl").read_text().splitlines()]
    return [entry["task"] for entry in entries if entry["event"].endswith("_committed")]


def test_a_new_kind_runs_to_its_end_after_what_it_waits_for(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    list_kind(monkeypatch, FOOTPRINTS)
    assert run_again(place).exit_status == 0
    order = performed(place)
    assert len(order) == len(set(order)) == 6 + 1 + 2 + 2
    for scene in ("scene0", "scene1"):
        footprint = f"{scene}/footprint_0_0"
        chunks = [task for task in order if (key := ChunkKey.parse(task)) is not None and key.scene == scene]
        assert max(map(order.index, chunks)) < order.index(footprint)
        assert json.loads((place.output / scene / "footprint.json").read_text()) == sorted(chunks)
        assert (place.output / "run" / "footprints" / scene / "0_0.json").exists()


def test_chunks_and_sheets_are_the_same_beside_it(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_kind(monkeypatch, FOOTPRINTS)
    run_again(place)
    monkeypatch.undo()
    place.run(output=str(tmp_path / "plain"))
    with_footprints = product_bytes(place.output)
    assert {key for key in with_footprints if key.endswith("footprint.json")}
    for scene in ("scene0", "scene1"):
        del with_footprints[f"{scene}/footprint.json"]
    assert with_footprints == product_bytes(tmp_path / "plain")


def test_a_resume_does_what_is_missing_and_nothing_else(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_again(place).exit_status == 0
    num_before = len(performed(place))
    list_kind(monkeypatch, FOOTPRINTS)  # in the middle of a run's life: its chunks are there already
    assert run_again(place).exit_status == 0
    assert sorted(performed(place)[num_before:]) == ["scene0/footprint_0_0", "scene1/footprint_0_0"]
    assert run_again(place).exit_status == 0
    (place.output / "scene1" / "footprint.json").unlink()
    assert run_again(place).exit_status == 0
    assert performed(place)[num_before + 2 :] == ["scene1/footprint_0_0"], "its object was gone"


def test_it_is_given_up_with_its_story_and_tried_again(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    list_kind(monkeypatch, replace(FOOTPRINTS, perform=fail))
    assert run_again(place).exit_status == 3
    store = LocalStore(place.output)
    stories = table.read_quarantine(store)
    assert set(stories) == {FootprintKey("scene0", 0, 0), FootprintKey("scene1", 0, 0)}
    assert all("no footprint today" in line for story in stories.values() for line in story)
    list_kind(monkeypatch, FOOTPRINTS)
    assert run_again(place).exit_status == 3, "nobody asked for another try"
    assert run_again(place, retry_quarantined=True).exit_status == 0
    assert table.read_quarantine(store) == {}
    assert (place.output / "scene0" / "footprint.json").exists()
