"""An empty stored chunk has no object and costs no request, and an older object under its key does not stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from batchseg.errors import RecipeError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.output.sheet import make_sheet
from batchseg.output.stored import read_chunk, write_chunk
from batchseg.recipe import Tiling
from batchseg.recipe.recipe import Halo
from batchseg.resolve.resolve import resolve
from batchseg.store import LocalStore
from tests.fakes import CountingStore
from tests.runs import Workplace, noise, product_bytes

EMPTY = ChunkKey("scene0", 0, 1)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """Of six chunks, the second is empty, and the last holds pixels in its last tile only."""
    pixels_BHW = noise(64, 96)
    pixels_BHW[:, :32, 32:64] = 0
    pixels_BHW[:, 32:48, 64:] = 0
    place = Workplace.of(tmp_path, pixels_BHW)
    with rasterio.open(place.scenes[0], "r+") as file:
        file.nodata = 0
    return place


def open_counting_store(output: Path) -> CountingStore:
    return CountingStore(LocalStore(output, durable=False))


def list_deleted(store: CountingStore) -> list[str]:
    asked = (operation.partition(" ") for operation in store.operations)
    return [key for name, _, key in asked if name == "delete" and "mask.zarr" in key]


def test_nothing_is_deleted_where_nothing_can_be(place: Workplace) -> None:
    store = open_counting_store(place.output)
    assert place.run(store=store).exit_status == 0  # type: ignore[arg-type]  # it does what a local store does
    assert {record.kind for record in Ledger(store).read_records()} == {"done", "empty"}
    assert list_deleted(store) == []
    again = open_counting_store(place.output)
    assert place.run(store=again).exit_status == 0  # type: ignore[arg-type]
    assert list_deleted(again) == []


def test_what_another_recipe_left_behind_does_not_show(place: Workplace) -> None:
    """The records are gone, so the folder looks new."""
    place.run()
    clean = product_bytes(place.output)
    shutil.rmtree(place.output)
    (place.folder / "full").mkdir()
    Workplace.of(place.folder / "full", noise(64, 96)).run(output=str(place.output))
    assert (place.output / "scene0" / "mask.zarr" / "labels" / "0.1").exists()
    shutil.rmtree(place.output / "run")
    with pytest.raises(RecipeError, match=r"scene0/confidence\.tif.*move these files away"):
        place.run()
    for path in [path for path in place.output.iterdir() if path.is_file()]:
        path.unlink()
    shutil.rmtree(place.output / "scene0")
    assert place.run().exit_status == 0
    assert product_bytes(place.output) == clean


def make_chunk_layers(place: Workplace, code: int) -> dict[str, NDArray[np.uint8]]:
    (scene,) = resolve(place.recipe()).job.scenes.values()
    return {layer.name: np.full((32, 32), code, np.uint8) for layer in scene.zarr.layers}


def test_a_second_attempt_that_finds_nothing_leaves_nothing(place: Workplace) -> None:
    job = resolve(place.recipe()).job
    layout, window, store = job.scenes["scene0"].zarr, job.window(EMPTY), open_counting_store(place.output)
    first = write_chunk(store, layout, window, make_chunk_layers(place, 1))
    assert [one.key for one in first] == [layout.object_key(layer.name, 0, 1) for layer in layout.layers]
    assert write_chunk(store, layout, window, make_chunk_layers(place, 255), delete_empty=True) == ()
    assert list_deleted(store) == [one.key for one in first]
    assert not any((place.output / one.key).exists() for one in first)


def test_the_worker_says_which_attempt_it_is(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt of the chunk that will be empty dies after it put its objects and before it put its record."""
    commit, struck = Ledger.commit, []

    def commit_late(ledger: Ledger, record: object) -> None:
        if getattr(record, "key", None) == EMPTY and not struck:
            struck.append(record)
            layout = resolve(place.recipe()).job.scenes["scene0"].zarr
            for layer in layout.layers:
                ledger.store.put(layout.object_key(layer.name, 0, 1), b"of a file that has changed since")
            raise OSError("the disk was gone for a moment")
        commit(ledger, record)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "commit", commit_late)
    store = open_counting_store(place.output)
    assert place.run(store=store).exit_status == 0  # type: ignore[arg-type]
    assert struck
    assert list_deleted(store) == [f"scene0/mask.zarr/{layer}/0.1" for layer in ("labels", "confidence", "tier")]
    assert not (place.output / "scene0" / "mask.zarr" / "labels" / "0.1").exists()


def test_levels_over_a_chunk_that_was_given_up_lose_it(tmp_path: Path) -> None:
    place = Workplace.of(tmp_path, noise(40, 600), tiling=Tiling(core=64, chunk=128, halo=Halo()))
    place.run()
    job, store = resolve(place.recipe()).job, open_counting_store(place.output)
    records = {record.key: record for record in Ledger(store).read_records()}
    work = job.make_sheet_work(job.list_sheets(job.scenes["scene0"])[0], records.values())
    whole = make_sheet(store, work, records)
    levels = {one.key for one in whole.objects if "mask.zarr" in one.key}
    assert levels
    assert list_deleted(store) == []
    less = make_sheet(store, work, dict.fromkeys(records))
    assert not any("mask.zarr" in one.key for one in less.objects)
    assert levels <= set(list_deleted(store))
    assert not any((place.output / key).exists() for key in levels)


def test_a_stored_chunk_with_one_pixel_is_put(place: Workplace) -> None:
    """One valid pixel anywhere counts, although the writer looks at two corners first."""
    job = resolve(place.recipe()).job
    layout, window, store = job.scenes["scene0"].zarr, job.window(EMPTY), LocalStore(place.output, durable=False)
    for row, col, code in ((0, 0, 0), (31, 31, 3), (5, 17, 254), (16, 0, 0)):
        layers = make_chunk_layers(place, 255)
        layers["labels"][row, col] = code
        objects = write_chunk(store, layout, window, layers)
        assert [one.key for one in objects] == ["scene0/mask.zarr/labels/0.1"]
        labels_HW = read_chunk(store, layout, layout.layer("labels"), window, objects)
        np.testing.assert_array_equal(labels_HW, layers["labels"])
