"""Everything that a run reads of one scene, opened and checked against the bundles: raster, polygons and reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchseg.classes import ClassInfo
from batchseg.errors import RecipeError
from batchseg.layers import make_layers
from batchseg.model.bundle import Bundle
from batchseg.model.fit import check_fit, find_common_bands, find_input_rule
from batchseg.output.levels import choose_sheet_side_px
from batchseg.output.stored import ZarrLayout
from batchseg.recipe.recipe import Recipe
from batchseg.resolve.job import SceneJob
from batchseg.scene.header import SceneHeader
from batchseg.scene.nodata import check_policy
from batchseg.scene.polygons import Polygons, find_touched_tiles, join_polygons, read_polygons
from batchseg.score.reference import Reference, open_reference
from batchseg.tiers import Tier
from tiling.grid import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneInputs:
    """One scene with all that the recipe adds to it."""

    header: SceneHeader
    bands: tuple[int, ...]
    """Numbers of the bands that the models get, in the models' order."""
    priority: tuple[Polygons, ...]
    """Priority ground, one entry per polygon file of the route."""
    aoi: Polygons | None
    """Area of interest; None: the whole scene."""
    reference: Reference | None
    """Reference labels; None: the scene is not scored."""


def read_scene_inputs(
    recipe: Recipe, header: SceneHeader, reference: Reference | None, bundles: dict[Tier, Bundle]
) -> SceneInputs:
    """Read the polygons of a scene, and check that every bundle fits the scene."""
    bands = find_common_bands(recipe, header, bundles)
    check_policy(header.raster, recipe.nodata, bands)
    for bundle in bundles.values():
        check_fit(recipe, header, bundle)
    return SceneInputs(
        header=header,
        bands=bands,
        priority=tuple(
            read_polygons(reason.polygons, where=reason.where, georef=header.grid, trust=recipe.trust)
            for reason in recipe.route.polygons
        ),
        aoi=None if recipe.aoi is None else read_polygons(recipe.aoi, georef=header.grid, trust=recipe.trust),
        reference=reference,
    )


def open_references(
    recipe: Recipe, headers: Sequence[SceneHeader], classes: Sequence[ClassInfo]
) -> list[Reference | None]:
    """Open the reference labels of each scene; None for a scene without them."""
    if not recipe.labels:
        return [None] * len(headers)
    if len(recipe.labels) != len(headers):
        raise RecipeError(
            "`labels` must have one entry per scene",
            where="labels",
            expected=f"{len(headers)} entries, in the order {', '.join(header.name for header in headers)}",
            got=str(len(recipe.labels)),
            todo="write null for a scene without reference labels",
        )
    return [
        None if labels is None else open_reference(labels, header.grid, header.raster.url, classes, recipe.trust)
        for labels, header in zip(recipe.labels, headers, strict=True)
    ]


def make_scene_job(recipe: Recipe, inputs: SceneInputs, bundles: dict[Tier, Bundle]) -> SceneJob:
    """Make what workers need to know of a scene."""
    header, grid = inputs.header, inputs.header.grid
    classes = next(iter(bundles.values())).contract.classes
    return SceneJob(
        name=header.name,
        grid=grid,
        raster=header.raster,
        bands=inputs.bands,
        nodata_policy=recipe.nodata,
        rules={tier: find_input_rule(recipe, header, bundle) for tier, bundle in bundles.items()},
        zarr=ZarrLayout(
            scene=header.name,
            georef=grid,
            chunk_px=recipe.tiling.chunk,
            sheet_px=choose_sheet_side_px(grid.shape_px, recipe.tiling.chunk, limit_px=recipe.tiling.sheet),
            layers=make_layers(recipe.outputs, classes),
        ),
        priority=join_polygons(inputs.priority) if inputs.priority else None,
        priority_tiles=find_touched_tiles(inputs.priority, Grid(grid.shape_px, recipe.tiling.core)),
        aoi=inputs.aoi,
        labels=inputs.reference,
    )
