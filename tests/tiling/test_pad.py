from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.strategies import Layout, layouts, thorough
from tiling.grid import tiles_of
from tiling.pad import replicate
from tiling.span import Window


def scene(shape_px: tuple[int, int]) -> np.ndarray:
    """Two bands whose values say where they are."""
    rows, cols = np.indices(shape_px)
    return np.stack([rows * 1000 + cols, cols * 1000 + rows + 7])


@thorough
@given(layouts())
def test_a_tile_is_cut_from_the_scene_as_if_all_of_it_had_been_padded(layout: Layout) -> None:
    image_BHW = scene(layout.shape_px)
    reach_px = layout.halo_px + layout.core_px
    padded_BHW = np.pad(image_BHW, [(0, 0), (reach_px, reach_px), (reach_px, reach_px)], mode="edge")
    whole = Window.of(0, layout.shape_px[0], 0, layout.shape_px[1])
    for tile in tiles_of(layout.lattice, whole):
        want = tile.read_window(layout.halo_px)
        have = want.clip(layout.shape_px)
        rows, cols = have.within(whole)
        top, left = want.rows.start + reach_px, want.cols.start + reach_px
        expected = padded_BHW[:, top : top + want.shape[0], left : left + want.shape[1]]
        np.testing.assert_array_equal(replicate(image_BHW[:, rows, cols], have, want), expected)


def test_one_pixel_fills_everything_around_it() -> None:
    got = replicate(np.full((3, 1, 1), 9, np.uint8), Window.of(0, 1, 0, 1), Window.of(-2, 3, -4, 3))
    assert got.shape == (3, 5, 7)
    assert got.dtype == np.uint8
    assert (got == 9).all()


def test_an_array_without_bands_is_padded_too() -> None:
    got = replicate(np.array([[1, 2], [3, 4]]), Window.of(0, 2, 0, 2), Window.of(-1, 2, 0, 3))
    assert got.tolist() == [[1, 2, 2], [1, 2, 2], [3, 4, 4]]


def test_what_is_there_already_is_not_copied() -> None:
    inside = np.zeros((1, 4, 4))
    assert replicate(inside, Window.of(0, 4, 0, 4), Window.of(0, 4, 0, 4)) is inside


def test_having_more_than_is_wanted_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        replicate(np.zeros((1, 4, 4)), Window.of(0, 4, 0, 4), Window.of(1, 4, 0, 4))
