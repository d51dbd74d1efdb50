from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick, stripes
from tiling.seams import SeamCount, count_seams, count_tier_seams
from tiling.span import Span

NODATA = 255


def slow_count(labels: np.ndarray, lines: list[int], first_row: int = 0) -> tuple[int, int]:
    """Changes and pairs over lines between rows `line - 1` and `line`, pixel by pixel."""
    changes = pairs = 0
    for line in lines:
        for above, below in zip(labels[line - 1 - first_row], labels[line - first_row], strict=True):
            if NODATA not in (above, below):
                pairs += 1
                changes += int(above != below)
    return changes, pairs


def lines_at(num_rows: int, step_px: int, shift_px: int) -> list[int]:
    return [line for line in range(1, num_rows) if line % step_px == shift_px % step_px and line >= shift_px]


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels with nodata here and there, a tier a core, and the core."""
    core_px = draw(st.integers(2, 6))
    rows, cols = draw(st.integers(1, 3 * core_px)), draw(st.integers(1, 2 * core_px))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = random.integers(0, 3, (rows, cols)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.15] = NODATA
    tiers = np.kron(random.integers(0, 2, (4, 3)), np.ones((core_px, core_px), int))[:rows, :cols].astype(np.uint8)
    return labels, tiers, core_px


@quick
@given(label_maps(), st.integers(1, 3))
def test_counts_are_those_of_a_slow_loop(drawn: tuple[np.ndarray, np.ndarray, int], num_cores: int) -> None:
    labels, _, core_px = drawn
    step_px = num_cores * core_px
    got = count_seams(labels, Span(0, len(labels)), step_px=step_px, core_px=core_px, nodata=NODATA)
    border = slow_count(labels, lines_at(len(labels), step_px, 0))
    beside = lines_at(len(labels), step_px, core_px // 2)
    if step_px > core_px:
        beside = sorted({*beside, *lines_at(len(labels), step_px, step_px - core_px // 2)})
    inner = slow_count(labels, beside)
    assert got == SeamCount(*border, *inner)


@quick
@given(label_maps())
def test_tier_counts_split_the_tile_counts(drawn: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, tiers, core_px = drawn
    rows = Span(0, len(labels))
    tile = count_seams(labels, rows, step_px=core_px, core_px=core_px, nodata=NODATA)
    between, same = count_tier_seams(labels, tiers, rows, core_px=core_px, nodata=NODATA)
    assert between.border_changes + same.border_changes == tile.border_changes
    assert between.border_pairs + same.border_pairs == tile.border_pairs
    inner = (tile.inner_changes, tile.inner_pairs)
    assert (between.inner_changes, between.inner_pairs) == (same.inner_changes, same.inner_pairs) == inner
    differing = [
        (labels[line - 1, col], labels[line, col])
        for line in lines_at(len(labels), core_px, 0)
        for col in range(labels.shape[1])
        if tiers[line - 1, col] != tiers[line, col] and NODATA not in (labels[line - 1, col], labels[line, col])
    ]
    assert between.border_pairs == len(differing)
    assert between.border_changes == sum(above != below for above, below in differing)


@quick
@given(label_maps(), st.data())
def test_stripes_add_up(drawn: tuple[np.ndarray, np.ndarray, int], data: st.DataObject) -> None:
    """As sheets are counted: each stripe is given the row above it."""
    labels, tiers, core_px = drawn
    total, between, same = SeamCount(), SeamCount(), SeamCount()
    for stripe in data.draw(stripes(len(labels))):
        rows = Span(max(0, stripe.start - 1), stripe.stop)
        part, part_tiers = labels[rows.start : rows.stop], tiers[rows.start : rows.stop]
        total += count_seams(part, rows, step_px=core_px, core_px=core_px, nodata=NODATA)
        pair = count_tier_seams(part, part_tiers, rows, core_px=core_px, nodata=NODATA)
        between, same = between + pair[0], same + pair[1]
    whole = Span(0, len(labels))
    assert total == count_seams(labels, whole, step_px=core_px, core_px=core_px, nodata=NODATA)
    assert (between, same) == count_tier_seams(labels, tiers, whole, core_px=core_px, nodata=NODATA)


@quick
@given(label_maps(), st.data())
def test_columns_of_stripes_add_up(drawn: tuple[np.ndarray, np.ndarray, int], data: st.DataObject) -> None:
    labels, _, core_px = drawn
    cols = Span(0, labels.shape[1])
    parts = [
        count_seams(labels[s.start : s.stop].T, cols, step_px=core_px, core_px=core_px, nodata=NODATA)
        for s in data.draw(stripes(len(labels)))
    ]
    assert sum(parts, SeamCount()) == count_seams(labels.T, cols, step_px=core_px, core_px=core_px, nodata=NODATA)


def score(labels: np.ndarray, core_px: int = 16) -> float | None:
    rows = Span(0, len(labels))
    return count_seams(labels, rows, step_px=core_px, core_px=core_px, nodata=NODATA).score


def test_noise_has_invisible_seams() -> None:
    noise = np.random.default_rng(5).integers(0, 4, (512, 512)).astype(np.uint8)
    assert score(noise) == pytest.approx(1.0, abs=0.03)


def test_a_model_that_disagrees_with_itself_at_borders_scores_above_one() -> None:
    random = np.random.default_rng(6)
    labels = np.kron(random.integers(0, 4, (32, 32)), np.ones((16, 16), int)).astype(np.uint8)
    noisy = random.random(labels.shape) < 0.05
    labels[noisy] = random.integers(0, 4, int(noisy.sum()))
    found = score(labels)
    assert found is not None
    assert found > 5


def test_borders_that_change_while_nothing_else_does_are_not_hidden() -> None:
    labels = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((16, 16), int)).astype(np.uint8)
    found = score(labels)
    assert found is not None
    assert found > 100


def test_borders_that_change_less_than_the_rest_score_below_one() -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[8:16] = 1
    labels[16:24] = 1
    assert score(labels) == 0.0


@pytest.mark.parametrize("labels", [np.full((64, 64), 3, np.uint8), np.full((64, 64), NODATA, np.uint8)])
def test_a_constant_map_says_nothing(labels: np.ndarray) -> None:
    assert score(labels) is None


def test_a_scene_of_one_tile_says_nothing() -> None:
    noise = np.random.default_rng(7).integers(0, 4, (16, 16)).astype(np.uint8)
    assert score(noise) is None


def test_wide_labels_count_like_narrow_ones() -> None:
    noise = np.random.default_rng(8).integers(0, 4, (64, 64))
    wide = np.where(noise == 3, 65535, noise).astype(np.uint16)
    narrow = np.where(noise == 3, NODATA, noise).astype(np.uint8)
    rows = Span(0, 64)
    assert count_seams(wide, rows, step_px=16, core_px=16, nodata=65535) == count_seams(
        narrow, rows, step_px=16, core_px=16, nodata=NODATA
    )
