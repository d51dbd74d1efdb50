"""Scenes that go away while a run reads them: for a moment, or for good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio

from batchseg.errors import AbsentSceneError, SceneError
from batchseg.recipe import Fleet
from batchseg.recipe.fleet import Patience
from batchseg.runs.absent_scenes import LOOKS
from batchseg.runs.session import Options, Outcome, run
from batchseg.runs.status import status
from batchseg.scene.pixels import Pixels
from batchseg.scene.source import RasterSource
from batchseg.workers.happenings import Happening, SceneAbsent, SceneGivenUp, SceneReturned, TaskCommitted
from tests.runs import Workplace, fake_models, fake_pool, noise, product_bytes, write_scene
from tiling.span import Window

QUICK = Fleet(patience=Patience(scene_s=0.05))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchseg.ledger.lease.SETTLE_S", 0.0)


@dataclass(slots=True)
class Thief:
    """Takes scenes away after some commits, and puts them back when the run has looked for them in vain so often."""

    scenes: tuple[Path, ...]
    take: Callable[[Path], None]
    after: int = 2
    give_back_at: int | None = 1
    """None: never."""
    seen: list[Happening] = field(default_factory=list)
    num_committed: int = 0
    taken: bool = False

    def notice(self, happening: Happening) -> None:
        if isinstance(happening, SceneAbsent | SceneGivenUp | SceneReturned):
            self.seen.append(happening)
        if isinstance(happening, TaskCommitted):
            self.num_committed += 1
        if self.num_committed >= self.after and not self.taken:
            self.taken = True
            for scene in self.scenes:
                self.keep(scene)
        absent = [seen.num_looks for seen in self.seen if isinstance(seen, SceneAbsent)]
        if self.give_back_at is not None and self.give_back_at in absent:
            for scene in self.scenes:
                put_back(scene)

    def keep(self, scene: Path) -> None:
        os.link(scene, aside(scene))
        scene.unlink()
        self.take(scene)

    def tick(self) -> None:
        pass

    def count(self, kind: type[Happening]) -> int:
        return sum(isinstance(seen, kind) for seen in self.seen)


def aside(scene: Path) -> Path:
    return scene.with_suffix(".aside")


def put_back(scene: Path) -> None:
    if aside(scene).exists():
        if scene.is_dir() and not scene.is_symlink():
            shutil.rmtree(scene)
        aside(scene).replace(scene)


def replace_by_other(scene: Path) -> None:
    scene.write_bytes(aside(scene).read_bytes()[:-1])


def replace_by_empty(scene: Path) -> None:
    scene.touch()


def replace_by_loop(scene: Path) -> None:
    scene.symlink_to(scene)


def leave_nothing(_: Path) -> None:
    pass


WAYS: dict[str, Callable[[Path], None]] = {
    "gone": leave_nothing,
    "another file": replace_by_other,
    "an empty file": replace_by_empty,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a link to nothing": lambda scene: scene.symlink_to("nowhere"),
    "a link to itself": replace_by_loop,
}


def place_in(folder: Path, *, num_scenes: int = 2) -> Workplace:
    return Workplace.of(folder, *(noise(100, 70, seed=seed) for seed in range(num_scenes)))


def steal_from(place: Workplace, thief: Thief) -> Outcome:
    options = Options(open_models=fake_models, watchers=(thief,))
    return run(place.recipe(), QUICK, open_pool=fake_pool, options=options)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchseg.ledger.lease.SETTLE_S", 0.0)
        place = place_in(tmp_path_factory.mktemp("clean"))
        assert place.run().exit_status == 0
        return product_bytes(place.output)


@pytest.mark.parametrize(
    ("way", "scenes", "after"),
    [*((way, (0,), 2) for way in WAYS), ("gone", (1,), 0), ("gone", (0, 1), 5), ("another file", (0, 1), 8)],
)
def test_a_scene_that_comes_back_costs_nothing(
    way: str, scenes: tuple[int, ...], after: int, tmp_path: Path, clean: dict[str, str]
) -> None:
    place = place_in(tmp_path)
    thief = Thief(tuple(Path(place.scenes[i]) for i in scenes), WAYS[way], after=after)
    outcome = steal_from(place, thief)
    assert thief.count(SceneAbsent) >= 1
    assert thief.count(SceneReturned) == len(scenes)
    assert (outcome.exit_status, outcome.metrics.quarantined) == (0, {})
    assert product_bytes(place.output) == clean


@pytest.mark.parametrize("way", ["gone", "another file", "a pipe"])
def test_a_scene_that_stays_away_is_one_story_and_a_resume_takes_it_again(
    way: str, tmp_path: Path, clean: dict[str, str]
) -> None:
    place = place_in(tmp_path)
    scene = Path(place.scenes[0])
    thief = Thief((scene,), WAYS[way], give_back_at=None)
    outcome = steal_from(place, thief)
    assert outcome.exit_status == 3
    assert outcome.why == "scene scene0 could not be read any more; the same command tries again"
    assert list(outcome.metrics.quarantined) == ["scene0"]
    (story,) = outcome.metrics.quarantined.values()
    assert len(story) == 1 + LOOKS
    assert all("scene0.tif" in line and "\n" not in line for line in story)
    assert [path.name for path in (place.output / "run" / "quarantine").rglob("*.json")] == ["scene0.json"]
    assert outcome.metrics.scenes["scene1"].chunks.done == 12
    put_back(scene)
    outcome = run(place.recipe(), QUICK, open_pool=fake_pool)
    assert (outcome.exit_status, outcome.metrics.quarantined) == (0, {})
    assert product_bytes(place.output) == clean


def test_a_resume_finds_a_scene_gone_before_it_writes(tmp_path: Path) -> None:
    place = place_in(tmp_path, num_scenes=1)
    thief = Thief((Path(place.scenes[0]),), leave_nothing, give_back_at=None)
    outcome = steal_from(place, thief)
    assert (outcome.exit_status, list(outcome.metrics.quarantined)) == (3, ["scene0"])
    with pytest.raises(SceneError, match="no such file"):
        run(place.recipe(), QUICK, open_pool=fake_pool)
    told = status(place.output)
    assert list(told.lost_scenes) == ["scene0"]
    assert not told.given_up


def test_one_chunk_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where one part of a mosaic is gone for good."""
    read_whole = RasterSource.read

    def read(source: RasterSource, window: Window) -> Pixels:
        if window.rows.start > 0 and window.cols.start == 0:
            raise AbsentSceneError("the part is gone", where="part.tif")
        return read_whole(source, window)

    monkeypatch.setattr(RasterSource, "read", read)
    place = place_in(tmp_path, num_scenes=1)
    outcome = run(place.recipe(), QUICK, open_pool=fake_pool)
    assert outcome.exit_status == 3
    assert set(outcome.metrics.quarantined) == {f"scene0/{row}_0" for row in (1, 2, 3)}
    assert outcome.why == "3 tasks were given up; --retry-quarantined tries again"
    monkeypatch.setattr(RasterSource, "read", read_whole)
    again = run(place.recipe(), QUICK, open_pool=fake_pool, options=Options(retry_quarantined=True))
    assert again.exit_status == 0


def mosaic_in(folder: Path) -> Workplace:
    """A mosaic of two halves, of which the second has a mask beside it."""
    parts = [Path(write_scene(folder / f"part{number}.tif", noise(64, 64, seed=number))) for number in (0, 1)]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(parts[1], "r+") as half:
        valid_HW = np.full((64, 64), 255, np.uint8)
        valid_HW[10:40, 10:40] = 0
        half.write_mask(valid_HW)
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">part{number}.tif</SourceFilename>'
        f'<SourceBand>BAND</SourceBand><DstRect xOff="0" yOff="{64 * number}" xSize="64" ySize="64"/></SimpleSource>'
        for number in (0, 1)
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">{sources.replace("BAND", str(band))}</VRTRasterBand>'
        for band in (1, 2, 3)
    )
    place = "<GeoTransform>500000, 1, 0, 5000000, 0, -1</GeoTransform><SRS>EPSG:32633</SRS>"
    mosaic = folder / "mosaic.vrt"
    mosaic.write_text(f'<VRTDataset rasterXSize="64" rasterYSize="128">{place}{bands}</VRTDataset>')
    return Workplace(folder, (str(mosaic), str(parts[1])), {"bands": (1, 2, 3)})


@pytest.mark.parametrize("file", ["mosaic.vrt", "part0.tif", "part1.tif", "part1.tif.msk"])
def test_files_that_belong_to_a_scene_come_back_too(file: str, tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    clean = mosaic_in(tmp_path / "clean")
    assert clean.run().exit_status == 0
    (tmp_path / "place").mkdir()
    place = mosaic_in(tmp_path / "place")
    thief = Thief((tmp_path / "place" / file,), leave_nothing, after=1)
    outcome = steal_from(place, thief)
    assert thief.count(SceneAbsent) >= 1
    assert (outcome.exit_status, outcome.metrics.quarantined) == (0, {})
    assert product_bytes(place.output) == product_bytes(clean.output)
