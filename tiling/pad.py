"""Filling what lies beyond the scene's edge by repeating the edge."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tiling.span import Window

Scalar = TypeVar("Scalar", bound=np.generic)


def replicate(inside: NDArray[Scalar], have: Window, want: Window) -> NDArray[Scalar]:
    """Grow an array of `have` (…, rows, columns) to `want` by repeating its border.

    `have` is what could be read of `want`, so on every side it either reaches as far or ends at the scene's edge.
    """
    if have == want:
        return inside
    rows = (have.rows.start - want.rows.start, want.rows.stop - have.rows.stop)
    cols = (have.cols.start - want.cols.start, want.cols.stop - have.cols.stop)
    before_and_after = [(0, 0)] * (inside.ndim - 2) + [rows, cols]
    return np.pad(inside, before_and_after, mode="edge")
