"""The layout of the ground: layers laid over each other, from farmland up to highways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchseg.synth import highway, parcels, terrain, town
from batchseg.synth.materials import ID
from batchseg.synth.noise import F32, PixelGrid, rehash, to_unit

U8 = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(slots=True, kw_only=True)
class GroundLayout:
    """The material of each pixel, and further fields for the painter."""

    material: U8
    tone: F32  # [-1, 1], of the parcel, pit, lake or yard
    warmth: F32
    rows: F32  # tillage
    orchard: F32  # height of planted trees
    shore: F32  # 0 at the water's edge, 1 in deep water
    strata: F32  # depth inside a pit
    forest: F32
    highway_px: F32  # distance to the middle of a highway


def lay_ground(grid: PixelGrid) -> GroundLayout:
    """Lay the layers of a window."""
    d = parcels.find_districts(grid)
    p = parcels.find_parcels(grid, d)
    out = GroundLayout(
        material=p.material,
        tone=to_unit(p.word) * np.float32(2.0) - np.float32(1.0),
        warmth=to_unit(rehash(p.word.copy(), 2)) * np.float32(2.0) - np.float32(1.0),
        rows=parcels.make_farm_rows(p),
        orchard=parcels.make_orchard_crowns(p),
        shore=np.ones(grid.shape, np.float32),
        strata=np.zeros(grid.shape, np.float32),
        forest=terrain.measure_forest(grid),
        highway_px=highway.measure_highway_px(grid),
    )
    parcels.draw_borders(d, p, out.material)
    out.material[out.forest > 0.0] = ID["forest"]
    _lay_pits(grid, out)
    _lay_lanes(d, out)
    _lay_towns(grid, out)
    _lay_water(grid, out)
    out.material[out.highway_px < highway.HALF_PX] = ID["highway"]
    return out


def _lay_pits(grid: PixelGrid, out: GroundLayout) -> None:
    pits = terrain.make_blobs(grid, terrain.PITS)
    if pits is None:
        return
    open_ground = pits.depth > 0.0
    out.material[open_ground] = ID["bare"]
    np.copyto(out.tone, pits.tone, where=open_ground)
    np.copyto(out.warmth, pits.warmth, where=open_ground)
    np.copyto(out.strata, pits.depth, where=open_ground)


def _lay_lanes(d: parcels.Districts, out: GroundLayout) -> None:
    kind = to_unit(d.border_word)
    free = out.material != ID["bare"]
    out.material[free & (d.border_px < 4.6) & (kind < 0.5)] = ID["lane"]
    out.material[free & (d.border_px < 4.2) & (kind >= 0.5) & (kind < 0.8)] = ID["track"]


def _lay_towns(grid: PixelGrid, out: GroundLayout) -> None:
    for t in town.find_towns(grid.seed, grid.bounds):
        part = grid.crop_around(t.y, t.x, t.reach_px)
        at = part.within(grid)
        s = town.make_streets(part, t)
        material = np.full(part.shape, ID["garden"], np.uint8)
        material[(s.zone == town.INDUSTRY) | (s.zone == town.SQUARE)] = ID["yard"]
        material[s.paved] = ID["street"]
        mine = s.paved | (s.zone != town.OUTSIDE)
        np.copyto(out.material[at], material, where=mine)
        np.copyto(out.tone[at], s.tone, where=mine)


def _is_built(material: U8) -> np.ndarray:
    return np.asarray((material == ID["street"]) | (material == ID["yard"]) | (material == ID["garden"]))


def _lay_water(grid: PixelGrid, out: GroundLayout) -> None:
    river = terrain.measure_river(grid)
    width = np.float32(14.0) * (grid.make_noise("river/sand", 128) - np.float32(0.25))
    sandy = (river > -np.minimum(width, np.float32(11.0))) & ~_is_built(out.material)
    out.material[sandy] = ID["bank"]
    depth = river
    tone = np.float32(-0.2)
    wet = river > 0.0
    out.material[wet] = ID["water"]
    np.copyto(out.tone, tone, where=wet)
    np.copyto(out.warmth, np.float32(0.0), where=wet)
    lakes = terrain.measure_lakes(grid, out.highway_px)
    if lakes is not None:
        in_lake = lakes.depth > 0.0
        out.material[in_lake] = ID["water"]
        np.copyto(out.tone, lakes.tone, where=in_lake)
        np.copyto(out.warmth, lakes.warmth, where=in_lake)
        depth = np.maximum(depth, lakes.depth)
    out.shore = np.clip(depth * np.float32(1.0 / 12.0), np.float32(0.0), np.float32(1.0))
