"""A picture of one window of two maps: run A, run B, and the pixels on which they differ, side by side."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from batchseg.reports.stored_labels import StoredLabels
from batchseg.scene.dataset import gdal
from tiling.span import Window

GAP_PX = 8
WHITE, RED, GREY = (255, 255, 255), (203, 24, 29), (224, 224, 224)


def write_difference_picture(path: Path, first: StoredLabels, second: StoredLabels, window: Window) -> None:
    """Write a PNG of three panels. Differing pixels are red; white pixels have no label."""
    a_HW, b_HW = first.read(window), second.read(window)
    colours = np.array([*first.plan.class_colours, WHITE], np.uint8)
    nodata = len(first.plan.class_colours)
    differs_HW = (a_HW != b_HW) & (a_HW < nodata) & (b_HW < nodata)
    panels = [colours[a_HW], colours[b_HW], np.array([GREY, RED], np.uint8)[differs_HW.astype(np.intp)]]
    gap_HGC = np.full((len(window.rows), GAP_PX, 3), 255, np.uint8)
    _write_png(path, np.concatenate([panels[0], gap_HGC, panels[1], gap_HGC, panels[2]], axis=1))


def _write_png(path: Path, picture_HWC: NDArray[Any]) -> None:
    height, width, _ = picture_HWC.shape
    profile = {"driver": "PNG", "dtype": "uint8", "count": 3, "height": height, "width": width}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a PNG has no georeference
        with gdal(), rasterio.open(path, "w", **profile) as file:
            file.write(picture_HWC.transpose(2, 0, 1))
