"""What the property tests draw: sizes of scenes, cores, halos and chunks, and streams of events.

`@quick` goes on every property test: no deadlines (the machine may be busy), and the same examples each time, so that a
test that turns red means a change in this repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st

from tiling.grid import Grid
from tiling.span import Span, Window

quick = settings(deadline=None, derandomize=True, max_examples=60)
thorough = settings(deadline=None, derandomize=True, max_examples=300)

MAX_CORE_PX = 9
MAX_TILES = 3
"""Down and across: enough for a first, an inner and a last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A scene and how it is cut."""

    shape_px: tuple[int, int]
    core_px: int
    chunk_px: int
    halo_px: int

    @property
    def lattice(self) -> Grid:
        return Grid(self.shape_px, self.core_px)

    @property
    def chunks(self) -> Grid:
        return Grid(self.shape_px, self.chunk_px)


@st.composite
def layouts(draw: st.DrawFn, max_core_px: int = MAX_CORE_PX) -> Layout:
    """Any scene from one pixel to three tiles a side, with any core, halo and chunk."""
    core_px = draw(st.integers(1, max_core_px))
    side_px = st.integers(1, MAX_TILES * core_px)
    return Layout(
        shape_px=(draw(side_px), draw(side_px)),
        core_px=core_px,
        chunk_px=core_px * draw(st.integers(1, MAX_TILES)),
        halo_px=draw(st.integers(0, 2 * core_px)),
    )


@st.composite
def spans(draw: st.DrawFn, low: int = -20, high: int = 20) -> Span:
    start = draw(st.integers(low, high - 1))
    return Span(start, draw(st.integers(start + 1, high)))


@st.composite
def windows(draw: st.DrawFn, low: int = -20, high: int = 20) -> Window:
    return Window(draw(spans(low, high)), draw(spans(low, high)))


@st.composite
def stripes(draw: st.DrawFn, num_rows: int) -> list[Span]:
    """The rows of a scene, cut into stripes at any places."""
    cuts = draw(st.sets(st.integers(1, num_rows - 1))) if num_rows > 1 else set()
    edges = [0, *sorted(cuts), num_rows]
    return [Span(start, stop) for start, stop in pairwise(edges)]
