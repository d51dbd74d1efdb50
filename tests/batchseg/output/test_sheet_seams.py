"""Seams counted in stripes of sheets add up to those of the whole map."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchseg.json_values import parse_value, to_json
from batchseg.ledger.keys import SheetKey
from batchseg.ledger.records import Attempt, SheetRecord
from batchseg.output.sheet_seams import MapCut, SeamCounter, SeamCounts, count_seams_between
from tiling.grid import Grid
from tiling.seams import count_seams, count_tier_seams
from tiling.span import Span, Window

CORE_PX, CHUNK_PX, NODATA = 4, 8, 255
CUT = MapCut(core_px=CORE_PX, chunk_px=CHUNK_PX, nodata=NODATA)
ATTEMPT = Attempt(
    number=1, worker="w", pool="p", device="cpu", environment={}, usd_per_hour=1.0, started_unix_s=0.0,
    ended_unix_s=1.0, seconds={},
)  # fmt: skip

Map = tuple[NDArray[Any], NDArray[Any]]


@st.composite
def maps(draw: st.DrawFn) -> Map:
    rows, cols = draw(st.integers(1, 40)), draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels_HW = random.choice(np.array([0, 1, 2, NODATA], np.uint8), (rows, cols))
    return labels_HW, random.integers(0, 2, (rows, cols), dtype=np.uint8)


def count_whole(labels_HW: NDArray[Any], tiers_HW: NDArray[Any]) -> SeamCounts:
    """Count in one piece, with the counting functions alone."""
    common = {"core_px": CORE_PX, "nodata": NODATA}
    rows, cols = labels_HW.shape
    sides = [(labels_HW, tiers_HW, Span(0, rows)), (labels_HW.T, tiers_HW.T, Span(0, cols))]
    tile = [count_seams(labels, span, step_px=CORE_PX, **common) for labels, _, span in sides]
    chunk = [count_seams(labels, span, step_px=CHUNK_PX, **common) for labels, _, span in sides]
    between, same = zip(*(count_tier_seams(*side, **common) for side in sides), strict=True)
    return SeamCounts(
        tile=tile[0] + tile[1], chunk=chunk[0] + chunk[1], tier=between[0] + between[1], same_tier=same[0] + same[1]
    )


def count_sheet(whole: Map, window: Window, cuts: list[int]) -> SeamCounter:
    """Count one sheet in stripes that end at `cuts`."""
    counter, rows, cols = SeamCounter(CUT, window), window.rows, window.cols
    edges = sorted({rows.start, rows.stop, *(cut for cut in cuts if rows.start < cut < rows.stop)})
    for start, stop in pairwise(edges):
        labels_HW, tiers_HW = (layer[start:stop, cols.start : cols.stop] for layer in whole)
        counter.add(labels_HW, tiers_HW, Span(start, stop))
    return counter


@given(maps(), st.lists(st.integers(0, 40), max_size=6))
def test_stripes_count_what_the_whole_map_counts(whole: Map, cuts: list[int]) -> None:
    rows, cols = whole[0].shape
    assert count_sheet(whole, Window.of(0, rows, 0, cols), cuts).counts == count_whole(*whole)


@given(maps(), st.sampled_from([8, 16, 24]), st.lists(st.integers(0, 40), max_size=3))
def test_sheets_and_the_borders_between_them_count_what_the_whole_map_counts(
    whole: Map, sheet_px: int, cuts: list[int]
) -> None:
    grid, sheets = Grid(whole[0].shape, sheet_px), []
    for row, col in grid:
        counter = count_sheet(whole, grid.window(row, col), cuts)
        record = SheetRecord(
            key=SheetKey("scene", row, col), fingerprint="f", inputs_digest="", missing=(), objects=(),
            seams=counter.counts.to_seams(), edges=counter.pack_edges(), attempt=ATTEMPT,
        )  # fmt: skip
        kept = parse_value(to_json(record), SheetRecord, where="here")
        assert isinstance(kept, SheetRecord)
        sheets.append(kept)
    inside = sum((SeamCounts.from_seams(sheet.seams) for sheet in sheets), SeamCounts())
    assert inside + count_seams_between(sheets, CUT, sheet_px=sheet_px) == count_whole(*whole)


def test_a_sheet_that_was_given_up_takes_its_borders_with_it() -> None:
    labels_HW = np.indices((16, 16)).sum(0).astype(np.uint8) % 7
    whole = labels_HW, np.zeros_like(labels_HW)
    left = count_sheet(whole, Window.of(0, 16, 0, 8), [])
    record = SheetRecord(
        key=SheetKey("scene", 0, 0), fingerprint="f", inputs_digest="", missing=(), objects=(),
        seams=left.counts.to_seams(), edges=left.pack_edges(), attempt=ATTEMPT,
    )  # fmt: skip
    assert count_seams_between([record], CUT, sheet_px=8) == SeamCounts()
