"""What a worker has to know of a run, resolved and picklable. No paths to be understood, no defaults to be guessed."""

from __future__ import annotations

from dataclasses import dataclass

from batchseg.engine.inputs import InputRule
from batchseg.engine.tiers import Tier
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.model.contract import ClassInfo
from batchseg.output.mask import Mask
from batchseg.scene.header import SceneHeader
from batchseg.scene.labels import LabelsHeader
from batchseg.scene.nodata import NodataPolicy
from batchseg.scene.polygons import Polygons
from tiling.grid import Grid
from tiling.span import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelJob:
    """One tier's bundle, as this run uses it."""

    ref: str
    digest: str
    halo_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneJob:
    header: SceneHeader
    bands: tuple[int, ...]
    policy: NodataPolicy
    rules: dict[Tier, InputRule]
    mask: Mask
    priority_tiles: frozenset[tuple[int, int]]
    aoi: Polygons | None
    labels: LabelsHeader | None

    @property
    def shape_px(self) -> tuple[int, int]:
        return self.header.georef.height_px, self.header.georef.width_px


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    fingerprint: str
    core_px: int
    chunk_px: int
    models: dict[Tier, ModelJob]
    classes: tuple[ClassInfo, ...]
    nodata: int
    scenes: dict[str, SceneJob]

    def chunk_grid(self, scene: str) -> Grid:
        return Grid(self.scenes[scene].shape_px, self.chunk_px)

    def lattice(self, scene: str) -> Grid:
        return Grid(self.scenes[scene].shape_px, self.core_px)

    def window(self, key: ChunkKey) -> Window:
        return self.chunk_grid(key.scene).window(key.row, key.col)

    def chunks_of(self, sheet: SheetKey) -> list[ChunkKey]:
        """A scene has one sheet so far: all of its chunks."""
        return [ChunkKey(sheet.scene, row, col) for row, col in self.chunk_grid(sheet.scene)]

    def sheet_of(self, scene: str) -> SheetKey:
        return SheetKey(scene, 0, 0)

    @property
    def halo_px(self) -> int:
        """The widest, which decides what is read around a chunk."""
        return max(model.halo_px for model in self.models.values())
