"""Whole runs with quick models: what is written, what a resume does, what an interruption leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from batchseg.errors import BatchsegError, ForeignRunError, RefusedError
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import TileCounts
from batchseg.ledger.sessions import read_sessions
from batchseg.recipe import Fleet, Models, PoolSpec
from batchseg.reports.metrics import ChunkCounts, read_metrics
from batchseg.store import LocalStore
from tests.fakes import CountingStore, CrashingStore
from tests.runs import Workplace, noise, product_bytes, write_fake_bundle


def comparable_records(output: Path) -> dict[str, object]:
    """Records without who made them and when."""
    return {str(r.key): replace(r, attempt=None) for r in Ledger(LocalStore(output)).read_records()}  # type: ignore[arg-type]


def test_a_run_writes_what_it_says(tmp_path):
    place = Workplace.of(tmp_path, noise(70, 45))
    outcome = place.run()
    assert outcome.exit_status == 0
    with rasterio.open(place.output / "scene0" / "labels.tif") as labels, rasterio.open(place.scenes[0]) as scene:
        assert (labels.width, labels.height, labels.crs, labels.transform) == (45, 70, scene.crs, scene.transform)
        assert labels.nodata == 255
        assert set(np.unique(labels.read(1))) <= set(range(5))
    metrics = read_metrics(LocalStore(place.output))
    assert metrics.valid_px == 70 * 45
    assert metrics.area_km2 == pytest.approx(70 * 45 / 1e6, rel=0.01)
    assert metrics.chunks == ChunkCounts(done=6, empty=0, failed=0, not_run=0)
    assert sum(metrics.class_px.values()) == metrics.valid_px
    assert json.loads((place.output / "run" / "exit.json").read_text())["exit_status"] == 0


def test_costs_add_up_to_what_was_paid(tmp_path):
    place = Workplace.of(tmp_path, noise(70, 45))
    metrics = place.run(fleet=Fleet(pools=(PoolSpec(usd_per_hour=3600.0),))).metrics
    stint = next(Ledger(LocalStore(place.output)).read_stints())
    paid_usd = stint.beat_unix_s - stint.begun_unix_s
    assert metrics.cost_usd == pytest.approx(paid_usd, rel=0.02)
    assert metrics.cost.total_usd == pytest.approx(metrics.cost_usd, rel=1e-6)


def test_a_finished_run_has_nothing_to_do(tmp_path):
    place = Workplace.of(tmp_path, noise(40, 40))
    place.run()
    before = {path: path.stat().st_mtime_ns for path in (place.output / "scene0").rglob("*")}
    assert place.run().exit_status == 0
    assert {path: path.stat().st_mtime_ns for path in (place.output / "scene0").rglob("*")} == before


def test_i4_another_recipe_under_the_same_output_stops_and_names_what_differs(tmp_path):
    place = Workplace.of(tmp_path, noise(40, 40))
    place.run()
    with pytest.raises(ForeignRunError, match=r"scale \(null -> \[0.0, 128.0\]\)") as caught:
        place.run(scale=(0.0, 128.0))
    assert caught.value.exit_status == 2


def test_another_fleet_or_price_goes_on(tmp_path):
    place = Workplace.of(tmp_path, noise(40, 40))
    place.run()
    assert place.run(fleet=Fleet(pools=(PoolSpec(name="dear", usd_per_hour=9.0),))).exit_status == 0


def test_each_session_keeps_the_price_that_its_driver_was_given(tmp_path):
    place = Workplace.of(tmp_path, noise(40, 40))
    place.run(fleet=Fleet(head_usd_per_hour=3600.0))
    place.run(fleet=Fleet(head_usd_per_hour=36.0))
    place.run()
    sessions = sorted(read_sessions(LocalStore(place.output)), key=lambda session: session.begun_unix_s)
    assert [session.head_usd_per_hour for session in sessions] == [3600.0, 36.0, Fleet().head_usd_per_hour]


def test_labels_named_later_are_scored_without_running_a_model(tmp_path):
    place = Workplace.of(tmp_path, noise(40, 40))
    place.run()
    with rasterio.open(place.output / "scene0" / "labels.tif") as made:
        truth, profile = made.read(1), made.profile
    truth[:10] = 255
    truth[10:20] = (truth[10:20] + 1) % 5
    reference = tmp_path / "labels.tif"
    with rasterio.open(
        reference,
        "w",
        driver="GTiff",
        **{k: profile[k] for k in ("crs", "transform", "dtype", "count", "width", "height")},
    ) as file:
        file.write(truth, 1)
    later = place.run(labels=(str(reference),)).metrics
    confusion = np.array(later.scores.confusion)
    assert confusion.sum() == 30 * 40
    assert np.diag(confusion).sum() == 20 * 40
    fresh = Workplace(tmp_path, place.scenes).run(labels=(str(reference),), output=str(tmp_path / "fresh")).metrics
    assert fresh.scores.confusion == later.scores.confusion


def test_a_damaged_object_is_made_again(tmp_path):
    """I3: the digest of every committed object is checked before it goes into a GeoTIFF."""
    place = Workplace.of(tmp_path, noise(70, 45))
    place.run()
    clean = product_bytes(place.output)
    stored = place.output / "scene0" / "mask.zarr" / "labels" / "1.0"
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 0xFF
    stored.write_bytes(bytes(content))
    (place.output / "run" / "sheets" / "scene0" / "0_0.json").unlink()
    assert place.run().exit_status == 0
    assert product_bytes(place.output) == clean


def test_a_lost_object_is_made_again(tmp_path):
    place = Workplace.of(tmp_path, noise(70, 45))
    place.run()
    clean = product_bytes(place.output)
    (place.output / "scene0" / "mask.zarr" / "confidence" / "2.1").unlink()
    (place.output / "scene0" / "tier.tif").unlink()
    assert place.run().exit_status == 0
    assert product_bytes(place.output) == clean


def test_a_removed_zarr_is_made_again_whole(tmp_path):
    place = Workplace.of(tmp_path, noise(70, 45))
    place.run()
    clean = product_bytes(place.output)
    shutil.rmtree(place.output / "scene0" / "mask.zarr")
    assert place.run().exit_status == 0
    assert product_bytes(place.output) == clean


def test_two_tiers_differ_where_polygons_say_so(tmp_path):
    place = Workplace.of(tmp_path, noise(64, 64))
    models = Models(
        bulk=write_fake_bundle(tmp_path / "bulk"), heavy=write_fake_bundle(tmp_path / "heavy", tier="heavy")
    )
    assert place.run(models=models).metrics.tiles == TileCounts(bulk=16, heavy=0, skipped=0)


def run_in_a_child(place: Workplace, store: LocalStore) -> int:
    """The child may die hard; the parent only sees how it ended."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(place.run(store=store).exit_status)
        except BatchsegError as error:
            os._exit(error.exit_status)
        except BaseException:  # noqa: BLE001 - nothing of the child may run on
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def crash_place(tmp_path_factory) -> tuple[Workplace, int, dict[str, str], dict[str, object]]:
    """A clean run with every operation counted, then an empty output again."""
    pixels = noise(40, 45)
    pixels[:, :20, 32:] = 0
    place = Workplace.of(tmp_path_factory.mktemp("crash"), pixels)
    counting = CountingStore(LocalStore(place.output, durable=False))
    assert place.run(store=counting).exit_status == 0
    clean = product_bytes(place.output), comparable_records(place.output)
    return place, len(counting.operations), *clean


def die_and_resume(crash_place, tmp_path: Path, at: int, *, torn: bool) -> None:
    """Die at one operation, resume, and compare with the clean run."""
    place, _, products, records = crash_place
    output = tmp_path / f"out{at}"
    dying = Workplace(place.folder, place.scenes, {"output": str(output)})
    store = CrashingStore(LocalStore(output, durable=False), at=at, torn=torn, strike=lambda: os._exit(77))
    assert run_in_a_child(dying, store) == 77, f"operation {at} was never reached"
    assert run_in_a_child(dying, LocalStore(output, durable=False)) == 0, f"no resume after operation {at}"
    assert product_bytes(output) == products, f"other bytes after operation {at}"
    assert comparable_records(output) == records, f"other records after operation {at}"
    assert not list(output.rglob(".unfinished-*"))


@pytest.mark.parametrize("torn", [False, True])
def test_death_at_an_operation_leaves_nothing_wrong(crash_place, tmp_path, torn):
    for at in range(3 + torn, crash_place[1], 9):
        die_and_resume(crash_place, tmp_path, at, torn=torn)


@pytest.mark.real
@pytest.mark.parametrize("torn", [False, True])
def test_death_at_any_operation_leaves_nothing_wrong(crash_place, tmp_path, torn):
    for at in range(crash_place[1]):
        die_and_resume(crash_place, tmp_path, at, torn=torn)


@dataclass(slots=True)
class FillingDisk(CountingStore):
    """From operation `full_at` on there is no room for anything."""

    full_at: int = 0

    def put(self, key: str, content: bytes) -> None:
        self._take_room(self._begin("put", key))
        self.inner.put(key, content)

    def put_file(self, key: str, path: Path) -> None:
        self._take_room(self._begin("put_file", key))
        self.inner.put_file(key, path)

    def _take_room(self, number: int) -> None:
        if number >= self.full_at:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_at_any_moment_costs_nothing_but_time(crash_place, tmp_path):
    place, num_operations, products, records = crash_place
    for full_at in range(0, num_operations, 11):
        output = tmp_path / f"out{full_at}"
        filling = Workplace(place.folder, place.scenes, {"output": str(output)})
        store: Any = FillingDisk(LocalStore(output, durable=False), full_at=full_at)
        assert run_in_a_child(filling, store) == RefusedError.exit_status
        assert run_in_a_child(filling, LocalStore(output, durable=False)) == 0, f"no resume after {full_at}"
        assert product_bytes(output) == products, f"other bytes after {full_at}"
        assert comparable_records(output) == records, f"other records after {full_at}"


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path):
    place = Workplace.of(tmp_path, noise(40, 40))
    with pytest.raises(RefusedError, match=r"out: the disk is full.*then run the same command again"):
        place.run(store=FillingDisk(LocalStore(place.output), full_at=20))


def test_how_a_run_ended_is_not_known_before_it_has(tmp_path):
    """A stale exit.json would tell a scheduler that a run which was killed is complete."""
    place = Workplace.of(tmp_path, noise(40, 40))
    place.run()
    (place.output / "scene0" / "labels.tif").unlink()
    store = CrashingStore(LocalStore(place.output, durable=False), at=30, strike=lambda: os._exit(77))
    assert run_in_a_child(place, store) == 77
    assert not (place.output / "run" / "exit.json").exists()
