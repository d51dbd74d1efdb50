"""How the labels of a tile that is heavy by its outcome give way to the bulk model's at its edges.

Theory of operation
-------------------
Two models draw one road with two widths. Where a heavy tile meets a bulk one, all that they do not agree on would end
in a straight line, which is what an eye sees first. A tile that is heavy by its outcome has the labels of both, so near
its edges a pixel keeps the bulk model's label unless the heavy one is surer by a margin: half of all confidence at the
edge, nothing in the middle of the fade, minus a half at its end. Where both say the same, nothing is decided. The edge
itself is then what the bulk model says on either side of it, and the change from one model to the other is spread over
the fade and follows the ground.

All edges that a neighbour can lie behind fade, whatever that neighbour is, so that what a tile gives remains its own
(invariant I2); the scene's edges do not. Tiles that are heavy by their place keep the heavy model's labels to the
last pixel.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.route import CERTAIN
from tiling.span import Span, Window

_NO_MARGIN = np.iinfo(np.int16).min
"""Less than any difference of two codes times 2 x the widest fade that a recipe may ask for, 64 px."""


def bulk_stays(
    bulk_HW: NDArray[np.uint8],
    heavy_HW: NDArray[np.uint8],
    *,
    owned: Window,
    scene_shape_px: tuple[int, int],
    fade_px: int,
) -> NDArray[np.bool_]:
    """Where a tile keeps its first labels, by the confidence codes of both models on what it owns."""
    edges = *_inner_edges(owned.rows, scene_shape_px[0]), *_inner_edges(owned.cols, scene_shape_px[1])
    surer_HW = heavy_HW.astype(np.int16) - bulk_HW
    stays_HW: NDArray[np.bool_] = surer_HW * np.int16(2 * fade_px) < _margins(owned.shape, edges, fade_px)
    return stays_HW


def _inner_edges(span: Span, scene_px: int) -> tuple[bool, bool]:
    return span.start > 0, span.stop < scene_px


@lru_cache(maxsize=4)  # of large tiles these are many megabytes; most tiles have neighbours all around
def _margins(shape_px: tuple[int, int], edges: tuple[bool, bool, bool, bool], fade_px: int) -> NDArray[np.int16]:
    """By how much the heavy model has to be surer, times 2 x `fade_px`."""
    top, bottom, left, right = edges
    deep_HW = np.minimum.outer(_depths(shape_px[0], top, bottom, fade_px), _depths(shape_px[1], left, right, fade_px))
    margins_HW = np.where(deep_HW < fade_px, CERTAIN * (fade_px - 1 - 2 * deep_HW), _NO_MARGIN).astype(np.int16)
    margins_HW.setflags(write=False)
    return margins_HW


def _depths(size_px: int, first: bool, last: bool, fade_px: int) -> NDArray[np.int64]:  # noqa: FBT001
    """How many pixels lie between each and the nearest edge that fades; at least `fade_px` where none does."""
    steps, never = np.arange(size_px), np.full(size_px, fade_px)
    return np.minimum(steps if first else never, steps[::-1] if last else never)
