"""What a read gives: raw pixels and which of them are valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tiling.span import Window


@dataclass(frozen=True, slots=True)
class Pixels:
    """A window of a scene, inside the scene, in the scene's own data type and in the order of the model's bands."""

    window: Window
    raw_BHW: NDArray[Any]
    """Where the whole window is invalid, these may be zeros that were never read."""
    valid_HW: NDArray[np.bool_]


class Source(Protocol):
    """Reads one scene. Opens nothing until the first read, so it can be made anywhere and used by any thread."""

    def read(self, window: Window) -> Pixels: ...


def describe_window(url: str, window: Window) -> str:
    rows, cols = window.rows, window.cols
    return f"{url}, rows {rows.start} to {rows.stop}, columns {cols.start} to {cols.stop}"
