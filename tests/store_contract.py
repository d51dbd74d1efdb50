"""What every implementation of `batchseg.store.Store` must do, as tests to inherit.

class TestMyStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MyStore(...)  # empty, another one for each test
"""

from __future__ import annotations

import pickle
import stat
import threading
from collections.abc import Sequence

import pytest

from batchseg.paths import OutputKeys
from batchseg.store import Store

KEY = "run/records/a/0_0.json"
KEYS = OutputKeys(frozenset({"metrics.json", "a/labels.tif"}), frozenset({"run/records", "run/records/a"}))


class StoreContract:
    """Inherit it in a class whose name begins with `Test`, and give it a fixture `store`."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError("a subclass has a fixture `store` that returns an empty store")

    def list_names(self, store: Store, prefix: str = "") -> Sequence[tuple[str, int]]:
        return sorted(store.names(prefix))

    def test_get_returns_what_was_put_last(self, store: Store) -> None:
        store.put(KEY, b"one")
        store.put(KEY, b"two")
        assert store.get(KEY) == b"two"
        assert self.list_names(store) == [(KEY, 3)]

    def test_a_missing_object_is_an_error_for_get_and_none_for_delete(self, store: Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.get(KEY)
        store.delete(KEY)

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        store.put(KEY, b"")
        assert store.get(KEY) == b""
        assert self.list_names(store) == [(KEY, 0)]

    def test_a_deleted_object_is_gone(self, store: Store) -> None:
        store.put(KEY, b"one")
        store.delete(KEY)
        store.delete(KEY)
        with pytest.raises(FileNotFoundError):
            store.get(KEY)
        assert self.list_names(store) == []

    def test_names_are_those_below_a_folder_with_their_sizes(self, store: Store) -> None:
        for key, content in (("a/1", b"x"), ("a/b/2", b"yy"), ("ab/3", b"zzz"), ("c", b"")):
            store.put(key, content)
        assert self.list_names(store, "a") == [("a/1", 1), ("a/b/2", 2)]
        assert self.list_names(store) == [("a/1", 1), ("a/b/2", 2), ("ab/3", 3), ("c", 0)]
        assert self.list_names(store, "nothing") == []

    def test_put_new_makes_an_object_once(self, store: Store) -> None:
        """A store that cannot tell answers None, and then it may have made the object or not."""
        if store.put_new(KEY, b"first") is None:
            pytest.skip("this store cannot tell")
        assert store.put_new(KEY, b"second") is False
        assert store.get(KEY) == b"first"

    def test_of_many_who_put_new_one_succeeds(self, store: Store) -> None:
        answers: dict[bytes, bool | None] = {}
        contents = [bytes([number]) * 10 for number in range(8)]

        def claim(content: bytes) -> None:
            answers[content] = store.put_new(KEY, content)

        threads = [threading.Thread(target=claim, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if None in answers.values():
            pytest.skip("this store cannot tell")
        assert [content for content, answer in answers.items() if answer] == [store.get(KEY)]

    def test_a_finished_file_becomes_an_object(self, store: Store) -> None:
        store.put("a/labels.tif", b"old")
        for key in ("a/labels.tif", "new/folder/labels.tif"):
            with store.scratch() as folder:
                (folder / "labels.tif").write_bytes(b"pixels")
                store.put_file(key, folder / "labels.tif")
            assert not folder.exists()
        assert self.list_names(store) == [("a/labels.tif", 6), ("new/folder/labels.tif", 6)]

    def test_scratch_is_private_and_has_another_name_each_time(self, store: Store) -> None:
        with store.scratch() as first, store.scratch() as second:
            assert first != second
            assert [stat.S_IMODE(folder.stat().st_mode) for folder in (first, second)] == [0o700, 0o700]

    def test_sweep_removes_no_object_and_nothing_of_a_living_process(self, store: Store) -> None:
        store.put(KEY, b"kept")
        with store.scratch() as folder:
            (folder / "labels.tif").write_bytes(b"half a sheet")
            assert store.sweep(KEYS) == 0
            assert (folder / "labels.tif").read_bytes() == b"half a sheet"
        assert self.list_names(store) == [(KEY, 4)]

    def test_taken_is_what_lies_where_keys_would_be_written(self, store: Store) -> None:
        for key in ("notes.txt", "a/notes.txt", "run/notes.txt", "metrics.json.txt", "ab/labels.tif"):
            store.put(key, b"mine")
        assert list(store.find_taken(KEYS)) == []
        for key in ("a/labels.tif", KEY, "metrics.json"):
            store.put(key, b"mine")
        assert sorted(store.find_taken(KEYS)) == ["a/labels.tif", "metrics.json", KEY]

    def test_a_reader_sees_whole_objects_while_they_are_replaced(self, store: Store) -> None:
        contents = [bytes([number]) * 50_000 for number in range(4)]
        store.put(KEY, contents[0])
        done = threading.Event()

        def replace() -> None:
            for number in range(40):
                store.put(KEY, contents[number % 4])
            done.set()

        writer = threading.Thread(target=replace)
        writer.start()
        seen = set()
        while not done.is_set():
            seen.add(store.get(KEY))
            assert {key for key, _ in store.names("run/records")} == {KEY}
        writer.join()
        assert seen <= set(contents)

    def test_it_travels_to_workers(self, store: Store) -> None:
        store.put(KEY, b"one")
        copy: Store = pickle.loads(pickle.dumps(store))
        assert copy.get(KEY) == b"one"
        assert copy.address == store.address
