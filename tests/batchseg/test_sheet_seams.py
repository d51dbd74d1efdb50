"""Seams are counted in stripes as they pass; the numbers are those of the whole map."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchseg.output.layer import Layer
from batchseg.output.mask import Mask
from batchseg.output.sheet import _SeamCounter
from batchseg.scene.georef import Georef
from tiling.seams import count_seams, count_tier_seams
from tiling.span import Span, Window

CORE_PX, CHUNK_PX, NODATA = 4, 8, 255


@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 40), max_size=6))
def test_stripes_count_what_the_whole_map_counts(rows: int, cols: int, seed: int, cuts: list[int]) -> None:
    random = np.random.default_rng(seed)
    labels_HW = random.choice(np.array([0, 1, 2, NODATA], np.uint8), (rows, cols))
    tiers_HW = random.integers(0, 2, (rows, cols), dtype=np.uint8)
    counter = _SeamCounter(_mask(rows, cols), Window.of(0, rows, 0, cols), CORE_PX)
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    for start, stop in pairwise(edges):
        counter.add(labels_HW[start:stop], tiers_HW[start:stop], Span(start, stop))
    common = {"core_px": CORE_PX, "nodata": NODATA}
    sides = [(labels_HW, tiers_HW, Span(0, rows)), (labels_HW.T, tiers_HW.T, Span(0, cols))]
    tile = [count_seams(labels, span, step_px=CORE_PX, **common) for labels, _, span in sides]
    chunk = [count_seams(labels, span, step_px=CHUNK_PX, **common) for labels, _, span in sides]
    between, same = zip(*(count_tier_seams(*side, **common) for side in sides), strict=True)
    assert counter.tile == tile[0] + tile[1]
    assert counter.chunk == chunk[0] + chunk[1]
    assert counter.tier == between[0] + between[1]
    assert counter.same_tier == same[0] + same[1]


def _mask(rows: int, cols: int) -> Mask:
    georef = Georef(width_px=cols, height_px=rows, crs_wkt=None, transform=None)
    labels = Layer(name="labels", kind="classes", dtype="uint8", nodata=NODATA)
    return Mask(scene="scene", georef=georef, chunk_px=CHUNK_PX, sheet_px=4096, layers=(labels,), attributes={})
