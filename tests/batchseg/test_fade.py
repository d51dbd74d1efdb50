"""Tiles that are heavy by their outcome fade into the bulk model's labels at their edges; no other tile does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.engine.fade import bulk_stays
from batchseg.engine.tiers import BULK, HEAVY_BY_POLYGONS, HEAVY_BY_UNCERTAINTY
from batchseg.errors import RecipeError
from batchseg.recipe import Models, Route, Uncertain
from batchseg.recipe.recipe import MAX_FADE_PX
from tests.batchseg.test_route import CORE_PX, layer, place, polygons, uncertain
from tests.runs import Workplace
from tests.strategies import quick
from tiling.span import Window

__all__ = ["place"]
FADE_PX = 5


def margin(row: int, col: int, owned: Window, scene_shape_px: tuple[int, int], fade_px: int) -> float:
    """By how much, of all confidence, the heavy model has to be surer; pixel by pixel, as the documentation says it."""
    depths = []
    for at, span, size_px in ((row, owned.rows, scene_shape_px[0]), (col, owned.cols, scene_shape_px[1])):
        if span.start > 0:
            depths.append(at)
        if span.stop < size_px:
            depths.append(len(span) - 1 - at)
    middle = min(depths, default=fade_px) + 0.5
    return 0.5 - middle / fade_px if middle < fade_px else -2.0


@quick
@given(st.data())
def test_the_margin_falls_from_a_half_to_minus_a_half(data: st.DataObject) -> None:
    rows, cols = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    row, col = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    below, right = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    owned, scene_shape_px = Window.of(row, row + rows, col, col + cols), (row + rows + below, col + cols + right)
    fade_px = data.draw(st.integers(1, MAX_FADE_PX))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    bulk_HW, heavy_HW = random.integers(0, 255, (2, rows, cols), np.uint8)
    stays_HW = bulk_stays(bulk_HW, heavy_HW, owned=owned, scene_shape_px=scene_shape_px, fade_px=fade_px)
    for at in np.ndindex(rows, cols):
        surer = (int(heavy_HW[at]) - int(bulk_HW[at])) / 254
        assert stays_HW[at] == (surer < margin(*at, owned, scene_shape_px, fade_px) - 1e-12)


def test_codes_of_two_bytes_hold_the_widest_fade() -> None:
    sure, unsure = np.full((200, 200), 254, np.uint8), np.zeros((200, 200), np.uint8)
    inside = {"owned": Window.of(8, 208, 8, 208), "scene_shape_px": (999, 999), "fade_px": MAX_FADE_PX}
    assert not bulk_stays(unsure, sure, **inside).any()
    stays_HW = bulk_stays(sure, unsure, **inside)
    assert stays_HW[:, :MAX_FADE_PX].all()
    assert not stays_HW[MAX_FADE_PX:-MAX_FADE_PX, MAX_FADE_PX:-MAX_FADE_PX].any()


def test_only_edges_of_uncertain_tiles_fade(place: Workplace) -> None:
    maps = {}
    for tier in ("bulk", "heavy"):
        one = Models(**{tier: getattr(place.changes["models"], tier)})
        place.run(models=one, output=str(place.folder / tier))
        maps[tier] = {name: layer(place.folder / tier, name) for name in ("labels", "confidence")}
    route = Route(priority=(uncertain(0.5, fade=FADE_PX), polygons(place.folder)))
    place.run(route=route)
    codes_HW, labels_HW = layer(place.output, "tier"), layer(place.output, "labels")
    confidence_HW = layer(place.output, "confidence")
    heavy_HW = codes_HW == HEAVY_BY_POLYGONS
    faded = 0
    for row, col in np.ndindex(150 // CORE_PX + 1, 203 // CORE_PX + 1):
        owned = Window.of(row * CORE_PX, min(150, (row + 1) * CORE_PX), col * CORE_PX, min(203, (col + 1) * CORE_PX))
        at = slice(owned.rows.start, owned.rows.stop), slice(owned.cols.start, owned.cols.stop)
        if (codes_HW[at] == HEAVY_BY_UNCERTAINTY).any():
            codes = (maps[tier]["confidence"][at] for tier in ("bulk", "heavy"))
            stays_HW = bulk_stays(*codes, owned=owned, scene_shape_px=(150, 203), fade_px=FADE_PX)
            heavy_HW[at] = ~stays_HW
            faded += int(stays_HW.sum())
    assert faded > 0
    assert {BULK, HEAVY_BY_POLYGONS, HEAVY_BY_UNCERTAINTY} <= set(np.unique(codes_HW))
    for made_HW, name in ((labels_HW, "labels"), (confidence_HW, "confidence")):
        expected_HW = np.where(heavy_HW, maps["heavy"][name], maps["bulk"][name])
        valid_HW = maps["bulk"]["labels"] != 255
        assert (made_HW == expected_HW)[valid_HW].all()


@pytest.mark.parametrize("width", [-1, MAX_FADE_PX + 1])
def test_a_width_that_cannot_be_meant_is_refused(width: int) -> None:
    with pytest.raises(RecipeError, match="this is no width"):
        Uncertain(fade=width)


def test_a_fade_of_nothing_leaves_hard_edges(place: Workplace, tmp_path: Path) -> None:
    heavy = Models(heavy=place.changes["models"].heavy)
    place.run(models=heavy, output=str(tmp_path / "alone"))
    place.run(route=Route(priority=(uncertain(0.0, fade=0),)))
    assert (layer(place.output, "labels") == layer(tmp_path / "alone", "labels")).all()
