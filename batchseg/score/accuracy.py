"""From pixels to a confusion matrix in parts, and from a matrix to every score. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from batchseg.ledger.records import Agreement
from batchseg.tiers import BULK
from tiling.grid import Grid
from tiling.span import Window

Part = Literal["bulk_outside", "bulk_inside", "heavy_outside", "heavy_inside"]
PARTS: tuple[Part, ...] = ("bulk_outside", "bulk_inside", "heavy_outside", "heavy_inside")
"""By the tier that labelled a pixel, and by whether it lies inside a priority polygon."""


class Labels(Protocol):
    """Reference labels of one scene."""

    @property
    def id(self) -> str:
        """Of this version of this reference: scores against different references are never added."""
        ...

    def read(self, window: Window, /) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Class ids, and where there is one."""
        ...


def class_index(labels_HW: NDArray[Any], ids: Sequence[int], nodata: int) -> NDArray[Any]:
    """Class ids to their positions in the bundle's list; what is no class gets the position after the last."""
    # One entry for every code of sixteen bits, since a reference may be wider than the labels layer.
    table = np.full(65536, len(ids), np.uint16 if len(ids) > 254 else np.uint8)
    table[list(ids)] = np.arange(len(ids))
    table[nodata] = len(ids)
    index_HW: NDArray[Any] = table[labels_HW]
    return index_HW


def spread(codes: Sequence[int], window: Window, core_px: int) -> NDArray[np.uint8]:
    """The codes of a chunk's tiles, row by row, as one code a pixel."""
    rows, cols = Grid(window.shape, core_px).shape
    codes_RC = np.array(codes, np.uint8).reshape(rows, cols)
    wide = codes_RC.repeat(core_px, axis=0)[: len(window.rows)]
    return wide.repeat(core_px, axis=1)[:, : len(window.cols)]


def agree(
    predicted_HW: NDArray[Any],
    labels: Labels,
    window: Window,
    *,
    ids: Sequence[int],
    nodata: int,
    codes_HW: NDArray[np.uint8] | None = None,
    inside_HW: NDArray[np.bool_] | None = None,
) -> Agreement:
    """The confusion over pixels that are both predicted and labelled.

    Args:
        predicted_HW: Positions in the class list, as `class_index` gives them.
        labels: The reference.
        window: Where.
        ids: The class list.
        nodata: The code of the labels layer that is no class.
        codes_HW: Codes of the tier layer; without them all is bulk.
        inside_HW: Priority ground.
    """
    raw_HW, labelled_HW = labels.read(window)
    num = len(ids)
    reference_HW = class_index(raw_HW, ids, nodata)
    both_HW = labelled_HW & (predicted_HW < num)
    part_HW = np.zeros(predicted_HW.shape, np.int64)
    if codes_HW is not None:
        part_HW += 2 * (codes_HW != BULK)
    if inside_HW is not None:
        part_HW += inside_HW
    pairs = (part_HW * (num + 1) + reference_HW) * (num + 1) + predicted_HW
    counts = np.bincount(pairs[both_HW], minlength=len(PARTS) * (num + 1) ** 2)
    counts = counts.reshape(len(PARTS), num + 1, num + 1)
    known = counts[:, :num, :num]
    return Agreement(
        labels_id=labels.id,
        confusion=_plain(known.sum(0)),
        unknown_px=int(counts[:, num].sum()),
        parts={part: _plain(matrix) for part, matrix in zip(PARTS, known, strict=True) if matrix.any()},
    )


def nothing_scored(labels_id: str, num_classes: int) -> Agreement:
    """What `agree` finds where nothing was predicted; nobody has to read the reference for it."""
    return Agreement(labels_id=labels_id, confusion=((0,) * num_classes,) * num_classes, unknown_px=0)


def _plain(matrix: NDArray[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())


def iou_of(confusion: Any) -> list[float | None]:
    """Intersection over union a class; None for a class that is neither in the reference nor predicted."""
    hits = np.diag(confusion)
    return _ratios(hits, confusion.sum(0) + confusion.sum(1) - hits)


def labelled_iou(confusion: Any) -> tuple[float | None, ...]:
    """IoU of the classes that the reference has; None of others, whatever was predicted.

    So means of two predictions are over the same classes; with `iou_of`, a class that nobody needs and that one of
    them predicts once would enter its mean as a zero.
    """
    return tuple(iou if has else None for iou, has in zip(iou_of(confusion), confusion.sum(1) > 0, strict=True))


def _ratios(above: Any, below: Any) -> list[float | None]:
    return [float(a / b) if b else None for a, b in zip(above, below, strict=True)]


def scores(confusion: Any, classes: Sequence[str]) -> dict[str, Any]:
    """Every score of one confusion matrix: rows are reference classes, columns predicted ones.

    A score is None where it would divide by nothing: the recall of a class that the reference does not have, the
    precision of one that was never predicted. mIoU is the mean over the classes that have an IoU.
    """
    hits, reference_px, predicted_px = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    iou = iou_of(confusion)
    known = [value for value in iou if value is not None]
    total_px = int(confusion.sum())
    weighted = sum(int(px) * value for px, value in zip(reference_px, iou, strict=True) if px and value is not None)
    by_class = {
        "iou": iou,
        "recall": _ratios(hits, reference_px),
        "precision": _ratios(hits, predicted_px),
        "f1": _ratios(2 * hits, reference_px + predicted_px),
    }
    return {
        **{name: dict(zip(classes, map(_round, values), strict=True)) for name, values in by_class.items()},
        "miou": _round(sum(known) / len(known)) if known else None,
        "fwiou": _round(weighted / total_px) if total_px else None,
        "accuracy": _round(int(hits.sum()) / total_px) if total_px else None,
        "scored_px": total_px,
    }


def scores_by_part(parts: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The scores of each tier, and inside and outside of priority polygons; None where nothing was scored."""
    found = {}
    for name, wanted in (("by_tier", ("bulk", "heavy")), ("by_priority", ("inside", "outside"))):
        found[name] = {one: _sum_of(parts, one, classes) for one in wanted}
    return found


def _sum_of(parts: Mapping[str, Any], wanted: str, classes: Sequence[str]) -> dict[str, Any] | None:
    matrices = [np.array(matrix, np.int64) for part, matrix in parts.items() if wanted in part.split("_")]
    return scores(sum(matrices), classes) if matrices else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
