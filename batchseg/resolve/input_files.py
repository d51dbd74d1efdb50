"""Every file that a run reads."""

from __future__ import annotations

from collections.abc import Iterator

from batchseg.collisions import list_bundle_files
from batchseg.recipe import LabelPolygons, Recipe
from batchseg.resolve.job import Job
from batchseg.scene.polygon_labels import HULL
from batchseg.scene.raster_file import RasterFile
from batchseg.scene.raster_labels import LabelsHeader


def list_inputs(recipe: Recipe, job: Job) -> Iterator[str]:
    """List every file that a run reads: scenes with their sidecars, labels, polygons and bundles."""
    for scene in job.scenes.values():
        yield from _list_raster_files(scene.raster)
        if isinstance(scene.labels, LabelsHeader):
            yield from _list_raster_files(scene.labels.raster)
    yield from list_named_files(recipe)


def _list_raster_files(raster: RasterFile) -> Iterator[str]:
    yield from (raster.url, *raster.files, *(part.url for part in raster.parts))


def list_named_files(recipe: Recipe) -> Iterator[str]:
    """List the files that a recipe names, apart from the scenes."""
    for labels in recipe.labels:
        if labels is not None:
            yield labels.polygons if isinstance(labels, LabelPolygons) else labels
        if isinstance(labels, LabelPolygons) and labels.within is not None and labels.within != HULL:
            yield labels.within
    yield from (reason.polygons for reason in recipe.route.polygons)
    if recipe.aoi is not None:
        yield recipe.aoi
    for model in (recipe.models.bulk, recipe.models.heavy):
        if model is not None and not model.startswith("zoo:"):
            yield from list_bundle_files(model)
