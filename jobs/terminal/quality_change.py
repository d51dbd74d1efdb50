"""Comparison of a new bundle with its original, as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from jobs.terminal.formats import format_line

if TYPE_CHECKING:
    from batchseg.score.gate import QualityChange


def format_change(change: QualityChange, names: Iterable[str]) -> Iterator[str]:
    from batchseg.score.confusion import mean_iou

    yield format_line("agreement", f"{change.agreement:.3%} of the labels are those of the original")
    if change.before is None or change.after is None:
        return
    for name, before, after in zip(names, change.before, change.after, strict=True):
        if before is not None and after is not None:
            yield format_line("IoU", f"{name}: {before:.4f} before, {after:.4f} after")
    yield format_line("mean IoU", f"{mean_iou(change.before):.4f} before, {mean_iou(change.after):.4f} after")
