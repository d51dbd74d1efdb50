"""Highways: roads between the centres of neighbouring towns."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from batchseg.synth.noise import F32, Bounds, Places, draw

TOWN_PERIOD_PX = 1280
HALF_PX = 9.0
FAR_PX = 60.0  # distances beyond this are cut off
_SWAY_PX = 40.0
Link = tuple[tuple[float, float], tuple[float, float]]


@lru_cache(maxsize=4096)
def find_town_centre(seed: int, iy: int, ix: int) -> tuple[float, float]:
    """The centre of the town of a lattice cell, as (y, x)."""
    at = [draw(seed, "town/centre", iy, ix, k) for k in range(2)]
    return (iy + 0.32 + 0.36 * at[0]) * TOWN_PERIOD_PX, (ix + 0.32 + 0.36 * at[1]) * TOWN_PERIOD_PX


def measure_town_distance2_px(seed: int, y: float, x: float, *, apart_from: tuple[int, int] | None = None) -> float:
    """Squared distance to the nearest town centre; the town `apart_from` is left out."""
    iy, ix = int(y // TOWN_PERIOD_PX), int(x // TOWN_PERIOD_PX)
    nodes = [(iy + j, ix + k) for j in (-1, 0, 1) for k in (-1, 0, 1)]
    centres = [find_town_centre(seed, *node) for node in nodes if node != apart_from]
    return min((cy - y) ** 2 + (cx - x) ** 2 for cy, cx in centres)


def measure_highway_px(places: Places) -> F32:
    """Distance to the middle of the nearest highway."""
    out = np.full(places.shape, FAR_PX, np.float32)
    near = _find_links(places.seed, places.bounds)
    if near:
        sway = np.float32(_SWAY_PX) * places.make_noise("highway/sway", 384)
        for a, b in near:
            np.minimum(out, _measure_link_distance(places, a, b, sway), out=out)
    return out


def _find_links(seed: int, box: Bounds) -> list[Link]:
    links = []
    for iy, ix in box.list_cells(TOWN_PERIOD_PX, TOWN_PERIOD_PX):
        for ny, nx in ((iy, ix + 1), (iy + 1, ix)):
            if draw(seed, "highway", iy, ix, ny - iy) < 0.86:
                link = find_town_centre(seed, iy, ix), find_town_centre(seed, ny, nx)
                if _may_touch(link, box):
                    links.append(link)
    return links


def _may_touch(link: Link, box: Bounds) -> bool:
    """Test if a road, with its sway, may come within FAR_PX of a box."""
    (ay, ax), (by, bx) = link
    length: float = ((by - ay) ** 2 + (bx - ax) ** 2) ** 0.5
    ey, ex = (by - ay) / length, (bx - ax) / length
    cy, cx = (box.y0 + box.y1) / 2.0 - ay, (box.x0 + box.x1) / 2.0 - ax
    half: float = ((box.y1 - box.y0) ** 2 + (box.x1 - box.x0) ** 2) ** 0.5 / 2.0
    margin = half + FAR_PX + 3.7 * _SWAY_PX  # 3.7: more than noise ever reaches
    along = cy * ey + cx * ex
    return abs(cx * ey - cy * ex) < margin and -margin < along < length + margin


def _measure_link_distance(places: Places, a: tuple[float, float], b: tuple[float, float], sway: F32) -> F32:
    length = ((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5
    ey, ex = np.float32((b[0] - a[0]) / length), np.float32((b[1] - a[1]) / length)
    dy, dx = places.y - np.float32(a[0]), places.x - np.float32(a[1])
    along = dy * ey + dx * ex
    t = np.clip(along * np.float32(1.0 / length), np.float32(0.0), np.float32(1.0))
    off = dx * ey - dy * ex + sway * (np.float32(4.0) * t * (np.float32(1.0) - t))
    past = along - t * np.float32(length)
    away: F32 = np.sqrt(off * off + past * past)
    return away
