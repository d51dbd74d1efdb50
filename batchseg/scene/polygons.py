"""Polygons over one scene: the tiles that they touch, and the pixels that they cover.

Theory of operation
-------------------
Polygons are kept in pixel coordinates, on a grid of 1/1024 px. So a rotated or south-up scene needs no care later, and
the digest covers exactly what is drawn. A pixel is covered when its centre is. Polygons are drawn in fixed cells that
are anchored at the scene's first pixel, each with its own origin. The same numbers go into the same arithmetic for any
window, so the mask of a pixel cannot depend on how the scene is cut into chunks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from batchseg.recipe.trust import NO_TRUST, Trust
from batchseg.scene.dataset import gdal, ignore_missing_georeference
from batchseg.scene.geometries import Geometries, extract_polygons
from batchseg.scene.georef import Georef
from tiling.grid import Grid
from tiling.span import Window
from tiling.tileset import TileSet

if TYPE_CHECKING:
    from batchseg.scene.vectors import VectorLayer

SNAP_PX = 1 / 1024
INSET_PX = SNAP_PX / 2
"""Half of the grid that corners lie on; by this inset, neighbours that only share an edge do not touch."""
CELL_PX = 1024
BOXES_AT_ONCE = 1 << 16
"""Number of tiles that are compared with one polygon at once: a country over a wide scene covers millions."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """The polygons of a vector file over one scene. There may be none, although the file has polygons elsewhere."""

    wkb: tuple[bytes, ...]
    """Single polygons in pixels (x = column, y = row), in a fixed order."""
    shape_px: tuple[int, int]
    _tree: list[Any] = field(default_factory=list, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.wkb)

    def __reduce__(self) -> tuple[Any, ...]:
        return Polygons, (self.wkb, self.shape_px)

    def digest(self) -> str:
        """Digest the enclosed ground, whatever the file and its format."""
        hashed = hashlib.blake2b(repr(self.shape_px).encode(), digest_size=16)
        for wkb in self.wkb:
            hashed.update(wkb)
        return hashed.hexdigest()

    def tree(self) -> Any:
        """Return the spatial index of the polygons, which is made once."""
        if not self._tree:
            tree = shapely.STRtree(shapely.from_wkb(list(self.wkb)))
            # The first query builds the index, so it runs before other threads see the tree.
            tree.query(shapely.Point(0, 0))
            self._tree.append(tree)
        return self._tree[0]

    def cover_share(self) -> float:
        """Compute the share of the scene that the polygons cover."""
        scene = shapely.box(0, 0, self.shape_px[1], self.shape_px[0])
        covered = shapely.union_all(shapely.intersection(shapely.from_wkb(list(self.wkb)), scene))
        return float(shapely.area(covered) / shapely.area(scene))

    def mask(self, window: Window) -> NDArray[np.bool_]:
        """Draw a window: True for pixels whose centres are inside a polygon."""
        covered_HW = np.zeros(window.shape, bool)
        cells = Grid(self.shape_px, CELL_PX)
        for row, col in cells.touching(window):
            cell = cells.full_window(row, col)
            part = cell.meet(window)
            covered_HW[part.within(window)] = self._draw(cell)[part.within(cell)]
        return covered_HW

    def _draw(self, cell: Window) -> NDArray[np.bool_]:
        left, top, right, bottom = cell.cols.start, cell.rows.start, cell.cols.stop, cell.rows.stop
        box = shapely.box(left, top, right, bottom)
        tree = self.tree()
        geometries = tree.geometries[np.sort(tree.query(box, predicate="intersects"))]
        if not len(geometries):
            return np.zeros(cell.shape, bool)
        if shapely.covers(geometries, box).any():
            return np.ones(cell.shape, bool)
        # A coastline may have a million corners, and those of other cells would cost time in every line that is drawn.
        near = extract_polygons(shapely.intersection(geometries, shapely.box(left - 1, top - 1, right + 1, bottom + 1)))
        local = shapely.transform(near, lambda xy_N2: xy_N2 - (left, top))
        if not len(local):
            return np.zeros(cell.shape, bool)
        with gdal(), ignore_missing_georeference():
            return np.asarray(rasterize(local, out_shape=cell.shape, fill=0, default_value=1, dtype="uint8") == 1)


def read_polygons(url: str, *, where: str | None = None, georef: Georef, trust: Trust = NO_TRUST) -> Polygons:
    """Read the polygons of a vector file, on the grid of one scene.

    Args:
        url: Any file that GDAL reads as vectors.
        where: Attribute filter, as in SQL.
        georef: Grid of the scene.
        trust: What the author of the recipe allows the file to refer to.

    Raises:
        RecipeError: The file cannot be read, has no polygon that passes the filter, or cannot be projected.
    """
    # This import brings pandas, which takes a second; a worker that only draws never pays for it.
    from batchseg.scene.vectors import open_layer

    with open_layer(url, trust) as layer:
        return read_layer_polygons(layer, where=where, georef=georef)


def read_layer_polygons(layer: VectorLayer, *, where: str | None, georef: Georef) -> Polygons:
    """Read the polygons of an open layer that pass the filter."""
    from batchseg.scene.projection import project_polygons

    polygons, crs = layer.read_polygons(where)
    return make_polygons(project_polygons(layer.url, polygons, crs, georef), georef.shape_px)


def read_layer_marks(layer: VectorLayer, *, where: str | None, georef: Georef) -> Polygons:
    """Read the polygons and points of an open layer; a point marks the pixel that it is in."""
    from batchseg.scene.projection import project_points, project_polygons

    polygons, points, crs = layer.read_polygons_and_points(where)
    parts = [project_polygons(layer.url, polygons, crs, georef)] if len(polygons) else []
    parts += [project_points(layer.url, points, crs, georef)] if len(points) else []
    return make_polygons(np.concatenate(parts), georef.shape_px)


def make_polygons(pixel_space: Geometries, shape_px: tuple[int, int]) -> Polygons:
    """Snap polygons, bring them into one form and order, and drop those that share no ground with the scene."""
    scene = shapely.box(INSET_PX, INSET_PX, shape_px[1] - INSET_PX, shape_px[0] - INSET_PX)
    # With polygons without width, GEOS divides by zero inside, recovers, and leaves a flag for numpy.
    with np.errstate(all="ignore"):
        snapped = extract_polygons(shapely.set_precision(pixel_space, SNAP_PX))
        kept = shapely.normalize(snapped[shapely.intersects(snapped, scene)])
    return Polygons(tuple(sorted({bytes(wkb) for wkb in shapely.to_wkb(kept, byte_order=1)})), shape_px)


def join_polygons(layers: Sequence[Polygons]) -> Polygons:
    """Join the polygons of several layers over one scene."""
    wkb = {wkb for polygons in layers for wkb in polygons.wkb}
    return Polygons(tuple(sorted(wkb)), layers[0].shape_px)


def make_hull(layers: Sequence[Polygons]) -> Polygons:
    """Make the convex hull of all polygons of several layers over one scene."""
    geometries = [shapely.from_wkb(list(polygons.wkb)) for polygons in layers]
    hull = shapely.convex_hull(shapely.union_all([shapely.union_all(part) for part in geometries]))
    return make_polygons(np.array([hull]), layers[0].shape_px)


def find_touched_tiles(layers: Iterable[Polygons], lattice: Grid) -> TileSet:
    """Find the tiles whose own pixels share ground with a polygon of any layer; a common edge alone is not ground."""
    touched = np.zeros(lattice.shape, bool)
    for polygons in layers:
        assert polygons.shape_px == lattice.shape_px
        _mark_touched(polygons, lattice, touched)
    return TileSet.of_mask(touched)


def _mark_touched(polygons: Polygons, lattice: Grid, touched: NDArray[np.bool_]) -> None:
    geometries = polygons.tree().geometries
    cells = _find_cells(geometries, lattice)
    # Most layers hold small things inside one tile, for which bounds are enough.
    is_in_one = (cells[:, :2] == cells[:, 2:]).all(axis=1)
    touched[cells[is_in_one, 0], cells[is_in_one, 1]] = True
    for polygon, (top, left, bottom, right) in zip(geometries[~is_in_one], cells[~is_in_one].tolist(), strict=True):
        shapely.prepare(polygon)
        step = max(1, BOXES_AT_ONCE // (right + 1 - left))
        for row in range(top, bottom + 1, step):
            rows, cols = range(row, min(row + step, bottom + 1)), range(left, right + 1)
            touched[rows.start : rows.stop, cols.start : cols.stop] |= _compare_tiles(polygon, rows, cols, lattice)


def _find_cells(polygons: Geometries, lattice: Grid) -> NDArray[np.int64]:
    """Find the first row and column, and the last row and column, of the tiles under the bounds of each polygon."""
    left, top, right, bottom = shapely.bounds(polygons).T
    first = np.stack([top, left], axis=1) + INSET_PX
    last = np.stack([bottom, right], axis=1) - INSET_PX
    edges = np.concatenate([first, last], axis=1) // lattice.cell_px
    return np.asarray(np.clip(edges, 0, np.tile(lattice.shape, 2) - 1), np.int64)


def _compare_tiles(polygon: Any, rows: range, cols: range, lattice: Grid) -> NDArray[np.bool_]:
    row_N, col_N = (index.ravel() for index in np.meshgrid(rows, cols, indexing="ij"))
    height_px, width_px = lattice.shape_px
    boxes = shapely.box(
        col_N * lattice.cell_px + INSET_PX,
        row_N * lattice.cell_px + INSET_PX,
        np.minimum((col_N + 1) * lattice.cell_px, width_px) - INSET_PX,
        np.minimum((row_N + 1) * lattice.cell_px, height_px) - INSET_PX,
    )
    return np.asarray(shapely.intersects(polygon, boxes), bool).reshape(len(rows), len(cols))
