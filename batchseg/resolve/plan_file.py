"""run/plan.json: what reports need beside the ledger, so that they need neither the recipe nor the scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batchseg.classes import RGB, ClassInfo
from batchseg.engine.route import Doubt
from batchseg.json_values import put_sealed, read_value
from batchseg.layers import make_layers
from batchseg.ledger.keys import ChunkKey
from batchseg.output.stored import ZarrLayout
from batchseg.paths import PLAN_KEY
from batchseg.recipe import Trust
from batchseg.redact import make_public_url
from batchseg.resolve.file_layout import find_layout_warnings
from batchseg.resolve.job import Job
from batchseg.scene.georef import Georef
from batchseg.scene.place import explain_missing_area
from batchseg.schema import optional
from batchseg.score.reference import describe_reference
from batchseg.store import Store
from tiling.grid import Grid
from tiling.span import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """The bundle of one tier."""

    name: str
    ref: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenePlan:
    """One scene of a run."""

    url: str
    georef: Georef
    labels_id: str | None
    """Identity of the reference labels that scores are against; None: the scene is not scored."""
    area_note: str | None
    """Reason why the ground area is unknown; None: it is known."""
    layout_note: str | None = None
    """Reason why reading costs more than it must, and the repair; None: it does not."""
    nodata_note: str | None = None
    """Reason to think that the scene has undeclared nodata, and the line that declares it; None: there is none."""
    labels_note: str | None = None
    """The ground that the reference scores, or a warning about it; None where there is nothing to say."""
    sheet_px: int = 32768
    layers: tuple[str, ...] = ("labels", "confidence", "tier")
    bands: tuple[int, ...] = ()
    """Numbers of the bands that the models got, in their order."""
    trust: Trust | None = optional()
    """Permissions of the recipe's author for what files refer to; None: nothing beyond the defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """A run as its reports know it."""

    fingerprint: str
    class_names: tuple[str, ...]
    core_px: int
    chunk_px: int
    head_usd_per_hour: float
    scenes: dict[str, ScenePlan]
    classes: tuple[ClassInfo, ...] = ()
    """Classes, in the order of `class_names`."""
    nodata: int = 255
    models: dict[str, ModelPlan] = field(default_factory=dict)
    """Bundles by tier."""
    doubt: Doubt | None = None
    """Uncertainty that all chunks are routed by; None: tiles were routed by place alone."""

    @property
    def class_ids(self) -> tuple[int, ...]:
        return tuple(c.id for c in self.classes)

    @property
    def class_colours(self) -> tuple[RGB, ...]:
        return tuple(c.rgb for c in self.classes)

    def zarr_layout(self, scene: str) -> ZarrLayout:
        """Make the layout of the stored layers of a scene."""
        known = self.scenes[scene]
        return ZarrLayout(
            scene=scene,
            georef=known.georef,
            chunk_px=self.chunk_px,
            sheet_px=known.sheet_px,
            layers=make_layers(known.layers, self.classes),
        )

    def grid(self, scene: str) -> Grid:
        return Grid(self.scenes[scene].georef.shape_px, self.chunk_px)

    def window(self, key: ChunkKey) -> Window:
        return self.grid(key.scene).window(key.row, key.col)


def make_plan_file(job: Job, nodata_notes: Mapping[str, str], *, head_usd_per_hour: float) -> PlanFile:
    """Make the plan of a job; `nodata_notes` are the warnings about undeclared nodata, by scene."""
    layout_notes = find_layout_warnings(job)
    return PlanFile(
        fingerprint=job.fingerprint,
        class_names=tuple(c.name for c in job.classes),
        core_px=job.core_px,
        chunk_px=job.chunk_px,
        head_usd_per_hour=head_usd_per_hour,
        scenes={
            name: ScenePlan(
                url=make_public_url(scene.raster.url),
                georef=scene.grid,
                labels_id=None if scene.labels is None else scene.labels.id,
                area_note=explain_missing_area(scene.grid),
                layout_note=layout_notes.get(name),
                nodata_note=nodata_notes.get(name),
                labels_note=describe_reference(scene.labels),
                sheet_px=scene.zarr.sheet_px,
                layers=tuple(layer.name for layer in scene.zarr.layers),
                bands=scene.bands,
                trust=None if job.trust.is_default else job.trust,
            )
            for name, scene in job.scenes.items()
        },
        classes=job.classes,
        nodata=job.nodata,
        models={
            tier: ModelPlan(name=Path(model.ref).name, ref=model.ref, digest=model.digest)
            for tier, model in job.models.items()
        },
        doubt=job.doubt,
    )


def write_plan(store: Store, plan: PlanFile) -> None:
    put_sealed(store, PLAN_KEY, plan)


def read_plan(store: Store) -> PlanFile:
    """Read the plan of a run; raise DamagedError when the file is damaged."""
    return read_value(store, PLAN_KEY, PlanFile, todo="run `batchseg run` again; it makes this file again")
