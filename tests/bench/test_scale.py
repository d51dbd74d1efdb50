"""The scenes that `bench.scale` compares have the contents that it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from bench.scale import VALID_SHARE, write_emptied, write_mosaic
from tests.runs import noise, write_scene


@pytest.mark.parametrize("shape", ["swath", "block"])
def test_a_tenth_of_the_pixels_keeps_its_data(tmp_path, shape):
    whole = Path(write_scene(tmp_path / "whole.tif", noise(640, 640), nodata=0))
    with rasterio.open(write_emptied(whole, tmp_path / "part.tif", shape)) as part, rasterio.open(whole) as file:
        left_HW = part.dataset_mask() == 255
        assert left_HW.mean() == pytest.approx(VALID_SHARE, abs=0.005)
        assert part.descriptions == file.descriptions
        np.testing.assert_array_equal(part.read()[:, left_HW], file.read()[:, left_HW])


def test_a_mosaic_shows_its_scene_in_every_place(tmp_path):
    scene = Path(write_scene(tmp_path / "scene.tif", noise(64, 48), nodata=0))
    with rasterio.open(write_mosaic(scene, 3, tmp_path / "mosaic.vrt")) as file, rasterio.open(scene) as one:
        assert (file.shape, file.crs, file.transform, file.nodata) == ((192, 144), one.crs, one.transform, 0)
        assert (file.descriptions, file.colorinterp) == (one.descriptions, one.colorinterp)
        for row, col in np.ndindex(3, 3):
            np.testing.assert_array_equal(file.read(window=Window(col * 48, row * 64, 48, 64)), one.read())
