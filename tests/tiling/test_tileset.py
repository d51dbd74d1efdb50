"""Sets of tiles, one bit each, against Python's own sets."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick
from tiling.tileset import TileSet


@quick
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_is_the_set_of_the_mask(rows: int, cols: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.3
    tiles, expected = TileSet.of_mask(mask), set(map(tuple, np.argwhere(mask).tolist()))
    assert tiles == expected
    assert list(tiles) == sorted(expected)
    assert len(tiles) == len(expected)
    assert [(r, c) in tiles for r in range(-1, rows + 1) for c in range(-1, cols + 9)] == [
        (r, c) in expected for r in range(-1, rows + 1) for c in range(-1, cols + 9)
    ]
    assert np.array_equal(tiles.mask(), mask)
    assert tiles | {(50, 50)} == expected | {(50, 50)}


def test_a_scene_a_million_pixels_wide_takes_half_a_megabyte() -> None:
    tiles = TileSet.of_mask(np.ones((1954, 1954), bool))
    assert len(pickle.dumps(tiles)) < 500_000
    assert len(tiles) == 1954**2
    assert "a tile" not in tiles
