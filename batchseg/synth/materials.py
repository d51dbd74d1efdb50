"""The classes of the labels, and the materials that are painted for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchseg.classes import ClassInfo
from batchseg.synth.noise import F32

UNLABELLED = 255


CLASSES = (
    ClassInfo(id=0, name="water", rgb=(44, 103, 176)),
    ClassInfo(id=1, name="forest", rgb=(28, 107, 48)),
    ClassInfo(id=2, name="field", rgb=(196, 214, 106)),
    ClassInfo(id=3, name="road", rgb=(110, 110, 118)),
    ClassInfo(id=4, name="building", rgb=(200, 52, 44)),
    ClassInfo(id=5, name="bare", rgb=(214, 172, 118)),
)
WATER, FOREST, FIELD, ROAD, BUILDING, BARE = range(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Reflectance in red, green, blue, near-infrared (0 to 1), and the weight of each texture."""

    label: int
    rgbn: tuple[float, float, float, float]
    grain: float = 0.0  # texture of a few pixels
    mottle: float = 0.0  # patches of some metres
    rows: float = 0.0  # tillage or drill rows
    tone: float = 0.0  # brightness from parcel to parcel, or from lake to lake
    warmth: float = 0.0  # hue from parcel to parcel


# Soil in a parcel and open ground in a pit are one substance: only the outline tells field from bare. In the same
# way flooded parcels are like lakes, nurseries like forest, and some flat roofs like yards, soil or water: a model
# that sees little ground around a pixel cannot tell them apart, one that sees more can.
_SOIL = (0.56, 0.47, 0.37, 0.62)
_WATER = (0.13, 0.21, 0.23, 0.06)

_TABLE = {
    "water": Material(label=WATER, rgbn=_WATER, grain=0.035, mottle=0.05, tone=0.30, warmth=0.14),
    "forest": Material(label=FOREST, rgbn=(0.21, 0.30, 0.17, 0.58), grain=0.10, mottle=0.12),
    "cereal": Material(
        label=FIELD, rgbn=(0.33, 0.47, 0.22, 0.76), grain=0.05, mottle=0.07, rows=0.08, tone=0.22, warmth=0.12
    ),
    "ripe": Material(
        label=FIELD, rgbn=(0.70, 0.61, 0.37, 0.74), grain=0.05, mottle=0.06, rows=0.07, tone=0.15, warmth=0.08
    ),
    "stubble": Material(
        label=FIELD, rgbn=(0.63, 0.57, 0.43, 0.66), grain=0.08, mottle=0.08, rows=0.12, tone=0.15, warmth=0.08
    ),
    "meadow": Material(
        label=FIELD, rgbn=(0.39, 0.49, 0.27, 0.66), grain=0.09, mottle=0.15, rows=0.0, tone=0.20, warmth=0.12
    ),
    "tilled": Material(label=FIELD, rgbn=_SOIL, grain=0.08, mottle=0.10, rows=0.12, tone=0.26, warmth=0.10),
    "fallow": Material(label=FIELD, rgbn=_SOIL, grain=0.11, mottle=0.13, tone=0.26, warmth=0.10),
    "paddy": Material(label=FIELD, rgbn=_WATER, grain=0.04, mottle=0.06, tone=0.30, warmth=0.14),
    "orchard": Material(label=FIELD, rgbn=(0.38, 0.46, 0.27, 0.60), grain=0.08, mottle=0.10, tone=0.10),
    "nursery": Material(label=FIELD, rgbn=(0.21, 0.30, 0.17, 0.58), grain=0.10, mottle=0.12),
    "hedge": Material(label=FIELD, rgbn=(0.22, 0.31, 0.17, 0.58), grain=0.10, mottle=0.12),
    "margin": Material(label=FIELD, rgbn=(0.45, 0.50, 0.31, 0.60), grain=0.09, mottle=0.08),
    "garden": Material(label=FIELD, rgbn=(0.38, 0.46, 0.28, 0.58), grain=0.13, mottle=0.20),
    "highway": Material(label=ROAD, rgbn=(0.43, 0.43, 0.44, 0.38), grain=0.04, mottle=0.04),
    "lane": Material(label=ROAD, rgbn=(0.52, 0.50, 0.48, 0.44), grain=0.05, mottle=0.06),
    "track": Material(label=ROAD, rgbn=(0.62, 0.55, 0.45, 0.64), grain=0.08, mottle=0.08),
    "street": Material(label=ROAD, rgbn=(0.47, 0.47, 0.48, 0.41), grain=0.05, mottle=0.06),
    "yard": Material(label=ROAD, rgbn=(0.61, 0.60, 0.57, 0.52), grain=0.06, mottle=0.09, tone=0.20, warmth=0.05),
    "building": Material(label=BUILDING, rgbn=(0.5, 0.5, 0.5, 0.4), grain=0.04, mottle=0.03),
    "bare": Material(label=BARE, rgbn=_SOIL, grain=0.11, mottle=0.13, tone=0.26, warmth=0.10),
    "bank": Material(label=BARE, rgbn=(0.66, 0.59, 0.47, 0.68), grain=0.09, mottle=0.12),
}

ID = {name: index for index, name in enumerate(_TABLE)}
MATERIALS = tuple(_TABLE.values())
LABEL_OF = np.array([m.label for m in MATERIALS], np.uint8)


def get_column(field: str) -> F32:
    """The weight of one texture for all materials, indexed by material."""
    return np.array([getattr(m, field) for m in MATERIALS], np.float32)


RGBN_OF = np.array([m.rgbn for m in MATERIALS], np.float32)
