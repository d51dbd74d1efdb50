"""Pictures of the blocks on which two runs differ most: A, B, and where they differ, side by side."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from batchseg.reports.compare import Block, StoredLabels
from batchseg.scene.dataset import gdal

GAP_PX = 8
WHITE, RED, GREY = (255, 255, 255), (203, 24, 29), (224, 224, 224)


def write_crop(path: Path, block: Block, first: StoredLabels, second: StoredLabels) -> None:
    """A PNG of three panels."""
    a_HW, b_HW = first.read(block.window), second.read(block.window)
    colours = np.array([*first.plan.class_colours, WHITE], np.uint8)
    nodata = len(first.plan.class_colours)
    differs_HW = (a_HW != b_HW) & (a_HW < nodata) & (b_HW < nodata)
    panels = [colours[a_HW], colours[b_HW], np.array([GREY, RED], np.uint8)[differs_HW.astype(np.intp)]]
    gap_HGC = np.full((len(block.window.rows), GAP_PX, 3), 255, np.uint8)
    _write_png(path, np.concatenate([panels[0], gap_HGC, panels[1], gap_HGC, panels[2]], axis=1))


def _write_png(path: Path, picture_HWC: NDArray[Any]) -> None:
    height, width, _ = picture_HWC.shape
    profile = {"driver": "PNG", "dtype": "uint8", "count": 3, "height": height, "width": width}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture has no place
        with gdal(), rasterio.open(path, "w", **profile) as file:
            file.write(picture_HWC.transpose(2, 0, 1))
