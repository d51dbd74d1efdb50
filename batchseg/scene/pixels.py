"""The result of a read: raw pixels, and which of them are valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tiling.span import Window


@dataclass(frozen=True, slots=True)
class Pixels:
    """Pixels of a window inside a scene, in the scene's data type, with the bands in the model's order."""

    window: Window
    raw_BHW: NDArray[Any]
    """Raw values; they may be zeros that were never read where the whole window is invalid."""
    valid_HW: NDArray[np.bool_]


class Source(Protocol):
    """Reads one scene. It opens nothing until the first read, so any process can make it and any thread can use it."""

    def read(self, window: Window) -> Pixels:
        """Read a window of the scene's grid; raise ReadError when it cannot be read."""
        ...


def describe_window(url: str, window: Window) -> str:
    """Describe a window of a scene, for messages."""
    rows, cols = window.rows, window.cols
    return f"{url}, rows {rows.start} to {rows.stop}, columns {cols.start} to {cols.stop}"
