"""Heavy tiles fade into the bulk model's labels where bulk tiles begin, except on priority ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.engine.fade import Edges, find_bulk_pixels, find_fading_edges
from batchseg.errors import RecipeError
from batchseg.ledger.keys import ChunkKey
from batchseg.recipe import Models, Route
from batchseg.recipe.heavy_tiles import MAX_FADE_PX
from batchseg.resolve.resolve import resolve
from batchseg.resolve.routing import count_heavy_alone, is_heavy_alone, make_chunk_need_rule
from batchseg.tiers import BULK, HEAVY_BY_POLYGONS, HEAVY_BY_UNCERTAINTY
from tests.batchseg.engine.test_route import CORE_PX, layer, place, polygons, uncertain
from tests.runs import Workplace
from tests.strategies import quick

__all__ = ["place"]
FADE_PX = 5


def margin(row: int, col: int, shape_px: tuple[int, int], edges: Edges, fade_px: int) -> float:
    """The lead in confidence that the heavy model needs, pixel by pixel, as documented."""
    top, bottom, left, right = edges
    depths = [row] * top + [shape_px[0] - 1 - row] * bottom + [col] * left + [shape_px[1] - 1 - col] * right
    middle = min(depths, default=fade_px) + 0.5
    return 0.5 - middle / fade_px if middle < fade_px else -2.0


@quick
@given(st.data())
def test_the_margin_falls_from_a_half_to_minus_a_half(data: st.DataObject) -> None:
    shape_px = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    edges = data.draw(st.tuples(*4 * [st.booleans()]))
    fade_px = data.draw(st.integers(1, MAX_FADE_PX))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    bulk_HW, heavy_HW = random.integers(0, 255, (2, *shape_px), np.uint8)
    stays_HW = find_bulk_pixels(bulk_HW, heavy_HW, edges=edges, fade_px=fade_px)
    for at in np.ndindex(shape_px):
        surer = (int(heavy_HW[at]) - int(bulk_HW[at])) / 254
        assert stays_HW[at] == (surer < margin(*at, shape_px, edges, fade_px) - 1e-12)


def test_two_bytes_hold_the_widest_fade() -> None:
    sure, unsure = np.full((200, 200), 254, np.uint8), np.zeros((200, 200), np.uint8)
    assert not find_bulk_pixels(unsure, sure, edges=(True,) * 4, fade_px=MAX_FADE_PX).any()
    stays_HW = find_bulk_pixels(sure, unsure, edges=(True,) * 4, fade_px=MAX_FADE_PX)
    assert stays_HW[:, :MAX_FADE_PX].all()
    assert not stays_HW[MAX_FADE_PX:-MAX_FADE_PX, MAX_FADE_PX:-MAX_FADE_PX].any()


@quick
@given(st.data())
def test_both_tiles_of_a_border_see_it_alike(data: st.DataObject) -> None:
    rows, cols = lattice = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    cells = [(row, col) for row in range(rows) for col in range(cols)]
    firm = data.draw(st.sets(st.sampled_from(cells)))
    edges = {cell: find_fading_edges(*cell, lattice=lattice, firm=firm) for cell in cells}
    for (row, col), (top, bottom, left, right) in edges.items():
        assert bottom == (row + 1 < rows and edges[row + 1, col][0])
        assert right == (col + 1 < cols and edges[row, col + 1][2])
        assert not (row == 0 and top)
        assert not (col == 0 and left)
        if (row, col) not in firm:
            assert (top, bottom, left, right) == (row > 0, row + 1 < rows, col > 0, col + 1 < cols)
    assert all((a in firm and b in firm) != fades for a, b, fades in _borders(edges))


def _borders(edges: dict[tuple[int, int], Edges]) -> list[tuple[tuple[int, int], tuple[int, int], bool]]:
    below = [((row, col), (row + 1, col), found[1]) for (row, col), found in edges.items()]
    beside = [((row, col), (row, col + 1), found[3]) for (row, col), found in edges.items()]
    return [border for border in below + beside if border[1] in edges]


def test_heavy_tiles_fade_and_the_ground_of_polygons_does_not(place: Workplace) -> None:
    maps = {}
    for tier in ("bulk", "heavy"):
        one = Models(**{tier: getattr(place.changes["models"], tier)})
        place.run(models=one, output=str(place.folder / tier))
        maps[tier] = {name: layer(place.folder / tier, name) for name in ("labels", "confidence")}
    place.run(route=Route(priority=(uncertain(0.5), polygons(place.folder)), fade=FADE_PX))
    codes_HW = layer(place.output, "tier")
    lattice = 150 // CORE_PX + 1, 203 // CORE_PX + 1
    firm = {(row, col) for row in range(3) for col in range(4)}
    heavy_HW = np.zeros((150, 203), bool)
    faded = {HEAVY_BY_POLYGONS: 0, HEAVY_BY_UNCERTAINTY: 0}
    for row, col in np.ndindex(lattice):
        at = (slice(row * CORE_PX, (row + 1) * CORE_PX), slice(col * CORE_PX, (col + 1) * CORE_PX))
        codes = set(np.unique(codes_HW[at])) & set(faded)
        assert ((row, col) in firm) >= (HEAVY_BY_POLYGONS in codes)
        if codes:
            edges = find_fading_edges(row, col, lattice=lattice, firm=firm)
            stays_HW = find_bulk_pixels(
                *(maps[t]["confidence"][at] for t in ("bulk", "heavy")), edges=edges, fade_px=FADE_PX
            )
            ground_HW = np.zeros((150, 203), bool)
            ground_HW[:46, :61] = True
            heavy_HW[at] = ~stays_HW | ground_HW[at]
            faded[codes.pop()] += int((~heavy_HW[at]).sum())
    assert min(faded.values()) > 0
    valid_HW = maps["bulk"]["labels"] != 255
    for name in ("labels", "confidence"):
        expected_HW = np.where(heavy_HW, maps["heavy"][name], maps["bulk"][name])
        assert (layer(place.output, name) == expected_HW)[valid_HW].all()
    assert set(np.unique(codes_HW)) >= {BULK, *faded}


def test_a_chunk_of_priority_ground_needs_the_bulk_model_where_it_fades(place: Workplace) -> None:
    for fade, alone, at_the_rim in ((FADE_PX, 2 * 3, "both"), (0, 3 * 4, "heavy")):
        recipe = place.recipe(route=Route(priority=(polygons(place.folder),), fade=fade))
        job = resolve(recipe).job
        (scene,) = job.scenes.values()
        assert count_heavy_alone(job, scene) == alone
        assert sum(is_heavy_alone(job, scene, row, col) for row, col in job.lattice(scene)) == alone
        need = make_chunk_need_rule(job)
        assert job.chunk_px == 2 * CORE_PX
        assert [need(ChunkKey(scene.name, 0, col)) for col in range(3)] == ["heavy", at_the_rim, "bulk"]


@pytest.mark.parametrize("width", [-1, MAX_FADE_PX + 1])
def test_a_width_out_of_range_is_refused(width: int) -> None:
    with pytest.raises(RecipeError, match="a fade must be a width in pixels"):
        Route(fade=width)


def test_a_fade_of_nothing_leaves_hard_edges(place: Workplace, tmp_path: Path) -> None:
    heavy = Models(heavy=place.changes["models"].heavy)
    place.run(models=heavy, output=str(tmp_path / "alone"))
    place.run(route=Route(priority=(uncertain(0.0),), fade=0))
    assert (layer(place.output, "labels") == layer(tmp_path / "alone", "labels")).all()
