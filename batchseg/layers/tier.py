"""The tier: which model labelled each pixel, and why."""

from __future__ import annotations

from batchseg.classes import ClassInfo
from batchseg.layers.layer import Layer, LayerDefinition
from batchseg.tiers import BULK, HEAVY_ALONE, HEAVY_BY_POLYGONS, HEAVY_BY_UNCERTAINTY, NODATA_CODE

TIER_CLASSES = (
    ClassInfo(id=BULK, name="bulk", rgb=(198, 219, 239)),
    ClassInfo(id=HEAVY_BY_POLYGONS, name="heavy: priority polygons", rgb=(203, 24, 29)),
    ClassInfo(id=HEAVY_BY_UNCERTAINTY, name="heavy: uncertain", rgb=(253, 141, 60)),
    ClassInfo(id=HEAVY_ALONE, name="heavy: the only model", rgb=(106, 81, 163)),
)

_LAYER = Layer(
    name="tier",
    title="model and reason",
    dtype="uint8",
    nodata=NODATA_CODE,
    kind="classes",
    classes=TIER_CLASSES,
    tags={f"tier_{info.id}": info.name for info in TIER_CLASSES},
)

TIER = LayerDefinition(name="tier", make=lambda _: _LAYER, take=lambda prediction: prediction.tier_HW, is_default=True)
