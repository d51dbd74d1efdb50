"""A worker that is given tasks while its models are still being opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import numpy as np
import pytest
import rasterio

from batchseg.errors import BundleError
from batchseg.ledger.ledger import Ledger
from batchseg.recipe import Fleet
from batchseg.reports.metrics import ChunkCounts
from batchseg.reports.write import sum_spent_usd
from batchseg.resolve.job import Job, SceneJob
from batchseg.resolve.resolve import resolve
from batchseg.runs.session import run
from batchseg.scene.pixels import Pixels
from batchseg.scene.source import RasterSource
from batchseg.store import LocalStore, Store
from batchseg.workers.pool import DEPTH, LocalPool
from batchseg.workers.worker import OpenModels, Worker, WorkerSpec
from tests.runs import Workplace, fake_models, noise, product_bytes
from tiling.span import Window

PATIENCE_S = 60.0


def begun_pool(job: Job, store: Store, _fleet: Fleet, *, open_models: OpenModels, open_source: Any = None) -> LocalPool:
    def begin() -> Worker:
        worker = Worker(WorkerSpec.new(pool="local", device="cpu", usd_per_hour=1.0), job, store, open_models)
        worker.open_source = open_source or worker.open_source
        return worker.begin()

    return LocalPool(begin, depth=DEPTH)


def telling_source(has_read: Event) -> Callable[[SceneJob], RasterSource]:
    """Of scenes that tell when something was read."""

    class Source(RasterSource):
        def read(self, window: Window) -> Pixels:
            pixels = super().read(window)
            has_read.set()
            return pixels

    return lambda scene: Source(scene.raster, scene.bands, scene.nodata_policy)


def test_the_first_chunks_are_read_while_models_open(tmp_path: Path) -> None:
    has_read = Event()

    def models(job: Job, spec: WorkerSpec) -> Any:
        assert has_read.wait(PATIENCE_S), "nothing is read before models are there"
        return fake_models(job, spec)

    place = Workplace.of(tmp_path, noise(70, 45))
    pool = partial(begun_pool, open_models=models, open_source=telling_source(has_read))
    outcome = run(place.recipe(), open_pool=pool)
    assert outcome.exit_status == 0
    assert all(
        record.attempt.environment["model"] == "fake" for record in Ledger(LocalStore(place.output)).read_records()
    )
    begun = product_bytes(place.output)
    place.run(output=str(tmp_path / "opened"))
    assert product_bytes(tmp_path / "opened") == begun


def test_models_that_cannot_be_opened_end_the_run(tmp_path: Path) -> None:
    def models(_job: Job, _spec: WorkerSpec) -> Any:
        raise BundleError("these weights are not whole", where="bulk")

    place = Workplace.of(tmp_path, noise(70, 45))
    with pytest.raises(BundleError, match="not whole"):
        run(place.recipe(), open_pool=partial(begun_pool, open_models=models))
    ledger = Ledger(LocalStore(place.output))
    assert not list(ledger.read_records())
    assert not ledger.read_stories()
    assert json.loads((place.output / "run" / "exit.json").read_text())["exit_status"] == 2


def test_a_worker_is_paid_for_before_its_models_are_open(tmp_path: Path) -> None:
    """Else starts that come to nothing would never add up to the budget that stops them."""
    opened, begun = Event(), Event()

    def models(job: Job, spec: WorkerSpec) -> Any:
        begun.set()
        assert opened.wait(PATIENCE_S)
        return fake_models(job, spec)

    place = Workplace.of(tmp_path, noise(70, 45))
    job, store = resolve(place.recipe()).job, LocalStore(place.output, durable=False)
    worker = Worker(WorkerSpec.new(pool="p", device="cpu", usd_per_hour=3600.0), job, store, models, beat_s=0.01)
    worker.begin()
    try:
        assert begun.wait(PATIENCE_S)
        while sum_spent_usd(store, head_usd_per_hour=0.0) < 0.05:  # a dollar a second
            sleep(0.01)
        (stint,) = Ledger(store).read_stints()
        assert (stint.ended, stint.start_s) == (False, 0.0)
        assert stint.in_hand_s["start"] > 0.0, "if it died now, all of this would be waste"
    finally:
        opened.set()
        worker.check(wait=True)
        worker.close()
    (stint,) = Ledger(store).read_stints()
    assert stint.ended
    assert stint.start_s + stint.idle_s >= 0.05
    assert stint.in_hand_s == {}


def test_a_worker_whose_models_cannot_be_opened_stops_beating(tmp_path: Path) -> None:
    def models(_job: Job, _spec: WorkerSpec) -> Any:
        raise BundleError("these weights are not whole", where="bulk")

    place = Workplace.of(tmp_path, noise(70, 45))
    job, store = resolve(place.recipe()).job, LocalStore(place.output, durable=False)
    worker = Worker(WorkerSpec.new(pool="p", device="cpu", usd_per_hour=1.0), job, store, models, beat_s=0.01)
    with pytest.raises(BundleError):
        worker.open()
    (before,) = Ledger(store).read_stints()
    sleep(0.1)
    (after,) = Ledger(store).read_stints()
    assert after == before


def test_ground_outside_of_the_area_waits_for_models_too(tmp_path: Path) -> None:
    """Its labels have the data type of the models' classes."""
    area = tmp_path / "area.geojson"
    ring = [
        [500_000, 5_000_000],
        [500_020, 5_000_000],
        [500_020, 4_999_980],
        [500_000, 4_999_980],
        [500_000, 5_000_000],
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    shape = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    area.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [shape]}))
    begun = Event()

    def models(job: Job, spec: WorkerSpec) -> Any:
        begun.wait(0.5)  # long enough that chunks outside would be done before
        return fake_models(job, spec)

    place = Workplace.of(tmp_path, noise(70, 45), aoi=str(area))
    outcome = run(place.recipe(), open_pool=partial(begun_pool, open_models=models))
    assert outcome.metrics.chunks == ChunkCounts(done=1, empty=5, failed=0, not_run=0)


def test_chunks_that_turn_out_empty_wait_for_models_too(tmp_path: Path) -> None:
    has_read = Event()

    def models(job: Job, spec: WorkerSpec) -> Any:
        assert has_read.wait(PATIENCE_S)
        Event().wait(0.5)  # long enough that the chunk would be done before
        return fake_models(job, spec)

    place = Workplace.of(tmp_path, np.zeros((3, 70, 45), np.uint8))
    with rasterio.open(place.scenes[0], "r+") as file:
        file.nodata = 0
    pool = partial(begun_pool, open_models=models, open_source=telling_source(has_read))
    outcome = run(place.recipe(), open_pool=pool)
    assert outcome.metrics.chunks == ChunkCounts(done=0, empty=6, failed=0, not_run=0)
    assert all(
        record.attempt.environment["model"] == "fake" for record in Ledger(LocalStore(place.output)).read_records()
    )
