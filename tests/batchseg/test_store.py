"""An object appears whole or not at all, whatever dies and whenever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.errors import DamagedError, RefusedError
from batchseg.json_values import get_json
from batchseg.objectstore import ObjectStore
from batchseg.seals import compute_digest
from batchseg.store import LocalStore, Store
from tests.fakes import CountingStore, Crash, CrashingStore
from tests.store_contract import KEYS, StoreContract
from tests.strategies import quick

KEY = "run/records/a/0_0.json"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "out")


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return LocalStore(tmp_path / "out")


class TestObjectStore(StoreContract):
    """The same over fsspec, in memory; tests/jobs/test_s3.py has it on a server."""

    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
        monkeypatch.setenv("BATCHSEG_SCRATCH", str(tmp_path))
        return ObjectStore(f"memory://bucket{tmp_path}")


def files(store: LocalStore) -> list[str]:
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(store: LocalStore) -> None:
    store.put("run/records", b"a file where a folder should be")
    with pytest.raises(NotADirectoryError):
        list(store.names("run/records"))


DIES = """
import os, pathlib, sys
from batchseg.store import LocalStore
os.fsync = lambda number: os._exit(9)
store, path = LocalStore(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2])
store.put_file("run/records/a/0_0.json", path) if path.exists() else store.put("run/records/a/0_0.json", b"new" * 999)
"""


@pytest.mark.parametrize("what", ["put", "put_file"])
def test_a_process_that_dies_before_the_rename_leaves_the_old_object(store: LocalStore, what: str) -> None:
    store.put(KEY, b"old")
    made = store.root / "made"
    if what == "put_file":
        made.write_bytes(b"new" * 999)
    died = subprocess.run([sys.executable, "-c", DIES, store.root, made], check=False)
    assert died.returncode == 9
    assert store.get(KEY) == b"old"
    assert [key for key, _ in store.names("run")] == [KEY], "what is unfinished has no name"
    assert store.sweep(KEYS) == (1 if what == "put" else 0)
    assert [name for name in files(store) if name != "made"] == [KEY]


def test_an_error_while_writing_leaves_nothing_behind(store: LocalStore) -> None:
    store.put(KEY, b"old")
    with pytest.raises(TypeError):
        store.put(KEY, "text")  # type: ignore[arg-type]
    assert store.get(KEY) == b"old"
    assert files(store) == [KEY]


DIES_IN_ITS_SCRATCH = """
import os, pathlib, sys
from batchseg.store import LocalStore
with LocalStore(pathlib.Path(sys.argv[1])).scratch() as folder:
    (folder / "labels.tif").write_bytes(b"half a sheet")
    os._exit(9)
"""


def test_sweeping_removes_what_dead_writers_left_and_nothing_else(store: LocalStore) -> None:
    store.put(KEY, b"kept")
    (store.root / "run/records/a/.unfinished-00ff00ff00ff").write_bytes(b"half")
    (store.root / "a").mkdir()
    (store.root / "a/.unfinished-00ff00ff00ff").write_bytes(b"half")
    subprocess.run([sys.executable, "-c", DIES_IN_ITS_SCRATCH, store.root], check=False)
    assert len(list((store.root / "run/scratch").iterdir())) == 1
    assert store.sweep(KEYS) == 3
    assert files(store) == [KEY]
    assert store.sweep(KEYS) == 0


@pytest.mark.parametrize(
    "name",
    [
        "run/scratch/mine/notes.txt",
        "run/scratch/tmp1234/notes.txt",
        "run/scratch/unfinished-mine/notes.txt",
        "run/scratch/unfinished-0123456789abcdef01234567",
        "run/scratch/notes.txt",
        "run/records/a/.unfinished-mine",
        "run/records/a/.unfinished-00ff00ff00ff.txt",
        "run/records/a/.unfinished-00ff00ff00ff/notes.txt",
        "other/.unfinished-00ff00ff00ff",
        "a/mine/.unfinished-00ff00ff00ff",
    ],
)
def test_sweeping_leaves_what_no_store_made(store: LocalStore, name: str) -> None:
    (store.root / name).parent.mkdir(parents=True)
    (store.root / name).write_bytes(b"mine")
    assert store.sweep(KEYS) == 0
    assert files(store) == [name]


@pytest.mark.parametrize("link", ["run", "run/scratch", "run/records", "run/records/a", "a"])
def test_a_store_neither_sweeps_nor_writes_nor_deletes_through_a_link(store: LocalStore, link: str) -> None:
    elsewhere = store.root.parent / "elsewhere"
    left = [".unfinished-00ff00ff00ff", "scratch/unfinished-0123456789abcdef01234567/b", "records/a/0_0.json"]
    for name in [*left, "a/0_0.json", "0_0.json", "unfinished-0123456789abcdef01234567/b"]:
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_bytes(b"mine")
    elsewhere_before = sorted(elsewhere.rglob("*"))
    (store.root / link).parent.mkdir(parents=True)
    (store.root / link).symlink_to(elsewhere)
    store.sweep(KEYS)
    for use in (
        lambda: store.put(f"{link}/0_0.json", b"new"),
        lambda: store.put_new(f"{link}/new.json", b"new"),
        lambda: store.put_file(f"{link}/x/0_0.json", store.root / "none"),
        lambda: store.delete(f"{link}/0_0.json"),
    ):
        with pytest.raises(RefusedError, match=f"{link}, a symbolic link"):
            use()
    assert sorted(elsewhere.rglob("*")) == elsewhere_before
    assert all(path.read_bytes() == b"mine" for path in elsewhere_before if path.is_file())


@pytest.mark.parametrize("key", ["../elsewhere", "a/../../elsewhere", "/elsewhere"])
def test_a_key_does_not_lead_out_of_the_folder(store: LocalStore, key: str) -> None:
    with pytest.raises(RefusedError, match="inside of its output folder"):
        store.delete(key)


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(store: LocalStore) -> None:
    elsewhere = store.root.parent / "elsewhere"
    elsewhere.write_bytes(b"mine")
    store.root.mkdir()
    (store.root / "metrics.json").symlink_to(elsewhere)
    store.put("metrics.json", b"new")
    assert elsewhere.read_bytes() == b"mine"
    assert store.get("metrics.json") == b"new"


@pytest.mark.parametrize("target", ["nowhere", "loop.json", "../../gone/x.json"])
def test_a_link_that_leads_nowhere_is_no_object(store: LocalStore, target: str) -> None:
    store.put("run/records/a.json", b"{}")
    (store.root / "run/records/loop.json").symlink_to(target)
    assert list(store.names("run/records")) == [("run/records/a.json", 2)]


def test_the_folder_itself_may_be_a_link(store: LocalStore) -> None:
    (store.root.parent / "disk").mkdir()
    store.root.symlink_to(store.root.parent / "disk")
    store.put(KEY, b"kept")
    assert store.get(KEY) == b"kept"


def test_unfinished_files_are_not_taken_and_foreign_folders_are(store: LocalStore) -> None:
    store.put("run/records/a/.unfinished-00ff00ff00ff", b"half")
    assert list(store.find_taken(KEYS)) == []
    store.put("run/records/notes/x.txt", b"mine")
    assert list(store.find_taken(KEYS)) == ["run/records/notes"]


@pytest.mark.parametrize(("name", "taken"), [("run", "run"), ("a", "a"), ("run/records", "run/records")])
def test_a_file_where_a_folder_has_to_be_is_in_the_way(store: LocalStore, name: str, taken: str) -> None:
    store.put(name, b"mine")
    assert list(store.find_taken(KEYS)) == [taken]


@quick
@given(st.binary(max_size=200))
def test_digests_are_of_the_content(content: bytes) -> None:
    assert compute_digest(content) == compute_digest(bytes(content))
    assert compute_digest(content) != compute_digest(content + b"\0")
    assert len(compute_digest(content)) == 32


def test_facts_that_cannot_be_read_are_damage(store: LocalStore) -> None:
    store.put("run/driver.json", b'{"half": ')
    with pytest.raises(DamagedError, match=r"run/driver\.json: this is not JSON"):
        get_json(store, "run/driver.json")
    store.put("run/driver.json", b"\xff\xfe")
    with pytest.raises(DamagedError, match=r"run/driver\.json: this is not JSON"):
        get_json(store, "run/driver.json")
    with pytest.raises(FileNotFoundError):
        get_json(store, "run/other.json")


# The stores that tests use


def use(store: Store, made: Path) -> None:
    """One of everything: operations 0 to 5."""
    store.put("a", b"first")
    store.put("a", b"second")
    store.get("a")
    made.write_bytes(b"file")
    store.put_file("b", made)
    list(store.names(""))
    store.delete("a")


def test_a_counting_store_counts_everything(store: LocalStore, tmp_path: Path) -> None:
    counting = CountingStore(store)
    use(counting, tmp_path / "made")
    assert counting.operations == ["put a", "put a", "get a", "put_file b", "names ", "delete a"]


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("at", range(7))
def test_a_crashing_store_strikes_once_at_its_time(store: LocalStore, tmp_path: Path, at: int, torn: bool) -> None:
    crashing = CrashingStore(store, at=at, torn=torn)
    if at == 6:
        use(crashing, tmp_path / "made")
    else:
        with pytest.raises(Crash):
            use(crashing, tmp_path / "made")
    assert len(crashing.operations) == min(at + 1, 6)
    expected: dict[str, bytes] = [
        {},
        {"a": b"first"},
        {"a": b"second"},
        {"a": b"second"},
        {"a": b"second", "b": b"file"},
        {"a": b"second", "b": b"file"},
        {"b": b"file"},
    ][at]
    assert {key: store.get(key) for key, _ in store.names("")} == expected
    assert store.sweep(KEYS) == (1 if torn and at < 2 else 0), "a torn put leaves half of a file"


def test_a_strike_may_be_anything_and_what_it_lets_pass_goes_on(store: LocalStore, tmp_path: Path) -> None:
    seen: list[list[str]] = []
    crashing = CrashingStore(store, at=1, strike=lambda: seen.append([key for key, _ in store.names("")]))
    use(crashing, tmp_path / "made")
    assert seen == [["a"]]
    assert files(store) == ["b"]
