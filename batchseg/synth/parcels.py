"""Farmland: districts, each with its own ploughing direction, cut into rectangular parcels; lanes lie between them.

A district is the Voronoi cell of a jittered lattice. Inside it, strips across one axis and parcels along the
other have hashed widths, so borders are straight and parcels lie side by side. The crop is hashed by parcel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchseg.synth.materials import ID
from batchseg.synth.noise import (
    F32,
    I64,
    U32,
    PixelGrid,
    draw,
    hash_nodes,
    make_direction,
    make_layer_key,
    mix,
    rehash,
    to_unit,
)

_DISTRICT_PX = 704
_FAR = np.float32(1e9)
_WAVE_PX = 9.0
_WAVE_REACH_PX = 34.0  # more than noise ever bends a border

# (upper end of the hashed share, material): the crop rotation.
_CROPS = (
    (0.22, "cereal"),
    (0.36, "ripe"),
    (0.47, "stubble"),
    (0.62, "meadow"),
    (0.71, "tilled"),
    (0.84, "fallow"),
    (0.93, "paddy"),
    (0.965, "nursery"),
    (1.00, "orchard"),
)
_CROP_BY_SHARE = np.array(
    [next(ID[name] for end, name in _CROPS if (k + 0.5) / 256.0 <= end) for k in range(256)], np.uint8
)


@dataclass(slots=True, kw_only=True)
class Districts:
    """The district of each place, and the border to the next district."""

    index: I64  # into `sites`, of the nearest site
    sites: F32  # one row per district: y, x, cos, sin, strip width, parcel length
    words: U32  # one hashed word per district
    border_px: F32  # distance to the border of the district
    border_word: U32  # one hashed word per border, the same from both sides


def _make_site_table(seed: int, cells: list[tuple[int, int]]) -> tuple[F32, U32]:
    rows = []
    for iy, ix in cells:
        cos, sin = make_direction(draw(seed, "district/turn", iy, ix))
        rows.append(
            (
                (iy + 0.25 + 0.5 * draw(seed, "district/y", iy, ix)) * _DISTRICT_PX,
                (ix + 0.25 + 0.5 * draw(seed, "district/x", iy, ix)) * _DISTRICT_PX,
                cos,
                sin,
                90.0 + 70.0 * draw(seed, "district/strip", iy, ix),
                190.0 + 160.0 * draw(seed, "district/length", iy, ix),
            )
        )
    nodes = np.array(cells, np.int64)
    return np.array(rows, np.float32), hash_nodes(make_layer_key(seed, "district"), nodes[:, 0], nodes[:, 1])


def _select_contenders(grid: PixelGrid, sites: F32, words: U32) -> tuple[F32, U32]:
    """Select the sites that can be nearest or second nearest somewhere in the window. The others change nothing."""
    box, zero = grid.bounds, np.float32(0.0)
    y, x, wave = sites[:, 0], sites[:, 1], np.float32(_WAVE_REACH_PX)
    near_y = np.maximum(np.maximum(box.y0 - wave - y, y - box.y1 - wave), zero)
    near_x = np.maximum(np.maximum(box.x0 - wave - x, x - box.x1 - wave), zero)
    far_y = np.maximum(y - box.y0 + wave, box.y1 + wave - y)
    far_x = np.maximum(x - box.x0 + wave, box.x1 + wave - x)
    second_far = np.sort(far_y * far_y + far_x * far_x)[1]
    kept = near_y * near_y + near_x * near_x <= second_far
    return sites[kept], words[kept]


def find_districts(grid: PixelGrid) -> Districts:
    """Find the nearest and second nearest site of every pixel. Borders bend a little, as lanes do."""
    wave_y = grid.make_noise("district/wave-y", 256) * np.float32(_WAVE_PX)
    wave_x = grid.make_noise("district/wave-x", 256) * np.float32(_WAVE_PX)
    y, x = grid.y + wave_y, grid.x + wave_x
    # One more cell, beyond the reach of the wave, holds every site that can be nearest or second nearest.
    sites, words = _make_site_table(grid.seed, grid.bounds.list_cells(_DISTRICT_PX, _DISTRICT_PX + _WAVE_REACH_PX))
    sites, words = _select_contenders(grid, sites, words)
    first = np.full(grid.shape, _FAR, np.float32)
    second = np.full(grid.shape, _FAR, np.float32)
    index = np.zeros(grid.shape, np.int64)
    index2 = np.zeros(grid.shape, np.int64)
    for k, site in enumerate(sites):
        dy, dx = y - site[0], x - site[1]
        d2 = dy * dy
        d2 += dx * dx
        nearest = d2 < first
        nearer = d2 < second
        nearer &= ~nearest
        np.copyto(second, d2, where=nearer)
        np.copyto(index2, k, where=nearer)
        np.copyto(second, first, where=nearest)
        np.copyto(index2, index, where=nearest)
        np.copyto(first, d2, where=nearest)
        np.copyto(index, k, where=nearest)
    ay, ax = sites[:, 0], sites[:, 1]
    apart = np.sqrt((ay[:, None] - ay) * (ay[:, None] - ay) + (ax[:, None] - ax) * (ax[:, None] - ax))
    pair = index * len(sites) + index2
    inverse = np.float32(0.5) / np.maximum(apart, np.float32(1.0))
    second -= first
    second *= np.take(inverse.ravel(), pair)
    both = mix(words[:, None] + words[None, :])
    return Districts(index=index, sites=sites, words=words, border_px=second, border_word=np.take(both.ravel(), pair))


@dataclass(slots=True, kw_only=True)
class Parcels:
    material: NDArrayU8
    word: U32  # one hashed word per parcel
    edge_px: F32  # distance to the parcel's border
    row_u: F32  # across the rows, in pixels
    row_v: F32  # along the rows


NDArrayU8 = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def _cut_line(at: F32, width: F32, key: U32) -> tuple[U32, F32]:
    """Cut a line into pieces of jittered length: the hashed word of the piece, and the distance to its end."""
    t = at / width
    nearest = np.floor(t + np.float32(0.5))
    border = to_unit(mix(nearest.astype(np.int32).view(np.uint32) * np.uint32(0x9E3779B1) + key))
    border -= np.float32(0.5)
    border *= np.float32(0.56)
    border += nearest
    t -= border
    piece = nearest.astype(np.int32)
    piece -= t < 0
    word = mix(piece.view(np.uint32) * np.uint32(0x85EBCA77) ^ key)
    np.abs(t, out=t)
    t *= width
    return word, t


def find_parcels(grid: PixelGrid, d: Districts) -> Parcels:
    """Find the parcel of every pixel, as if all ground were farmland."""
    site_y, site_x, cos, sin, width, length = (np.take(column, d.index) for column in d.sites.T.copy())
    dy, dx = grid.y - site_y, grid.x - site_x
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    strip, edge_u = _cut_line(u, width, np.take(d.words, d.index))
    word, edge_v = _cut_line(v, length, strip)
    share = (word >> np.uint32(24)).astype(np.intp)
    return Parcels(
        material=np.take(_CROP_BY_SHARE, share),
        word=rehash(word, 1),
        edge_px=np.minimum(np.minimum(edge_u, edge_v), d.border_px),
        row_u=u,
        row_v=v,
    )


def make_farm_rows(p: Parcels) -> F32:
    """Tillage rows in [-1, 1], with tramlines; a parcel is worked along or across, with its own spacing."""
    across = (p.word & np.uint32(3)) == 0
    at = np.where(across, p.row_v, p.row_u)
    spacing = ((p.word >> np.uint32(4)) & np.uint32(3)).astype(np.float32) + np.float32(4.0)
    t: F32 = at / spacing
    t -= np.floor(t)
    t -= np.float32(0.5)
    np.abs(t, out=t)
    t *= np.float32(4.0)
    t -= np.float32(1.0)
    tram = at * np.float32(1.0 / 42.0)
    tram -= np.floor(tram)
    np.copyto(t, np.float32(-1.6), where=tram < np.float32(0.055))
    return t


def make_orchard_crowns(p: Parcels) -> F32:
    """Height of trees planted in rows: positive on a crown."""
    out = np.full(p.row_u.shape, 1.0, np.float32)
    for at in (p.row_u, p.row_v):
        t = at * np.float32(1.0 / 13.0)
        t -= np.floor(t)
        t -= np.float32(0.5)
        t *= t
        t *= np.float32(5.4)
        out -= t
    return out


def draw_borders(d: Districts, p: Parcels, material: NDArrayU8) -> None:
    """Draw the margins and hedges around parcels, and the hedges between districts."""
    material[p.edge_px < 2.0] = ID["margin"]
    hedged = (p.word >> np.uint32(8)) & np.uint32(7)
    material[(p.edge_px < 5.0) & (hedged == 0)] = ID["hedge"]
    kind = to_unit(d.border_word)
    wood = (kind >= 0.80) & (d.border_px < 6.0)
    material[wood] = ID["hedge"]
