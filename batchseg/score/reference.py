"""Reference labels of a scene, whether they are a raster or polygons."""

from __future__ import annotations

from collections.abc import Sequence

from batchseg.classes import ClassInfo
from batchseg.recipe import NO_TRUST, LabelPolygons, Trust
from batchseg.scene.georef import Georef
from batchseg.scene.polygon_labels import PolygonLabels, is_vector, read_polygon_labels
from batchseg.scene.raster_labels import LabelsHeader, LabelSource, read_labels_header
from batchseg.score.agreement import ReferenceLabels

Reference = LabelsHeader | PolygonLabels


def open_reference(
    given: str | LabelPolygons,
    georef: Georef,
    scene_url: str,
    classes: Sequence[ClassInfo],
    trust: Trust = NO_TRUST,
) -> Reference:
    """Read the header of a reference raster, or the polygons of a vector file.

    A raster must lie on the scene's grid; polygons are transformed to it.
    """
    if isinstance(given, str):
        if not is_vector(given):
            return read_labels_header(given, georef, scene_url, trust)
        given = LabelPolygons(polygons=given)
    return read_polygon_labels(given, georef=georef, classes={known.id: known.name for known in classes}, trust=trust)


def describe_reference(reference: object) -> str | None:
    """The ground that a reference scores, or a warning about it; None where there is nothing to say."""
    return reference.note if isinstance(reference, PolygonLabels) else None


def open_reference_labels(reference: Reference) -> ReferenceLabels:
    """The reference as labels that can be read window by window."""
    return LabelSource(reference) if isinstance(reference, LabelsHeader) else reference
