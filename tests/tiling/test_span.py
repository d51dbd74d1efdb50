from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import quick, spans, windows
from tiling.span import Span, Window


def pixels(span: Span) -> set[int]:
    return set(range(span.start, span.stop))


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (3, 3), (5, 2), (0, -1)])
def test_a_span_is_never_empty(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        Span(start, stop)


@quick
@given(spans())
def test_len_is_the_number_of_pixels(span: Span) -> None:
    assert len(span) == len(pixels(span))


@quick
@given(spans(), st.integers(0, 30))
def test_grow_adds_on_both_sides(span: Span, halo_px: int) -> None:
    assert pixels(span.grow(halo_px)) == {px + d for px in pixels(span) for d in range(-halo_px, halo_px + 1)}


@quick
@given(spans(), spans())
def test_meet_is_the_common_pixels(a: Span, b: Span) -> None:
    common = pixels(a) & pixels(b)
    assert a.meets(b) == b.meets(a) == bool(common)
    if common:
        assert pixels(a.meet(b)) == common
    else:
        with pytest.raises(ValueError, match="at least one pixel"):
            a.meet(b)


@quick
@given(spans(), st.integers(1, 25))
def test_clip_is_the_part_inside_the_scene(span: Span, size_px: int) -> None:
    inside = pixels(span) & set(range(size_px))
    if inside:
        assert pixels(span.clip(size_px)) == inside
    else:
        with pytest.raises(ValueError, match="at least one pixel"):
            span.clip(size_px)


@quick
@given(spans(), spans())
def test_within_finds_the_pixels_in_an_array_that_holds_the_outer_span(inner: Span, outer: Span) -> None:
    held = np.arange(outer.start, outer.stop)
    if pixels(inner) <= pixels(outer):
        assert held[inner.within(outer)].tolist() == sorted(pixels(inner))
    else:
        with pytest.raises(ValueError, match="is not inside"):
            inner.within(outer)


@quick
@given(windows(), windows())
def test_a_window_is_its_rows_by_its_columns(a: Window, b: Window) -> None:
    assert a.shape == (len(a.rows), len(a.cols))
    assert a.num_px == np.zeros(a.shape).size
    assert a.meets(b) == (a.rows.meets(b.rows) and a.cols.meets(b.cols))
    if a.meets(b):
        assert a.meet(b) == Window(a.rows.meet(b.rows), a.cols.meet(b.cols))
        assert a.meet(b).within(a) == (a.rows.meet(b.rows).within(a.rows), a.cols.meet(b.cols).within(a.cols))


@quick
@given(windows(), st.integers(0, 9))
def test_growing_and_clipping_a_window_does_both_sides(window: Window, halo_px: int) -> None:
    grown = window.grow(halo_px)
    assert grown == Window(window.rows.grow(halo_px), window.cols.grow(halo_px))
    shape_px = (grown.rows.stop + 50, grown.cols.stop + 70)
    if grown.rows.stop > 0 and grown.cols.stop > 0:
        assert grown.clip(shape_px) == Window(grown.rows.clip(shape_px[0]), grown.cols.clip(shape_px[1]))


def test_of_takes_rows_before_columns() -> None:
    assert Window.of(1, 4, 10, 30) == Window(Span(1, 4), Span(10, 30))
    assert Window.of(1, 4, 10, 30).shape == (3, 20)
