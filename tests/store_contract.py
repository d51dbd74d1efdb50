"""What every implementation of `batchseg.store.Store` must do, as tests to inherit.

class TestMyStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return MyStore(...)  # empty, another one for each test
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence

import pytest

from batchseg.store import Store

KEY = "run/records/a/0_0.json"


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
        path = store.scratch() / "labels.tif"
        path.write_bytes(b"pixels")
        store.put("a/labels.tif", b"old")
        store.put_file("a/labels.tif", path)
        assert store.get("a/labels.tif") == b"pixels"
        path = store.scratch() / "labels.tif"
        path.write_bytes(b"pixels")
        store.put_file("new/folder/labels.tif", path)
        assert self.list_names(store) == [("a/labels.tif", 6), ("new/folder/labels.tif", 6)]

    def test_sweep_removes_scratch_files_and_no_object(self, store: Store) -> None:
        store.put(KEY, b"kept")
        folder = store.scratch() / "tmp1234"
        folder.mkdir()
        (folder / "labels.tif").write_bytes(b"half a sheet")
        (store.scratch() / "table.parquet").write_bytes(b"half a table")
        assert store.sweep() == 2
        assert self.list_names(store) == [(KEY, 4)]
        assert store.sweep() == 0

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
