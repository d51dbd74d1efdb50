"""Pixels of a window that get a label, read together with the halo around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchseg.resolve.job import Job, SceneJob
from batchseg.scene.pixels import Pixels, Source
from tiling.span import Window


@dataclass(frozen=True, slots=True)
class WantedPixels:
    """A window that has at least one pixel to label."""

    pixels: Pixels
    """Pixels of the window and of the halo around it, clipped to the scene."""
    wanted_HW: NDArray[np.bool_]
    """Mask of the window, without the halo: valid pixels inside of the area of interest."""


def read_wanted(job: Job, scene: SceneJob, source: Source, window: Window) -> WantedPixels | None:
    """Read a window; None if it has no pixel to label. Nothing is read outside of the area of interest."""
    inside_HW = None if scene.aoi is None else scene.aoi.mask(window)
    if inside_HW is not None and not inside_HW.any():
        return None
    read_window = window.grow(job.halo_px).clip(scene.shape_px)
    pixels = source.read(read_window)
    wanted_HW = pixels.valid_HW[window.within(read_window)]
    if inside_HW is not None:
        wanted_HW = wanted_HW & inside_HW
    return WantedPixels(pixels, wanted_HW) if wanted_HW.any() else None
