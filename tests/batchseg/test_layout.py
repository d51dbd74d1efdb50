"""Badly laid out scenes on servers are named before they cost anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.runs.layout import amplification, layout_warning
from batchseg.scene.header import read_header
from tests.runs import noise, write_scene
from tiling.span import Window


@pytest.fixture
def header(tmp_path):
    return read_header(write_scene(tmp_path / "scene.tif", noise(64, 256), blockysize=1, tiled=False))


def test_strips_cost_as_often_as_chunks_lie_side_by_side(header):
    assert amplification(header, 32, 0) == 256 / 32
    remote = replace(header, url="s3://bucket/scene.tif")
    text = layout_warning(remote, 32, 0)
    assert text is not None
    assert "8.0 times" in text
    assert "gdal_translate -of COG" in text
    assert layout_warning(header, 32, 0) is None
    assert layout_warning(replace(remote, block_px=(16, 16)), 32, 0) is None


@given(st.integers(1, 300), st.integers(1, 64), st.sampled_from([16, 32]), st.integers(0, 9))
def test_it_is_the_blocks_that_windows_touch(size, block, chunk, halo):
    from batchseg.runs.layout import _along

    touched = 0
    for start in range(0, size, chunk):
        window = Window.of(start, min(size, start + chunk), 0, 1).grow(halo).clip((size, 1)).rows
        blocks = {px // block for px in range(window.start, window.stop)}
        touched += sum(min(size, (one + 1) * block) - one * block for one in blocks)
    assert _along(size, block, chunk, halo) == pytest.approx(touched / size)
