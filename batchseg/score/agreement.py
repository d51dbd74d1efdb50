"""Comparing the labels of one window with a reference: confusion matrices by tier and by priority ground. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.ledger.records import Agreement
from batchseg.tiers import BULK
from tiling.grid import Grid
from tiling.span import Window

Part = Literal["bulk_outside", "bulk_inside", "heavy_outside", "heavy_inside"]
PARTS: tuple[Part, ...] = ("bulk_outside", "bulk_inside", "heavy_outside", "heavy_inside")
"""The four kinds of pixels: by the tier that labelled a pixel, and by whether it lies inside a priority polygon."""


class ReferenceLabels(Protocol):
    """Reference labels of one scene."""

    @property
    def id(self) -> str:
        """Identifies this version of this reference: scores against different references are never added."""
        ...

    def read(self, window: Window, /) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read the class ids of a window, and a mask of the pixels that have a label."""
        ...


def index_classes(labels_HW: NDArray[Any], ids: Sequence[int], nodata: int) -> NDArray[Any]:
    """Convert class ids to indexes into the bundle's class list; any other code becomes `len(ids)`."""
    # The table has an entry for each 16-bit code, because a reference may be wider than the labels layer.
    table = np.full(65536, len(ids), np.uint16 if len(ids) > 254 else np.uint8)
    table[list(ids)] = np.arange(len(ids))
    table[nodata] = len(ids)
    index_HW: NDArray[Any] = table[labels_HW]
    return index_HW


def expand_tile_codes(codes: Sequence[int], window: Window, core_px: int) -> NDArray[np.uint8]:
    """Expand the codes of a chunk's tiles, given row by row, to one code per pixel."""
    rows, cols = Grid(window.shape, core_px).shape
    codes_RC = np.array(codes, np.uint8).reshape(rows, cols)
    wide = codes_RC.repeat(core_px, axis=0)[: len(window.rows)]
    return wide.repeat(core_px, axis=1)[:, : len(window.cols)]


def count_agreement(
    index_HW: NDArray[Any],
    labels: ReferenceLabels,
    window: Window,
    *,
    ids: Sequence[int],
    nodata: int,
    codes_HW: NDArray[np.uint8] | None = None,
    inside_HW: NDArray[np.bool_] | None = None,
) -> Agreement:
    """Count the confusion over the pixels that have both a prediction and a label.

    Args:
        index_HW: Predicted class indexes, as `index_classes` returns them.
        labels: The reference.
        window: The window of the scene that `index_HW` covers.
        ids: The class ids in the order of the bundle's class list.
        nodata: The code of the labels layer that stands for no class.
        codes_HW: Codes of the tier layer; without them all pixels count as the bulk model's.
        inside_HW: Mask of the priority ground; without it all pixels count as outside.

    Returns:
        The confusion matrix as a whole and by part, and the number of labels that are no class.
    """
    raw_HW, labelled_HW = labels.read(window)
    num = len(ids)
    reference_HW = index_classes(raw_HW, ids, nodata)
    both_HW = labelled_HW & (index_HW < num)
    part_HW = np.zeros(index_HW.shape, np.int64)
    if codes_HW is not None:
        part_HW += 2 * (codes_HW != BULK)
    if inside_HW is not None:
        part_HW += inside_HW
    # One pass counts the confusion of all parts; a label that is no class has a row of its own.
    triples = (part_HW * (num + 1) + reference_HW) * (num + 1) + index_HW
    counts = np.bincount(triples[both_HW], minlength=len(PARTS) * (num + 1) ** 2)
    counts = counts.reshape(len(PARTS), num + 1, num + 1)
    known = counts[:, :num, :num]
    return Agreement(
        labels_id=labels.id,
        confusion=_to_tuples(known.sum(0)),
        unknown_px=int(counts[:, num].sum()),
        parts={part: _to_tuples(matrix) for part, matrix in zip(PARTS, known, strict=True) if matrix.any()},
    )


def make_empty_agreement(labels_id: str, num_classes: int) -> Agreement:
    """The result of `count_agreement` where nothing was predicted, without reading the reference."""
    return Agreement(labels_id=labels_id, confusion=((0,) * num_classes,) * num_classes, unknown_px=0)


def _to_tuples(matrix: NDArray[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
