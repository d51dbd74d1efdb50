"""A picture of one window: the scene, the maps of run A and run B, and the pixels on which they differ, side by side.

Titles stand above the panels, and the legend below them. The panels have one pixel per pixel of the scene, and more
where the window is small.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from batchseg.classes import RGB
from batchseg.recipe import NO_TRUST
from batchseg.reports.lettering import GLYPH_COLS, GLYPH_ROWS, shorten, write_text
from batchseg.reports.page.pictures import read_scene_picture
from batchseg.reports.stored_labels import StoredLabels
from batchseg.scene.dataset import gdal
from tiling.span import Window

GAP_PX = 8
LEAST_PANEL_PX = 320
"""Width that a panel has at least, so that its title can be read."""
WHITE, RED, GREY, DARK = (255, 255, 255), (203, 24, 29), (224, 224, 224), (60, 60, 60)

Picture = NDArray[np.uint8]
"""Rows, columns, and red, green and blue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMap:
    """The labels of one run, with the name that stands above them."""

    name: str
    labels: StoredLabels


def write_difference_picture(path: Path, first: RunMap, second: RunMap, window: Window) -> None:
    """Write a PNG of four panels with titles and a legend. Differing pixels are red; white pixels have no label."""
    plan = first.labels.plan
    a_HW, b_HW = first.labels.read(window), second.labels.read(window)
    colours, nodata = np.array([*plan.class_colours, WHITE], np.uint8), len(plan.class_colours)
    both_HW = (a_HW < nodata) & (b_HW < nodata)
    differs_HW = (a_HW != b_HW) & both_HW
    share = float(differs_HW.sum() / max(int(both_HW.sum()), 1))
    panels = [
        _draw_scene(first.labels, window),
        colours[a_HW],
        colours[b_HW],
        np.array([GREY, RED], np.uint8)[differs_HW.astype(np.intp)],
    ]
    titles = ["the scene", f"A: {first.name}", f"B: {second.name}", f"{share:.1%} differ"]
    legend = [*zip(plan.class_names, plan.class_colours, strict=True), ("no label", WHITE)]
    legend += [("A and B differ", RED), ("A and B agree", GREY)]
    _write_png(path, _compose(panels, titles, legend))


def _draw_scene(labels: StoredLabels, window: Window) -> Picture:
    scene = labels.plan.scenes[labels.scene]
    picture_BHW = read_scene_picture(scene.url, scene.bands, window.shape, window, trust=scene.trust or NO_TRUST)
    if picture_BHW is not None:
        return picture_BHW.transpose(1, 2, 0)
    panel_HWC = np.full((*window.shape, 3), GREY, np.uint8)
    write_text(panel_HWC, "cannot be read", row=GAP_PX, col=GAP_PX, scale=1, rgb=DARK)
    return panel_HWC


def _compose(panels: Sequence[Picture], titles: Sequence[str], legend: Sequence[tuple[str, RGB]]) -> Picture:
    """Lay out panels side by side, with titles above them and the legend below."""
    factor = max(1, -(-LEAST_PANEL_PX // panels[0].shape[1]))
    panels = [panel.repeat(factor, axis=0).repeat(factor, axis=1) for panel in panels]
    high, wide = panels[0].shape[:2]
    scale = max(2, wide // 256)
    line_px = (GLYPH_ROWS + 4) * scale
    width_px = len(panels) * wide + (len(panels) - 1) * GAP_PX
    places = _place_legend(legend, width_px, scale)
    num_lines = 1 + max(line for line, _ in places)
    canvas_HWC = np.full((line_px + high + GAP_PX + num_lines * line_px, width_px, 3), 255, np.uint8)
    for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left = number * (wide + GAP_PX)
        write_text(canvas_HWC, shorten(title, width_px=wide, scale=scale), row=scale, col=left, scale=scale)
        canvas_HWC[line_px : line_px + high, left : left + wide] = panel
    for (name, rgb), (line, left) in zip(legend, places, strict=True):
        _draw_entry(canvas_HWC, name, rgb, top=line_px + high + GAP_PX + line * line_px, left=left, scale=scale)
    return canvas_HWC


def _place_legend(legend: Sequence[tuple[str, RGB]], width_px: int, scale: int) -> list[tuple[int, int]]:
    """Find the line and the first column of each entry; entries that do not fit begin a new line."""
    line, left, places = 0, 0, []
    for name, _ in legend:
        entry_px = (GLYPH_ROWS + 3 + (GLYPH_COLS + 1) * len(name)) * scale
        if left and left + entry_px > width_px:
            line, left = line + 1, 0
        places.append((line, left))
        left += entry_px + 3 * (GLYPH_COLS + 1) * scale
    return places


def _draw_entry(canvas_HWC: Picture, name: str, rgb: RGB, *, top: int, left: int, scale: int) -> None:
    """Draw one entry of the legend: a square with a dark frame, and the name."""
    side_px = GLYPH_ROWS * scale
    canvas_HWC[top : top + side_px, left : left + side_px] = DARK
    canvas_HWC[top + 1 : top + side_px - 1, left + 1 : left + side_px - 1] = rgb
    write_text(canvas_HWC, name, row=top, col=left + side_px + 3 * scale, scale=scale)


def _write_png(path: Path, picture_HWC: Picture) -> None:
    height, width, _ = picture_HWC.shape
    profile = {"driver": "PNG", "dtype": "uint8", "count": 3, "height": height, "width": width}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a PNG has no georeference
        with gdal(), rasterio.open(path, "w", **profile) as file:
            file.write(picture_HWC.transpose(2, 0, 1))
