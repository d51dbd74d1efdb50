"""What lies in the cache is not trusted unread, and no other user can change it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from batchseg.errors import BundleError
from batchseg.model.bundle import open_bundle
from batchseg.model.cache import open_entry
from batchseg.model.segmenter import open_segmenter
from tests.batchseg.model.model_bundles import on_cpu, write_random
from tests.batchseg.model.test_segmenter import SIDE, tiles


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(bytes(content))


def link_elsewhere(path: Path) -> None:
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.symlink_to("/dev/zero")
    aside.unlink()


def link_to_the_same(path: Path) -> None:
    """Its content is right, and may change after it was looked at."""
    aside = path.parent.parent.parent / "aside"
    path.rename(aside)
    path.symlink_to(aside)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def take_another_entry(path: Path) -> None:
    """An entry that is whole, with the right digests of other content."""
    other = open_entry("graphs", "other", lambda folder: (folder / path.name).write_bytes(b"other") and None)
    shutil.rmtree(path.parent)
    other.rename(path.parent)


def link_to_entry(path: Path) -> None:
    path.parent.rename(path.parent.parent.parent / "elsewhere")
    path.parent.symlink_to(path.parent.parent.parent / "elsewhere")


def replace_folder_by_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("no folder")


def keep_empty(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.mkdir()


DAMAGES: list[Callable[[Path], object]] = [
    flip,
    lambda path: path.write_bytes(path.read_bytes()[:100]),
    lambda path: path.write_bytes(b""),
    lambda path: path.unlink(),
    link_elsewhere,
    link_to_the_same,
    keep_empty,
    lambda path: (path.parent / "digests.json").unlink(),
    lambda path: (path.parent / "digests.json").write_text("[" * 100_000),
    lambda path: (path.parent / "more.bin").write_bytes(b"what nobody wrote"),
    replace_by_pipe,
    take_another_entry,
    link_to_entry,
    replace_folder_by_file,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again_and_said(
    damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    def fill(folder: Path) -> None:
        (folder / "graph.bin").write_bytes(bytes(range(256)) * 4)

    folder = open_entry("graphs", "one", fill)
    assert open_entry("graphs", "one", lambda _: pytest.fail("nothing was wrong")) == folder
    assert not caplog.records
    damage(folder / "graph.bin")
    assert (open_entry("graphs", "one", fill) / "graph.bin").read_bytes() == bytes(range(256)) * 4
    assert [record.message for record in caplog.records] == [
        f"{folder}: this entry of the cache is damaged, and is made again"
    ]
    assert {path.name for path in folder.parent.iterdir()} <= {"one", "other"}
    assert sorted(path.name for path in folder.iterdir()) == ["digests.json", "graph.bin"]


@pytest.mark.parametrize("name", ["graph.xml", "graph.bin"])
@pytest.mark.parametrize("damage", DAMAGES[:3])
def test_a_damaged_graph_changes_no_label(damage: Callable[[Path], object], name: str, tmp_path: Path) -> None:
    bundle = write_random(tmp_path / "net", numerics=on_cpu(precision="float32"))
    index_NHW, confidence_NHW = open_segmenter(bundle, device="cpu", tile_px=SIDE)(tiles(2))
    (graph,) = (tmp_path / "cache" / "openvino").iterdir()
    damage(graph / name)
    again = open_segmenter(bundle, device="cpu", tile_px=SIDE)(tiles(2))
    np.testing.assert_array_equal(again[0], index_NHW)
    np.testing.assert_array_equal(again[1], confidence_NHW)


def test_the_cache_is_private(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "graphs").mkdir(parents=True)
    (cache / "graphs").chmod(0o777)
    open_entry("graphs", "one", lambda _: None)
    open_entry("others", "one", lambda _: None)
    assert {(cache / name).stat().st_mode & 0o777 for name in ("graphs", "others")} == {0o700}
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(BundleError, match="other users could change") as caught:
        open_entry("graphs", "one", lambda _: None)
    assert "Set BATCHSEG_CACHE" in str(caught.value)


def test_a_cache_in_a_folder_of_all_is_refused(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(BundleError, match="got drwxrwxrwx of user"):
        open_entry("graphs", "one", lambda _: None)
    cache.chmod(0o1777)
    assert open_entry("graphs", "one", lambda _: None)


def test_a_link_in_the_place_of_a_section_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    cache.mkdir()
    (cache / "graphs").symlink_to(tmp_path / "theirs")
    with pytest.raises(BundleError, match="got lrwxrwxrwx"):
        open_entry("graphs", "one", lambda _: None)
    (cache / "graphs").unlink()
    cache.rename(tmp_path / "disk")
    cache.symlink_to(tmp_path / "disk")
    assert open_entry("graphs", "one", lambda _: None).resolve() == tmp_path / "disk/graphs/one"


def test_compiled_code_is_kept_in_the_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default is a folder of /tmp that any user can make first, and what lies in it is run."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setattr("torch.compile", lambda graph, **_: graph)
    bundle = write_random(tmp_path / "net", numerics=on_cpu(backend="compiled", precision="float32"))
    open_segmenter(bundle, device="cpu", tile_px=SIDE)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(cache / "compiled")
    assert (cache / "compiled").stat().st_mode & 0o777 == 0o700


def test_workers_that_meet_a_damaged_entry_at_once_all_find_it_whole() -> None:
    def fill(folder: Path) -> None:
        (folder / "graph.bin").write_bytes(b"right" * 1000)

    def read(_: int) -> bytes:
        return (open_entry("graphs", "one", fill) / "graph.bin").read_bytes()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(40):
            (open_entry("graphs", "one", fill) / "graph.bin").write_bytes(b"wrong" * 1000)
            assert set(pool.map(read, range(8))) == {b"right" * 1000}


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "file"))
    with pytest.raises(BundleError, match="cache of bundles and graphs cannot be used") as caught:
        open_entry("graphs", "one", lambda _: None)
    assert "Set BATCHSEG_CACHE" in str(caught.value)


@pytest.mark.parametrize("name", ["weights.safetensors", "item.json"])
@pytest.mark.parametrize("damage", DAMAGES[:4])
def test_a_damaged_copy_of_a_bundle_is_fetched_again(
    damage: Callable[[Path], object], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_random(tmp_path / "net")
    files = fsspec.filesystem("memory")
    for path in (tmp_path / "net").iterdir():
        files.pipe_file(f"/bundles/{path.parent.name}/{path.name}", path.read_bytes())
    copy = open_bundle("memory://bundles/net")
    damage(copy.folder / name)
    again = open_bundle("memory://bundles/net")
    assert (again.folder, again.digest) == (copy.folder, copy.digest)
    assert json.loads((again.folder / "item.json").read_text())["id"] == "small-net"
    assert "is damaged, and is made again" in caplog.text
