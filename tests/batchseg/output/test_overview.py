"""Votes and averages of 2 x 2 cells against slow oracles."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchseg.output.overview import halve_classes, halve_measures, list_level_sizes_px


def vote(cell, nodata):
    """Return the most frequent valid code, or the first of equally frequent ones."""
    valid = [code for code in cell if code != nodata]
    return Counter(valid).most_common(1)[0][0] if valid else nodata


def average(cell, nodata):
    valid = [int(code) for code in cell if code != nodata]
    return (2 * sum(valid) + len(valid)) // (2 * len(valid)) if valid else nodata


def halve_by_cells(block, nodata, rule):
    cells = block.reshape(block.shape[0] // 2, 2, block.shape[1] // 2, 2).swapaxes(1, 2)
    return np.array([[rule(cell.ravel(), nodata) for cell in row] for row in cells], block.dtype)


@st.composite
def blocks(draw, codes):
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = (2 * draw(st.integers(1, 5)), 2 * draw(st.integers(1, 5)))
    return draw(hnp.arrays(dtype, shape, elements=st.sampled_from(codes)))


@given(blocks([0, 1, 2, 3]), st.sampled_from([0, 2, 7]))
def test_classes_are_voted_on(block, nodata):
    assert np.array_equal(halve_classes(block, nodata), halve_by_cells(block, nodata, vote))


def test_every_cell_of_four_codes_and_nodata_is_voted_on():
    cells = np.stack(np.meshgrid(*[np.arange(5, dtype=np.uint8)] * 4, indexing="ij"), axis=-1).reshape(-1, 2, 2)
    block = cells.swapaxes(0, 1).reshape(2, -1)
    assert np.array_equal(halve_classes(block, 4), halve_by_cells(block, 4, vote))


@given(blocks([0, 1, 2, 3, 253, 254, 255]), st.sampled_from([0, 255]))
def test_measures_are_averaged(block, nodata):
    assert np.array_equal(halve_measures(block, nodata), halve_by_cells(block, nodata, average))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_average_of_the_highest_codes_does_not_overflow(dtype):
    top = np.iinfo(dtype).max
    block = np.full((2, 4), top - 1, dtype)
    assert (halve_measures(block, top) == top - 1).all()
    block[0, 0] = top
    assert (halve_measures(block, top) == top - 1).all()


@given(st.integers(1, 100_000), st.integers(1, 100_000), st.sampled_from([16, 512]))
def test_levels_halve_until_the_longer_side_fits(width_px, height_px, largest_px):
    sizes = list_level_sizes_px(width_px, height_px, largest_px=largest_px)
    assert sizes[0] == (width_px, height_px)
    assert max(sizes[-1]) <= largest_px
    for finer, coarser in pairwise(sizes):
        assert max(finer) > largest_px
        assert coarser == (-(-finer[0] // 2), -(-finer[1] // 2))
