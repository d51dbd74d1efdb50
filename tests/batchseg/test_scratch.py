"""Scratch folders are private, and a sweep removes only what dead processes of this user left."""

from __future__ import annotations

import errno
import fcntl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchseg.errors import RefusedError
from batchseg.objectstore import ObjectStore
from batchseg.paths import OutputKeys
from batchseg.scratch import open_scratch, sweep_scratch

NAME = f"mine-{'0' * 24}"
DIES = """
import os, pathlib, sys
from batchseg.scratch import open_scratch
with open_scratch(pathlib.Path(sys.argv[1]), "mine-") as folder:
    (folder / "half").write_bytes(b"half")
    os._exit(9)
"""


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES, tmp_path], check=False)
    (left,) = tmp_path.iterdir()
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    assert sweep_scratch(tmp_path, "other-") == 0
    with open_scratch(tmp_path, "mine-") as alive:
        assert sweep_scratch(tmp_path, "mine-") == 1
        assert list(tmp_path.iterdir()) == [alive]
    assert not list(tmp_path.iterdir())


def leave_open_folder(base: Path) -> None:
    (base / NAME).mkdir()
    (base / NAME).chmod(0o755)


def leave_link(base: Path) -> None:
    (base / "precious").mkdir(mode=0o700)
    (base / NAME).symlink_to(base / "precious")


def leave_link_inside(base: Path) -> None:
    (base / NAME).mkdir(mode=0o700)
    (base / "precious").mkdir()
    (base / "precious/notes.txt").write_text("mine")
    (base / NAME / "link").symlink_to(base / "precious")


LEFT: list[tuple[Callable[[Path], object], set[str]]] = [
    (leave_open_folder, {NAME}),
    (leave_link, {NAME, "precious"}),
    (leave_link_inside, {"precious", "precious/notes.txt"}),
    (lambda base: (base / NAME).write_text("mine"), {NAME}),
    (lambda base: (base / f"{NAME}0").mkdir(mode=0o700), {f"{NAME}0"}),
    (lambda base: (base / "mine-notes").mkdir(mode=0o700), {"mine-notes"}),
    (lambda base: (base / f".{NAME}").mkdir(mode=0o700), {f".{NAME}"}),
]


@pytest.mark.parametrize(("leave", "kept"), LEFT)
def test_a_sweep_follows_no_link_and_removes_nothing_of_others(
    tmp_path: Path, leave: Callable[[Path], object], kept: set[str]
) -> None:
    leave(tmp_path)
    sweep_scratch(tmp_path, "mine-")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == kept


def test_there_may_be_nothing_to_sweep(tmp_path: Path) -> None:
    assert sweep_scratch(tmp_path / "none", "mine-") == 0


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP, errno.EIO])
def test_a_disk_without_locks_cannot_tell_the_dead_so_a_sweep_leaves_the_folder(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).mkdir(mode=0o700)
    assert sweep_scratch(tmp_path, "mine-") == 1
    (tmp_path / NAME).mkdir(mode=0o700)

    def fail(*_: object) -> None:
        raise OSError(error, "no locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    assert sweep_scratch(tmp_path, "mine-") == 0
    assert any(tmp_path.iterdir())


def test_the_scratch_of_a_server_has_no_name_that_others_can_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHSEG_SCRATCH", str(tmp_path / "scratch"))
    with ObjectStore("memory://bucket/a").scratch() as first, ObjectStore("memory://bucket/a").scratch() as second:
        assert first.name != second.name
        assert ObjectStore("memory://bucket/a").sweep(OutputKeys(frozenset(), frozenset())) == 0
    (tmp_path / "scratch").chmod(0o777)
    with pytest.raises(RefusedError, match="can replace files"), ObjectStore("memory://bucket/a").scratch():
        pass
    (tmp_path / "scratch").chmod(0o1777)
    with ObjectStore("memory://bucket/a").scratch() as folder:
        assert folder.is_dir()
