"""Programs that only look at a scene put files beside it; a run goes on after them. A changed scene is refused."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from batchseg.errors import ForeignRunError
from batchseg.reports.page import pictures
from batchseg.reports.write import report
from batchseg.runs.log import read_log
from batchseg.store import LocalStore
from tests.runs import Workplace, noise, product_bytes, write_scene

pytestmark = pytest.mark.skipif(shutil.which("gdaladdo") is None, reason="needs the programs of GDAL")


def call(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def add_mask(scene: str) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(scene, "r+") as file:
        file.write_mask(np.ones(file.shape, bool))


def rename_overviews(scene: str) -> None:
    call("gdaladdo", "-ro", scene, "2")
    Path(f"{scene}.ovr").rename(f"{scene}.OVR")


LOOKS: dict[str, Callable[[str], None]] = {
    "overviews": lambda scene: call("gdaladdo", "-ro", scene, "2"),
    "overviews of Erdas": lambda scene: call("gdaladdo", "-ro", "--config", "USE_RRD", "YES", scene, "2"),
    "overviews in capitals": rename_overviews,
    "statistics": lambda scene: call("gdalinfo", "-stats", scene),
    "histogram": lambda scene: call("gdalinfo", "-hist", scene),
    "style of QGIS": lambda scene: Path(scene).with_suffix(".qml").write_text("<qgis/>") and None,
}


@pytest.mark.parametrize("has_mask", [False, True])
@pytest.mark.parametrize("name", LOOKS)
def test_a_run_goes_on_after_a_look(tmp_path: Path, name: str, has_mask: bool) -> None:
    place = Workplace.of(tmp_path, noise(300, 300))
    (scene,) = place.scenes
    if has_mask:
        add_mask(scene)
    assert place.run().exit_status == 0
    before = product_bytes(place.output)
    LOOKS[name](scene)
    assert len(list(tmp_path.glob("scene0*"))) > 1 + has_mask, "the look left something"
    assert place.run().exit_status == 0
    assert product_bytes(place.output) == before
    committed = [entry for entry in read_log(LocalStore(place.output)) if entry.event == "chunk_committed"]
    assert len(committed) == 100, "nothing was computed again"


@pytest.mark.parametrize("name", ["overviews", "statistics"])
def test_a_run_goes_on_after_a_look_at_a_part_of_a_vrt(tmp_path: Path, name: str) -> None:
    part = write_scene(tmp_path / "part.tif", noise(300, 300))
    call("gdalbuildvrt", str(tmp_path / "scene.vrt"), part)
    place = Workplace(tmp_path, (str(tmp_path / "scene.vrt"),), {"bands": (1, 2, 3)})
    assert place.run().exit_status == 0
    LOOKS[name](part)
    call("gdaladdo", "-ro", str(tmp_path / "scene.vrt"), "2")
    assert place.run().exit_status == 0


def test_statistics_inside_a_vrt_are_no_change_of_it(tmp_path: Path) -> None:
    write_scene(tmp_path / "part.tif", noise(300, 300))
    scene = str(tmp_path / "scene.vrt")
    call("gdalbuildvrt", scene, str(tmp_path / "part.tif"))
    place = Workplace(tmp_path, (scene,), {"bands": (1, 2, 3)})
    place.run()
    text = Path(scene).read_text()
    LOOKS["statistics"](scene)
    LOOKS["histogram"](scene)
    assert Path(scene).read_text() != text, "GDAL writes them into the VRT itself"
    assert place.run().exit_status == 0
    Path(scene).write_text(Path(scene).read_text().replace('<SrcRect xOff="0"', '<SrcRect xOff="1"'))
    with pytest.raises(ForeignRunError, match=r"identity\.text"):
        place.run()


def test_overviews_inside_the_file_change_it_and_the_refusal_names_what_does_not(tmp_path: Path) -> None:
    place = Workplace.of(tmp_path, noise(300, 300))
    place.run()
    kept = Path(place.scenes[0]).read_bytes()
    call("gdaladdo", place.scenes[0], "2")
    with pytest.raises(ForeignRunError) as refused:
        place.run()
    assert "different: scenes.scene0.identity.mtime_ns" in str(refused.value)
    assert "`gdaladdo -ro`" in str(refused.value)
    Path(place.scenes[0]).write_bytes(kept)
    with pytest.raises(ForeignRunError, match="gdaladdo -ro"):
        place.run()  # the time of the file is part of its version
    with pytest.raises(ForeignRunError) as refused:
        place.run(bands=(2, 1, 3))
    assert "gdaladdo" not in str(refused.value)


def read_map(output: Path) -> dict[str, str | None]:
    text = (output / "report.html").read_text("utf-8")
    data = text.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    scene_map = json.loads(data)["maps"]["scene0"]
    return {"scene": scene_map["scene"], "note": scene_map["scene_note"]}


def test_the_report_has_one_true_reason_for_a_missing_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workplace.of(tmp_path, noise(300, 300))
    place.run()
    assert read_map(place.output)["scene"] is not None
    assert read_map(place.output)["note"] is None
    monkeypatch.setattr(pictures, "_SLOW_PX", 200 * 200)
    report(place.output)
    seen = read_map(place.output)
    assert seen["scene"] is None
    note = str(seen["note"])
    assert note.startswith("it has 0 Mpx and no overviews; `gdaladdo -ro")
    command = note.partition("`")[2].partition("`")[0]
    call(*shlex.split(command), "2")
    report(place.output)
    assert read_map(place.output)["scene"] is not None
    assert place.run().exit_status == 0, "the advice does no harm"
    Path(place.scenes[0]).unlink()
    report(place.output)
    seen = read_map(place.output)
    assert seen["scene"] is None
    assert "its file cannot be opened (" in str(seen["note"])
    assert "No such file" in str(seen["note"])
    assert "overviews" not in str(seen["note"])


def test_other_reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = write_scene(tmp_path / "a scene.tif", noise(300, 300), compress="deflate")
    monkeypatch.setattr(pictures, "_SLOW_PX", 200 * 200)
    assert f"'{scene}'" in pictures.explain_missing_picture(scene), "a name with a space is quoted"
    monkeypatch.setattr(pictures, "_SLOW_PX", 300 * 300)
    damaged = bytearray(Path(scene).read_bytes())
    damaged[2000:9000] = bytes(7000)
    Path(scene).write_bytes(damaged)
    assert pictures.draw_scene(scene, (1, 2, 3), (30, 30)) is None
    assert pictures.explain_missing_picture(scene) == "a part of its file cannot be read"
    Path(scene).write_text("no raster")
    assert "its file cannot be opened (" in pictures.explain_missing_picture(scene)
