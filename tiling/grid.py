"""The two grids of a scene: tiles (what a model sees) and chunks (what a task does).

Theory of operation
-------------------
Both grids are anchored at the scene's first pixel and know nothing of each other's workers, so the same pixel always
falls into the same tile and the same chunk:

    scene  |<------------------------------ width ------------------------------>|
    chunks |         (0, 0)          |         (0, 1)          |     (0, 2)      |   clipped at the edge
    cores  |  .  |  .  |  .  |  .  | |  .  |  .  |  .  |  .  | |  .  |  .  |  .  |   the last one may hang over
    tile         [halo|core|halo]                                                    reads more than it owns

A tile *owns* its core and *reads* a halo around it; the halo may differ by tier because only cores have to be aligned.
A chunk is a whole number of cores, so no tile is ever computed for two chunks and nothing is blended between them: the
output of a chunk depends on the scene and the models alone (invariants I1 and I2). The last cores of a row hang over
the scene's edge; what they read beyond it is filled by repeating the edge, and what they predict there is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tiling.span import Span, Window


def cells(span: Span, step_px: int) -> range:
    """Indices of the `step_px` wide cells that a span touches."""
    return range(span.start // step_px, -(-span.stop // step_px))


@dataclass(frozen=True, slots=True)
class Grid:
    """Square cells over a scene, numbered by (row, column), clipped at the scene's edge."""

    shape_px: tuple[int, int]
    cell_px: int

    def __post_init__(self) -> None:
        if min(self.shape_px) < 1 or self.cell_px < 1:
            raise ValueError(f"a grid needs at least one pixel each way, got {self}")

    @property
    def shape(self) -> tuple[int, int]:
        """Cells down and across."""
        rows, cols = self.shape_px
        return -(-rows // self.cell_px), -(-cols // self.cell_px)

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rows, cols = self.shape
        return ((row, col) for row in range(rows) for col in range(cols))

    def full_window(self, row: int, col: int) -> Window:
        """The whole cell, also where it hangs over the scene's edge."""
        size = self.cell_px
        return Window(Span(row * size, (row + 1) * size), Span(col * size, (col + 1) * size))

    def window(self, row: int, col: int) -> Window:
        """The cell's pixels inside the scene."""
        if not (0 <= row < self.shape[0] and 0 <= col < self.shape[1]):
            raise ValueError(f"cell ({row}, {col}) is outside a grid of {self.shape}")
        return self.full_window(row, col).clip(self.shape_px)

    def touching(self, window: Window) -> list[tuple[int, int]]:
        """Cells that a window inside the scene touches, row by row."""
        return [(r, c) for r in cells(window.rows, self.cell_px) for c in cells(window.cols, self.cell_px)]


@dataclass(frozen=True, slots=True)
class Tile:
    """One model input: the core it owns and, with a halo around it, what it reads."""

    row: int
    col: int
    core: Window
    owned: Window

    def read_window(self, halo_px: int) -> Window:
        """Always core + 2 halo on a side, so it may reach beyond the scene."""
        return self.core.grow(halo_px)


def tiles_of(lattice: Grid, chunk: Window) -> list[Tile]:
    """The tiles whose cores make up a chunk, row by row."""
    for span, size_px in zip((chunk.rows, chunk.cols), lattice.shape_px, strict=True):
        begins, ends = span.start % lattice.cell_px == 0, span.stop % lattice.cell_px == 0 or span.stop == size_px
        if span.start < 0 or span.stop > size_px or not (begins and ends):
            raise ValueError(f"{chunk} is not made of whole cores of {lattice.cell_px} px")
    return [
        Tile(row, col, lattice.full_window(row, col), lattice.window(row, col)) for row, col in lattice.touching(chunk)
    ]


def stored_chunk_px(chunk_px: int, limit_px: int = 2048) -> int:
    """The widest part of a chunk, up to `limit_px`, that divides it: one stored object never has two writers."""
    return next(size for size in range(min(chunk_px, limit_px), 0, -1) if chunk_px % size == 0)
