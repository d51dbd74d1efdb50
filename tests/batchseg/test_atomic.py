"""Files and folders are there whole or not at all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batchseg.atomic import create_file, create_folder, replace_file
from tests.fakes import Crash


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_at_the_end(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with replace_file(path, durable=durable) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
        assert unfinished.parent == path.parent
    assert (path.read_text(), names(tmp_path)) == ("new", ["a.json"])


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def write_half() -> None:
        with replace_file(path) as unfinished:
            unfinished.write_text("half of the n")
            raise Crash

    with pytest.raises(Crash):
        write_half()
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.json"])


def test_a_fixed_tag_overwrites_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-checkpoint").write_text("half")
    with replace_file(tmp_path / "a", tag="checkpoint") as unfinished:
        unfinished.write_text("whole")
    assert names(tmp_path) == ["a"]


def test_of_many_that_create_a_file_one_succeeds(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return create_file(tmp_path / "claim", str(number).encode())

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(create, range(8)))
    assert results.count(True) == 1
    assert (tmp_path / "claim").read_text() == str(results.index(True))
    assert names(tmp_path) == ["claim"]


def test_the_first_folder_stays_and_later_ones_go(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "graph"
    with create_folder(folder) as first:
        with create_folder(folder) as second:
            (second / "a").write_text("second")
        (first / "a").write_text("first")
    assert (folder / "a").read_text() == "second"
    assert names(folder.parent) == ["graph"]


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    def fill_half() -> None:
        with create_folder(tmp_path / "graph") as unfinished:
            (unfinished / "a").write_text("half")
            raise Crash

    with pytest.raises(Crash):
        fill_half()
    assert names(tmp_path) == []
