"""Pictures of scenes: what is read for them, and what not."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.io import MemoryFile

from batchseg.reports.page import pictures
from batchseg.reports.page.pictures import draw_classes, draw_scene
from tests.batchseg.scene.scene_rasters import noise, write
from tiling.span import Window

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@given(height=st.integers(1, 9000), width=st.integers(1, 9000), top=st.integers(0, 50), data=st.data())
def test_stripes_cover_a_window_once_and_make_every_row(height: int, width: int, top: int, data: st.DataObject) -> None:
    num_rows = data.draw(st.integers(1, min(height, 1024)))
    parts = list(pictures._cut_stripes(Window.of(top, top + height, 3, 3 + width), num_rows))
    assert [row for rows, _ in parts for row in range(rows.start, rows.stop)] == list(range(num_rows))
    assert [part.rows.start for _, part in parts] == [top, *(part.rows.stop for _, part in parts[:-1])]
    assert parts[-1][1].rows.stop == top + height
    assert all(part.cols == parts[0][1].cols for _, part in parts)


def test_stripes_change_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = write(tmp_path / "scene.tif", noise(3, 256, 200))
    at_once = draw_scene(str(scene), (1, 2, 3), (64, 50))
    monkeypatch.setattr(pictures, "_STRIPE_PX", 1000)
    assert draw_scene(str(scene), (1, 2, 3), (64, 50)) == at_once


def test_a_large_scene_without_overviews_is_not_read_whole_for_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write(tmp_path / "scene.tif", noise(3, 256, 256))
    monkeypatch.setattr(pictures, "_SLOW_PX", 255 * 255)
    assert draw_scene(str(scene), (1, 2, 3), (64, 64)) is None
    assert draw_scene(str(scene), (1, 2, 3), (64, 64), Window.of(0, 64, 0, 64)) is not None


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_codes_have_their_colours_and_all_others_are_transparent(dtype: str) -> None:
    codes_HW = np.array([[0, 1, 2], [7, 200, 255]], dtype)
    png = base64.b64decode(draw_classes(codes_HW, {0: (10, 20, 30), 7: (1, 2, 3), 200: (255, 0, 9)}).partition(",")[2])
    with MemoryFile(png) as memory, memory.open() as file:
        if dtype == "uint8":
            colours = file.colormap(1)
            found = [[colours[code] for code in row] for row in file.read(1)]
        else:
            found = [list(map(tuple, row)) for row in file.read().transpose(1, 2, 0).tolist()]
    none = (0, 0, 0, 0)
    assert found == [[(10, 20, 30, 255), none, none], [(1, 2, 3, 255), (255, 0, 9, 255), none]]
