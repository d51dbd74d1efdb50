"""Scenes on servers with a bad layout are reported before they cost anything."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
import rasterio.shutil
from hypothesis import given
from hypothesis import strategies as st

from batchseg.resolve.file_layout import compute_amplification, find_layout_warning
from batchseg.runs.log import read_log
from batchseg.runs.session import Options, run
from batchseg.scene.header import read_header
from batchseg.store import LocalStore
from jobs.terminal.live import show_run
from tests.runs import Workplace, fake_pool, noise, write_scene
from tiling.span import Window


@pytest.fixture
def raster(tmp_path):
    return read_header(write_scene(tmp_path / "scene.tif", noise(64, 256), blockysize=1, tiled=False)).raster


def test_strips_are_read_once_per_chunk_beside_another(raster):
    assert compute_amplification(raster, 32, 0) == 256 / 32
    remote = replace(raster, url="s3://bucket/scene.tif")
    text = find_layout_warning("scene", remote, 32, 0)
    assert text is not None
    assert "8.0 times" in text
    assert "gdal_translate -of COG" in text
    assert " /vsis3/bucket/scene.tif new.tif" in text
    assert find_layout_warning("scene", raster, 64, 0) is None, "on a disk four times is no matter"
    assert find_layout_warning("scene", replace(remote, block_px=(16, 16)), 32, 0) is None


def test_a_good_layout_needs_no_repair_for_small_chunks(raster):
    square = replace(raster, url="s3://bucket/scene.tif", block_px=(64, 64))
    text = str(find_layout_warning("scene", square, 16, 0))
    assert "Repair" not in text
    assert "larger chunks read less: `tiling: chunk`, 4096 by default" in text
    assert "Repair" in str(find_layout_warning("scene", replace(square, block_px=(1024, 1024)), 16, 0))


def test_the_command_repairs_the_file_and_hides_signatures(raster, tmp_path):
    signed = replace(raster, url="https://server/a file.tif?X-Amz-Signature=abc")
    assert "'/vsicurl/https://server/a file.tif' new.tif" in str(find_layout_warning("scene", signed, 32, 0))
    command = (
        str(find_layout_warning("scene", raster, 32, 0))
        .partition("Repair: ")[2]
        .replace("new.tif", str(tmp_path / "new.tif"))
    )
    _, *options, source, target = shlex.split(command)
    wanted = dict(option.split("=") for option in options if "=" in option)
    rasterio.shutil.copy(source, target, driver="COG", BLOCKSIZE=16, **wanted)
    assert find_layout_warning("scene", read_header(target).raster, 32, 0) is None


def test_the_warning_is_in_the_log_on_the_screen_and_in_the_reports(tmp_path, capsys):
    strips, tiles = noise(40, 400), noise(40, 40)
    scenes = (
        write_scene(tmp_path / "strips.tif", strips, blockysize=1, tiled=False),
        write_scene(tmp_path / "tiles.tif", tiles, blockxsize=16, blockysize=16, tiled=True),
    )
    place = Workplace(tmp_path, scenes)
    with show_run(quiet=False) as show:
        outcome = run(place.recipe(), open_pool=fake_pool, options=Options(show=show))
    notes = {name: scene.layout_note for name, scene in outcome.metrics.scenes.items()}
    assert notes["tiles"] is None
    assert "gdal_translate" in notes["strips"]
    noted = [entry.facts for entry in read_log(LocalStore(place.output)) if entry.event == "badly_laid_out"]
    assert noted == [{"scene": "strips", "why": notes["strips"]}]
    assert capsys.readouterr().err.count(notes["strips"]) == 1
    assert "gdal_translate" in (place.output / "report.html").read_text()


@given(st.integers(1, 300), st.integers(1, 64), st.sampled_from([16, 32]), st.integers(0, 9))
def test_amplification_counts_the_blocks_that_windows_touch(size, block, chunk, halo):
    from batchseg.resolve.file_layout import _compute_side

    touched = 0
    for start in range(0, size, chunk):
        window = Window.of(start, min(size, start + chunk), 0, 1).grow(halo).clip((size, 1)).rows
        blocks = {px // block for px in range(window.start, window.stop)}
        touched += sum(min(size, (one + 1) * block) - one * block for one in blocks)
    assert _compute_side(size, block, chunk, halo) == pytest.approx(touched / size)
