"""Files that are cut short, stores that fail, drivers that are stopped: what is missing is said, and made later."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
from pyarrow import parquet

from batchseg.errors import BusyError, InputError
from batchseg.ledger.ledger import Ledger
from batchseg.reports.metrics import ChunkCounts
from batchseg.runs import session
from batchseg.runs.drive import Stop
from batchseg.runs.session import Options, run
from batchseg.store import LocalStore
from batchseg.workers.happenings import Happening, TaskCommitted
from tests.batchseg.runs.hard_scenes import VALUES, alone, check_rasters, expected_valid, place_of
from tests.batchseg.scene.scene_rasters import UTM, noise, write
from tests.fakes import CountingStore
from tests.runs import product_bytes
from tests.sealed_files import change_sealed

__all__ = ["alone"]
pytestmark = pytest.mark.timeout(300)


def cut(scene: Path, share: float) -> Path:
    content = scene.read_bytes()
    scene.write_bytes(content[: int(len(content) * share)])
    return scene


def test_i7_a_file_cut_short_loses_its_missing_chunks_and_nothing_else(tmp_path: Path) -> None:
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16, **UTM}
    pixels = [noise(3, 100, 90 + i) for i in range(3)]
    scenes = [write(tmp_path / f"scene{i}.tif", p, **blocks) for i, p in enumerate(pixels)]
    cut(scenes[1], 0.6)
    place = place_of(tmp_path, *scenes)
    outcome = run(place.recipe(), open_pool=VALUES)
    valid_HW, lost = expected_valid(scenes[1], place.recipe().tiling, halo_px=8)
    assert 0 < len(lost) < 12
    assert outcome.exit_status == 3
    assert set(outcome.metrics.quarantined) == lost
    for story in outcome.metrics.quarantined.values():
        assert len(story) == 3
        assert all("scene1.tif, rows " in line and "\n" not in line for line in story)
    check_rasters(scenes[1], place.output / "scene1", valid_HW, ("labels", "confidence", "tier"))
    alone = replace(
        place, scenes=(str(scenes[0]), str(scenes[2])), changes=place.changes | {"output": str(tmp_path / "o")}
    )
    assert run(alone.recipe(), open_pool=VALUES).exit_status == 0
    whole = product_bytes(place.output)
    assert {key: digest for key, digest in whole.items() if "scene1/" not in key} == product_bytes(tmp_path / "o")
    table = geopandas.read_parquet(place.output / "ledger.parquet")
    failed = table[table.kind == "failed"]
    assert {f"{r.scene}/{r.row}_{r.col}" for r in failed.itertuples()} == lost
    # The last rows of the file are gone, so the middle of the last row lies in what the map calls missing.
    assert failed.to_crs(UTM["crs"]).contains(shapely.Point(500_455, 4_999_005)).sum() == 1


def test_i7_a_mended_file_is_another_scene(tmp_path: Path) -> None:
    """What was given up is not filled from a file that has changed since; the run says so before it writes."""
    scene = write(tmp_path / "scene.tif", noise(3, 70, 70), tiled=True, blockxsize=16, blockysize=16, **UTM)
    whole = shutil.copy(scene, tmp_path / "whole.tif")
    place = place_of(tmp_path, cut(scene, 0.6))
    assert run(place.recipe(), open_pool=VALUES).exit_status == 3
    assert run(place.recipe(), open_pool=VALUES, options=Options(retry_quarantined=True)).exit_status == 3
    shutil.copy(whole, scene)
    with pytest.raises(InputError, match=r"different: scenes\.scene\.identity\.mtime_ns"):
        run(place.recipe(), open_pool=VALUES, options=Options(retry_quarantined=True))


@dataclass(slots=True)
class BadSectors(CountingStore):
    """Cannot write objects whose names end like this."""

    ending: str = ""

    def put(self, key: str, content: bytes) -> None:
        self._fail(key)
        self.inner.put(key, content)

    def put_file(self, key: str, path: Path) -> None:
        self._fail(key)
        self.inner.put_file(key, path)

    def _fail(self, key: str) -> None:
        if key.endswith(self.ending):
            raise OSError(errno.EIO, "Input/output error", key)


@pytest.mark.parametrize(
    ("ending", "task", "kind"),
    [("labels/1.1", "scene/1_1", "failed"), ("scene/confidence.tif", "scene/sheet_0_0", "failed sheet")],
)
def test_i7_what_cannot_be_written_is_given_up_and_can_be_tried_again(
    ending: str, task: str, kind: str, tmp_path: Path
) -> None:
    scene = write(tmp_path / "scene.tif", noise(3, 70, 50), **UTM)
    place = place_of(tmp_path, scene)
    bad: Any = BadSectors(LocalStore(place.output), ending=ending)
    outcome = run(place.recipe(), open_pool=VALUES, store=bad)
    assert outcome.exit_status == 3
    assert list(outcome.metrics.quarantined) == [task]
    assert all("Input/output error" in line for line in outcome.metrics.quarantined[task])
    table = geopandas.read_parquet(place.output / "ledger.parquet")
    (failed,) = table[table.kind.str.startswith("failed")].itertuples()
    assert failed.kind == kind
    assert failed.geometry.area > 0
    types = parquet.read_schema(place.output / "ledger.parquet").remove_metadata()
    assert run(place.recipe(), open_pool=VALUES, options=Options(retry_quarantined=True)).exit_status == 0
    other = replace(place, changes=place.changes | {"output": str(tmp_path / "other")})
    run(other.recipe(), open_pool=VALUES)
    assert product_bytes(place.output) == product_bytes(tmp_path / "other")
    assert parquet.read_schema(tmp_path / "other" / "ledger.parquet").remove_metadata() == types


def test_a_run_that_is_stopped_before_its_first_chunk(tmp_path: Path) -> None:
    place = place_of(tmp_path, write(tmp_path / "scene.tif", noise(3, 40, 40), **UTM))
    stop = Stop(why="SIGINT", exit_status=130)
    outcome = run(place.recipe(), open_pool=VALUES, options=Options(stop=stop))
    assert outcome.exit_status == 130
    assert outcome.metrics.chunks == ChunkCounts(done=0, empty=0, failed=0, not_run=4)
    assert len(geopandas.read_parquet(place.output / "ledger.parquet")) == 0
    assert run(place.recipe(), open_pool=VALUES).exit_status == 0


@dataclass(slots=True)
class Watch:
    """Does something when a task has been committed."""

    then: Callable[[Any], None]

    def notice(self, happening: Happening) -> None:
        if isinstance(happening, TaskCommitted):
            self.then(happening.record)

    def tick(self) -> None:
        pass


def test_a_stop_at_the_very_end_has_stopped_nothing(tmp_path: Path) -> None:
    place = place_of(tmp_path, write(tmp_path / "scene.tif", noise(3, 40, 40), **UTM))
    stop = Stop()

    def ask(record: Any) -> None:
        if "sheet" in str(record.key):
            stop.request("SIGTERM", 143)

    outcome = run(place.recipe(), open_pool=VALUES, options=Options(stop=stop, watchers=(Watch(ask),)))
    assert (outcome.exit_status, outcome.why) == (0, "complete")


def test_what_a_killed_worker_left_unfinished_is_gone_at_the_end(tmp_path: Path) -> None:
    place = place_of(tmp_path, write(tmp_path / "scene.tif", noise(3, 40, 40), **UTM))

    def leave(_: Any) -> None:
        (place.output / "scene" / "mask.zarr" / "labels" / ".unfinished-0123456789ab").write_bytes(b"half of")

    assert run(place.recipe(), open_pool=VALUES, options=Options(watchers=(Watch(leave),))).exit_status == 0
    assert not list(place.output.rglob(".unfinished-*"))
    assert not list((place.output / "run" / "scratch").iterdir())


def test_a_driver_that_was_replaced_stops_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have stood still for an hour; two drivers must not go on beside each other."""
    monkeypatch.setattr(session, "BEAT_S", 0.02)
    place = place_of(tmp_path, write(tmp_path / "scene.tif", noise(3, 400, 400), **UTM))
    key = place.output / "run" / "driver.json"

    def replace_driver(_: Any) -> None:
        change_sealed(place.output, "run/driver.json", name="x")

    with pytest.raises(BusyError, match="another driver has taken this run over"):
        run(place.recipe(), open_pool=VALUES, options=Options(watchers=(Watch(replace_driver),)))
    assert len(list(Ledger(LocalStore(place.output)).read_records())) < 13 * 13
    assert json.loads(key.read_text())["name"] == "x"
