from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import Layout, layouts, quick, thorough
from tiling.grid import Grid, cells, stored_chunk_px, tiles_of
from tiling.span import Span, Window


def counts(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """How often each pixel is in a chunk, and in a tile's core."""
    in_chunks, in_cores = np.zeros(layout.shape_px, int), np.zeros(layout.shape_px, int)
    for key in layout.chunks:
        chunk = layout.chunks.window(*key)
        in_chunks[chunk.rows.start : chunk.rows.stop, chunk.cols.start : chunk.cols.stop] += 1
        for tile in tiles_of(layout.lattice, chunk):
            owned = tile.owned
            in_cores[owned.rows.start : owned.rows.stop, owned.cols.start : owned.cols.stop] += 1
            assert owned.meet(chunk) == owned, "a tile owns nothing outside of its chunk"
    return in_chunks, in_cores


def test_i1_every_pixel_belongs_to_exactly_one_chunk() -> None:
    """Every raster from 1x1 up to three tiles a side, every core of 1 to 4 px, every chunk of 1 to 3 cores."""
    for core_px in range(1, 5):
        sides = range(1, 3 * core_px + 1)
        for rows, cols, num_cores in itertools.product(sides, sides, (1, 2, 3)):
            layout = Layout(shape_px=(rows, cols), core_px=core_px, chunk_px=num_cores * core_px, halo_px=0)
            in_chunks, in_cores = counts(layout)
            assert (in_chunks == 1).all(), layout
            assert (in_cores == 1).all(), layout


@thorough
@given(layouts(max_core_px=40))
def test_i1_holds_for_larger_cores(layout: Layout) -> None:
    in_chunks, in_cores = counts(layout)
    assert (in_chunks == 1).all()
    assert (in_cores == 1).all()


@quick
@given(layouts())
def test_a_pixel_has_the_same_tile_whatever_the_chunk(layout: Layout) -> None:
    whole = Window.of(0, layout.shape_px[0], 0, layout.shape_px[1])
    at_once = tiles_of(layout.lattice, whole)
    by_chunks = [tile for key in layout.chunks for tile in tiles_of(layout.lattice, layout.chunks.window(*key))]
    assert sorted(by_chunks, key=lambda tile: (tile.row, tile.col)) == at_once
    assert [(tile.row, tile.col) for tile in at_once] == list(layout.lattice), "row by row"


@quick
@given(layouts())
def test_a_tile_reads_its_whole_core_and_a_halo_around_it(layout: Layout) -> None:
    side_px = layout.core_px + 2 * layout.halo_px
    for key in layout.lattice:
        (tile,) = tiles_of(layout.lattice, layout.lattice.window(*key))
        read = tile.read_window(layout.halo_px)
        assert read.shape == (side_px, side_px)
        assert read.rows.start == key[0] * layout.core_px - layout.halo_px
        assert read.cols.start == key[1] * layout.core_px - layout.halo_px


@quick
@given(layouts())
def test_a_grid_counts_its_cells(layout: Layout) -> None:
    grid = layout.chunks
    assert len(grid) == len(list(grid)) == grid.shape[0] * grid.shape[1]
    for key in grid:
        full = grid.full_window(*key)
        assert full.shape == (layout.chunk_px, layout.chunk_px)
        assert grid.window(*key) == full.clip(layout.shape_px)


@quick
@given(layouts(), st.data())
def test_touching_is_every_cell_with_a_common_pixel(layout: Layout, data: st.DataObject) -> None:
    tops = data.draw(st.tuples(*(st.integers(0, size - 1) for size in layout.shape_px)))
    ends = data.draw(st.tuples(*(st.integers(t + 1, s) for t, s in zip(tops, layout.shape_px, strict=True))))
    window = Window.of(tops[0], ends[0], tops[1], ends[1])
    grid = layout.chunks
    assert grid.touching(window) == [key for key in grid if grid.window(*key).meets(window)]


@pytest.mark.parametrize("key", [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_a_cell_outside_of_the_grid_is_refused(key: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="outside a grid"):
        Grid((4, 6), 2).window(*key)


@pytest.mark.parametrize(("shape", "cell"), [((0, 5), 2), ((5, 0), 2), ((5, 5), 0), ((5, 5), -1)])
def test_a_grid_has_pixels(shape: tuple[int, int], cell: int) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        Grid(shape, cell)


@pytest.mark.parametrize(
    "chunk",
    [
        Window.of(1, 8, 0, 8),
        Window.of(0, 8, 3, 8),
        Window.of(0, 7, 0, 8),
        Window.of(0, 8, 0, 9),
        Window.of(-4, 4, 0, 8),
        Window.of(8, 12, 0, 4),
    ],
)
def test_a_chunk_that_is_not_made_of_whole_cores_is_refused(chunk: Window) -> None:
    with pytest.raises(ValueError, match="whole cores"):
        tiles_of(Grid((10, 11), 4), chunk)


def test_the_last_cores_may_hang_over_the_edge() -> None:
    (tile,) = tiles_of(Grid((10, 11), 4), Window.of(8, 10, 8, 11))
    assert tile.core == Window.of(8, 12, 8, 12)
    assert tile.owned == Window.of(8, 10, 8, 11)


def test_cells_of_a_span_before_the_scene() -> None:
    assert list(cells(Span(-5, 5), 4)) == [-2, -1, 0, 1]


@given(st.integers(1, 3000), st.integers(1, 300))
@quick
def test_a_stored_chunk_is_the_widest_divisor(chunk_px: int, limit_px: int) -> None:
    size = stored_chunk_px(chunk_px, limit_px)
    assert size == max(d for d in range(1, limit_px + 1) if chunk_px % d == 0)


def test_a_stored_chunk_is_2048_px_where_it_can_be() -> None:
    assert [stored_chunk_px(px) for px in (512, 2048, 4096, 8192, 3000)] == [512, 2048, 2048, 2048, 1500]
