"""A run as workers know it: resolved and picklable, with no path to interpret and no default to guess."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from batchseg.classes import ClassInfo
from batchseg.engine.inputs import InputRule
from batchseg.engine.route import Doubt
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.records import Record
from batchseg.output.sheet import SheetWork
from batchseg.output.stored import ZarrLayout
from batchseg.recipe import NO_TRUST, NodataPolicy, Trust
from batchseg.scene.georef import Georef
from batchseg.scene.pixels import Source
from batchseg.scene.polygons import Polygons
from batchseg.scene.raster_file import RasterFile
from batchseg.scene.source import open_source
from batchseg.score.reference import Reference
from batchseg.tiers import Tier
from tiling.grid import Grid
from tiling.span import Window
from tiling.tileset import TileSet


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJob:
    """The bundle of one tier, as this run uses it."""

    ref: str
    digest: str
    halo_px: int
    devices: tuple[str, ...]
    """Kinds of devices that the bundle has numerics for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneJob:
    """One scene of a job."""

    name: str
    """Name of the scene's folder in the output."""
    grid: Georef
    """Size and place of the map that is made; all outputs lie on it."""
    raster: RasterFile
    """The file that pixels are read from."""
    bands: tuple[int, ...]
    """Numbers of the bands that the models get, in their order."""
    nodata_policy: NodataPolicy
    rules: dict[Tier, InputRule]
    """Conversion of raw values into the input of each model."""
    zarr: ZarrLayout
    """Layout of the stored layers in the output."""
    priority: Polygons | None
    """All priority ground of the scene, for the fade and for scores inside and outside of it; None: there is none."""
    priority_tiles: TileSet
    """Tiles that touch priority ground."""
    aoi: Polygons | None
    """Area of interest; None: the whole scene."""
    labels: Reference | None
    """Reference labels; None: the scene is not scored."""

    @property
    def shape_px(self) -> tuple[int, int]:
        return self.grid.shape_px

    def open_source(self) -> Source:
        """Make the source of the scene's pixels; it opens nothing until the first read."""
        return open_source(self.raster, self.bands, self.nodata_policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that a run does, whatever pool does it."""

    fingerprint: str
    core_px: int
    chunk_px: int
    models: dict[Tier, ModelJob]
    classes: tuple[ClassInfo, ...]
    nodata: int
    """Code of the labels layer where nothing is labelled."""
    scenes: dict[str, SceneJob]
    """Scenes by name, in the order of the recipe."""
    doubt: Doubt | None = None
    """Rule that finds uncertain bulk tiles; None: tiles are routed by place alone."""
    audit_share: float = 0.0
    """Share of tiles that both models run on."""
    fade_px: int = 0
    """Width of the edges over which heavy tiles turn into bulk tiles."""
    trust: Trust = NO_TRUST
    """Permissions of the recipe's author for what scenes refer to, for the pictures of the report."""

    def chunk_grid(self, scene: SceneJob) -> Grid:
        return Grid(scene.shape_px, self.chunk_px)

    def lattice(self, scene: SceneJob) -> Grid:
        return Grid(scene.shape_px, self.core_px)

    def window(self, key: ChunkKey) -> Window:
        return self.chunk_grid(self.scenes[key.scene]).window(key.row, key.col)

    def list_chunks(self, scene: SceneJob) -> list[ChunkKey]:
        return [ChunkKey(scene.name, row, col) for row, col in self.chunk_grid(scene)]

    def list_sheets(self, scene: SceneJob) -> list[SheetKey]:
        return [SheetKey(scene.name, row, col) for row, col in scene.zarr.sheets]

    def list_sheet_chunks(self, sheet: SheetKey) -> list[ChunkKey]:
        """List the chunks that a sheet is made of."""
        chunks = self.chunk_grid(self.scenes[sheet.scene]).touching(self.sheet_window(sheet))
        return [ChunkKey(sheet.scene, row, col) for row, col in chunks]

    def sheet_window(self, sheet: SheetKey) -> Window:
        return self.scenes[sheet.scene].zarr.sheets.window(sheet.row, sheet.col)

    def make_sheet_work(self, sheet: SheetKey, records: Iterable[Record]) -> SheetWork:
        """Make the work of publishing a sheet's GeoTIFFs."""
        return SheetWork(
            layout=self.scenes[sheet.scene].zarr, key=sheet, core_px=self.core_px, areas_km2=self.sum_areas_km2(records)
        )

    def sum_areas_km2(self, records: Iterable[Record]) -> dict[str, dict[int, float]]:
        """Sum the ground area of each class over these chunks, by layer and class id; empty when no area is known."""
        areas = [record.measured.class_area_km2 for record in records]
        known = [area for area in areas if area is not None]
        return {"labels": {c.id: sum(area[i] for area in known) for i, c in enumerate(self.classes)}} if known else {}

    @property
    def halo_px(self) -> int:
        """The widest halo of all models, which is read around each chunk."""
        return max(model.halo_px for model in self.models.values())
