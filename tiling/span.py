"""Half-open integer intervals and the windows made of two of them, in pixels of one scene."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The pixels start, start + 1, …, stop - 1. Never empty; may lie outside the scene."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.stop <= self.start:
            raise ValueError(f"a span holds at least one pixel, got [{self.start}, {self.stop})")

    def __len__(self) -> int:
        return self.stop - self.start

    def grow(self, halo_px: int) -> Span:
        return Span(self.start - halo_px, self.stop + halo_px)

    def clip(self, size_px: int) -> Span:
        """The part inside a scene of `size_px` pixels; the span must touch it."""
        return Span(max(self.start, 0), min(self.stop, size_px))

    def meets(self, other: Span) -> bool:
        return self.start < other.stop and other.start < self.stop

    def meet(self, other: Span) -> Span:
        return Span(max(self.start, other.start), min(self.stop, other.stop))

    def within(self, outer: Span) -> slice:
        """Locate this span in an array that holds `outer`."""
        if self.start < outer.start or outer.stop < self.stop:
            # A negative index would count from the array's other end, and give pixels of another place.
            raise ValueError(f"{self} is not inside {outer}")
        return slice(self.start - outer.start, self.stop - outer.start)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels."""

    rows: Span
    cols: Span

    @staticmethod
    def of(row_start: int, row_stop: int, col_start: int, col_stop: int) -> Window:
        return Window(Span(row_start, row_stop), Span(col_start, col_stop))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.cols)

    @property
    def num_px(self) -> int:
        return len(self.rows) * len(self.cols)

    def grow(self, halo_px: int) -> Window:
        return Window(self.rows.grow(halo_px), self.cols.grow(halo_px))

    def clip(self, shape_px: tuple[int, int]) -> Window:
        return Window(self.rows.clip(shape_px[0]), self.cols.clip(shape_px[1]))

    def meets(self, other: Window) -> bool:
        return self.rows.meets(other.rows) and self.cols.meets(other.cols)

    def meet(self, other: Window) -> Window:
        return Window(self.rows.meet(other.rows), self.cols.meet(other.cols))

    def within(self, outer: Window) -> tuple[slice, slice]:
        return self.rows.within(outer.rows), self.cols.within(outer.cols)
