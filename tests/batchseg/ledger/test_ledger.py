from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.errors import DamagedError, ForeignRunError, RecipeError
from batchseg.json_values import parse_value, to_json
from batchseg.ledger.keys import ChunkKey, SheetKey, TaskKey, parse_chunk_key
from batchseg.ledger.ledger import Ledger, StoredRecipe, find_differences
from batchseg.ledger.records import (
    Agreement,
    Attempt,
    Measured,
    Record,
    Seams,
    SheetRecord,
    Stint,
    StoredObject,
    TileCounts,
)
from batchseg.paths import quarantine_key
from batchseg.store import LocalStore
from batchseg.tasks.table import parse_task_key, read_quarantine
from tests.fakes import Crash, CrashingStore
from tests.strategies import quick

amounts = st.floats(0, 1e12)
words = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=8)
counts = st.integers(0, 2**60)
chunk_keys = st.builds(ChunkKey, words, st.integers(0, 999), st.integers(0, 999))
sheet_keys = st.builds(SheetKey, words, st.integers(0, 9), st.integers(0, 9))
objects = st.lists(st.builds(StoredObject, key=words, size_bytes=counts, digest=words), max_size=3).map(tuple)
attempts = st.builds(
    Attempt,
    number=counts,
    worker=words,
    pool=words,
    device=words,
    environment=st.dictionaries(words, words, max_size=2),
    usd_per_hour=amounts,
    started_unix_s=amounts,
    ended_unix_s=amounts,
    seconds=st.dictionaries(words, amounts, max_size=3),
)
measured = st.builds(
    Measured,
    tiles=st.builds(TileCounts, bulk=counts, heavy=counts, skipped=counts),
    valid_px=counts,
    class_px=st.lists(counts, max_size=4).map(tuple),
    area_km2=st.none() | amounts,
    class_area_km2=st.none() | st.lists(amounts, max_size=4).map(tuple),
    confidence_sum=counts,
    agreement=st.none()
    | st.builds(
        Agreement,
        labels_id=words,
        confusion=st.lists(st.lists(counts, max_size=3).map(tuple), max_size=3).map(tuple),
        unknown_px=counts,
    ),
)
records = st.builds(
    Record,
    key=chunk_keys,
    fingerprint=words,
    kind=st.sampled_from(["done", "empty"]),
    objects=objects,
    measured=measured,
    attempt=attempts,
)
lines = st.tuples(counts, counts, counts, counts)
sheet_records = st.builds(
    SheetRecord,
    key=sheet_keys,
    fingerprint=words,
    inputs_digest=words,
    missing=st.lists(chunk_keys, max_size=3).map(tuple),
    objects=objects,
    seams=st.builds(Seams, tile=lines, chunk=lines, tier=lines, same_tier=lines),
    attempt=attempts,
)
stints = st.builds(
    Stint,
    worker=words,
    pool=words,
    host=words,
    device=words,
    usd_per_hour=amounts,
    begun_unix_s=amounts,
    beat_unix_s=amounts,
    ended=st.booleans(),
    start_s=amounts,
    idle_s=amounts,
    waste_s=amounts,
    in_hand_s=st.dictionaries(words, amounts, max_size=3),
    peak_rss_bytes=counts,
    failures=st.lists(words, max_size=3).map(tuple),
)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "out")


@pytest.fixture
def ledger(store: LocalStore) -> Ledger:
    return Ledger(store)


def record_of(key: ChunkKey, worker: str = "w") -> Record:
    return Record(
        key=key,
        fingerprint="f",
        kind="done",
        objects=(StoredObject(key="s/mask.zarr/0.0", size_bytes=3, digest="d"),),
        measured=Measured(
            tiles=TileCounts(bulk=2),
            valid_px=9,
            class_px=(4, 5),
            area_km2=None,
            class_area_km2=None,
            confidence_sum=7,
            agreement=None,
        ),
        attempt=Attempt(
            number=1,
            worker=worker,
            pool="p",
            device="cpu",
            environment={},
            usd_per_hour=0.5,
            started_unix_s=1.0,
            ended_unix_s=2.0,
            seconds={"read": 0.25},
        ),
    )


@quick
@given(records | sheet_records | stints)
def test_what_is_written_down_is_read_back(record: Record | SheetRecord | Stint) -> None:
    assert parse_value(to_json(record), type(record), where="here") == record


def test_a_committed_record_is_found(ledger: Ledger) -> None:
    keys = [ChunkKey("a", 0, 10), ChunkKey("a", 0, 9), ChunkKey("b", 0, 0)]
    for key in keys:
        assert ledger.read_record(key) is None
        ledger.commit(record_of(key))
        assert ledger.read_record(key) == record_of(key)
    assert {record.key for record in ledger.read_records()} == set(keys)
    assert list(ledger.read_sheets()) == list(ledger.read_stints()) == []
    ledger.forget(keys[0])
    assert {record.key for record in ledger.read_records()} == set(keys[1:])


def test_a_later_commit_replaces_an_earlier_one(ledger: Ledger) -> None:
    ledger.commit(record_of(ChunkKey("a", 0, 0), "first"))
    ledger.commit(record_of(ChunkKey("a", 0, 0), "second"))
    assert [record.attempt.worker for record in ledger.read_records()] == ["second"]


@pytest.mark.parametrize("torn", [False, True])
def test_i3_a_record_is_there_whole_or_not_at_all(store: LocalStore, torn: bool) -> None:
    with pytest.raises(Crash):
        Ledger(CrashingStore(store, at=0, torn=torn)).commit(record_of(ChunkKey("a", 0, 0)))
    assert list(Ledger(store).read_records()) == []
    assert Ledger(store).read_record(ChunkKey("a", 0, 0)) is None


@given(st.data())
@quick
def test_tasks_of_one_run_never_share_a_place(data: st.DataObject) -> None:
    chunks = data.draw(st.lists(chunk_keys, unique=True, max_size=5))
    sheets = data.draw(st.lists(sheet_keys, unique=True, max_size=5))
    tasks = [*chunks, *sheets]
    places = [place for task in tasks for place in (task.record_key, quarantine_key(str(task)), str(task))]
    assert len(set(places)) == len(places)


@quick
@given(st.builds(ChunkKey, st.text(min_size=1, max_size=9), st.integers(0, 10**6), st.integers(0, 10**6)))
def test_a_chunk_is_found_by_its_name(key: ChunkKey) -> None:
    assert parse_chunk_key(str(key)) == key


@quick
@given(chunk_keys | sheet_keys)
def test_a_task_is_found_by_its_name(key: TaskKey) -> None:
    assert parse_task_key(str(key)) == key


@pytest.mark.parametrize(
    "text", ["", "a", "a/", "a/1", "a/1_", "a/_1", "/1_2", "a/1_2_3", "a/-1_2", "a/1_x", "a/sheet_0_0", "a/²_1"]
)
def test_what_is_no_name_of_a_chunk_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="SCENE/ROW_COLUMN"):
        parse_chunk_key(text)


def test_quarantine_keeps_the_story_until_it_is_done_after_all(ledger: Ledger) -> None:
    chunk, sheet = ChunkKey("a", 0, 0), SheetKey("a", 0, 0)
    assert ledger.read_story(chunk) is None
    ledger.quarantine(chunk, ("w1: broke", "w2 was lost: spot"))
    ledger.quarantine(sheet, ("w3: digests differ",))
    assert ledger.read_story(chunk) == ("w1: broke", "w2 was lost: spot")
    assert read_quarantine(ledger.store) == {
        chunk: ("w1: broke", "w2 was lost: spot"),
        sheet: ("w3: digests differ",),
    }
    ledger.unquarantine(chunk)
    ledger.unquarantine(chunk)
    assert read_quarantine(ledger.store) == {sheet: ("w3: digests differ",)}
    ledger.reopen(tasks=True)
    assert read_quarantine(ledger.store) == {}


def test_a_stint_is_rewritten(ledger: Ledger) -> None:
    begun = Stint(
        worker="w",
        pool="p",
        host="h",
        device="cpu",
        usd_per_hour=1.0,
        begun_unix_s=1.0,
        beat_unix_s=2.0,
        ended=False,
        start_s=0.5,
        idle_s=0.0,
        waste_s=0.0,
        in_hand_s={"a/0_0": 1.5},
    )
    ledger.write_stint(begun)
    assert list(ledger.read_stints()) == [begun]


OLD = {"tiling": {"core": 512, "chunk": 4096}, "scale": None, "scenes": {"a": {"bands": [1, 2, 3]}}}
NEW = {"tiling": {"core": 256, "chunk": 4096}, "scale": [0, 1], "scenes": {"a": {"bands": [1, 2, 3]}}}


def test_i4_the_folder_of_another_recipe_is_refused_by_the_fields_that_differ(ledger: Ledger) -> None:
    ledger.write_recipe("old", OLD)
    ledger.write_recipe("old", OLD)
    assert ledger.read_recipe() == StoredRecipe(fingerprint="old", resolved=OLD)
    for refuse in (ledger.check_recipe, ledger.write_recipe):
        with pytest.raises(ForeignRunError) as caught:
            refuse("new", NEW)
        assert "different: scale (null -> [0, 1]), tiling.core (512 -> 256)." in f"{caught.value.what}."
        assert caught.value.exit_status == 2
    assert ledger.read_recipe() == StoredRecipe(fingerprint="old", resolved=OLD), "nothing is written over it"


def test_i4_another_way_to_compute_the_same_recipe_is_refused_too(ledger: Ledger) -> None:
    ledger.write_recipe("old", OLD)
    with pytest.raises(ForeignRunError, match="different: the way it is computed"):
        ledger.check_recipe("new", OLD)


def test_an_empty_folder_belongs_to_nobody(ledger: Ledger) -> None:
    ledger.check_recipe("new", NEW)
    assert ledger.read_recipe() is None


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1.5}, ["a (1 -> 1.5)"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c (1 -> 2)"]),
        ({"a": 1}, {"b": 1}, ["a (1 -> null)", "b (null -> 1)"]),
        ({"a": {"x": 1}}, {"a": 3}, ['a ({"x": 1} -> 3)']),
        ({"a": "x" * 99}, {"a": ""}, ['a ("' + "x" * 46 + '… -> "")']),
    ],
)
def test_differing_fields_are_named(old: object, new: object, lines: list[str]) -> None:
    assert find_differences(old, new) == lines


def spoilt(change: dict[str, Any]) -> bytes:
    return json.dumps({**json.loads(to_json(record_of(ChunkKey("a", 0, 0)))), **change}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        spoilt({"valid_px": 3}),
        spoilt({"kind": "maybe"}),
        spoilt({"fingerprint": 3}),
        spoilt({"objects": [{"key": "k"}]}),
    ],
)
def test_a_record_that_cannot_be_read_is_damage_and_not_nothing(
    store: LocalStore, ledger: Ledger, content: bytes
) -> None:
    key = ChunkKey("a", 0, 0)
    store.put(key.record_key, content)
    is_foreign = b'"valid_px": 3}' in content
    todo = "version that began it, or give another output folder" if is_foreign else "does this task again"
    for read in (lambda: ledger.read_record(key), lambda: list(ledger.read_records())):
        with pytest.raises(DamagedError, match=rf"run/records/a/0_0\.json: .*{todo}$"):
            read()


def test_facts_that_cannot_be_read_are_damage(store: LocalStore, ledger: Ledger) -> None:
    store.put("run/recipe.json", b"{")
    store.put(quarantine_key(str(ChunkKey("a", 0, 0))), b"")
    for read in (ledger.read_recipe, ledger.read_stories, lambda: ledger.read_story(ChunkKey("a", 0, 0))):
        with pytest.raises(DamagedError, match="does not hold what batchseg writes there; got no JSON"):
            read()
