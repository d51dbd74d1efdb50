"""Choice of the model that labels a tile: decided for each tile alone, from its place and the bulk model's output.

Theory of operation
-------------------
There are two kinds of reasons to route a tile. Some depend on the tile's *place* and are known before any model runs:
priority polygons. Others depend on the bulk model's *outcome* for the tile's own pixels: uncertainty. An outcome is
judged with integers (confidences, counted and divided without a remainder), so the judgement is the same on every
machine that gives the same bytes. It sees one tile only: never its chunk, its batch, a worker or a clock (invariant
I2). The order is fixed: a tile whose place sends it to the heavy model is not judged. Further reasons belong to one of
the two kinds: a priority raster or the change since an earlier run is a place, the predicted classes are an outcome.

The *audit* runs both models on a share of all tiles, chosen by a hash of their names, and compares the labels. It
routes nothing and changes no output.

Confidences are integers throughout: round(254 p), so 254 means a probability of 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.layers.confidence import CERTAIN
from batchseg.tiers import BULK, HEAVY_BY_UNCERTAINTY

Statistic = Literal["mean", "share"]

SCORE_TOP = 10_000
"""The highest score. Scores are ten-thousandths; 0 means that the model is certain of every pixel."""
NEVER = SCORE_TOP + 1
"""A threshold that no tile reaches."""
NO_SCORE = -1
"""The score of a tile that was not judged."""
HASH_TOP = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Measure of a tile's uncertainty, and the score from which on the heavy model labels the tile."""

    statistic: Statistic
    """`mean`: mean of 1 - p over the tile's pixels. `share`: share of pixels less confident than `sure_confidence`."""
    sure_confidence: int = field(metadata={"key": "sure_code"})
    """Confidence from which on a pixel counts as sure, in units of 1/254."""
    threshold: int
    """Score from which on a tile goes to the heavy model."""

    def score(self, confidence: NDArray[np.uint8]) -> int:
        """Compute the score of a tile, in ten-thousandths, from the confidences of its own valid pixels."""
        if self.statistic == "share":
            return int((confidence < self.sure_confidence).sum()) * SCORE_TOP // confidence.size
        doubt = CERTAIN * confidence.size - int(confidence.sum(dtype=np.int64))
        return doubt * SCORE_TOP // (CERTAIN * confidence.size)

    def choose_tier_code(self, score: int) -> int:
        return HEAVY_BY_UNCERTAINTY if score >= self.threshold else BULK


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAudit:
    """Agreement of both models on one tile."""

    row: int
    col: int
    tier_code: int = field(metadata={"key": "code"})
    """Tier code of the model whose labels are in the output."""
    num_px: int
    """Number of valid pixels of the tile."""
    agreeing_px: int
    """Number of these pixels that both models give one class."""


def hash_tile(purpose: str, scene: str, row: int, col: int) -> int:
    """Return a number from 0 to 2**64 - 1 that depends on the tile and the purpose only."""
    digest = hashlib.blake2b(f"{scene}/{row}_{col}".encode(), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big")


def is_audited(scene: str, row: int, col: int, share: float) -> bool:
    """Test if a tile belongs to the share of tiles that both models run on."""
    return share > 0 and hash_tile("audit", scene, row, col) < share * HASH_TOP


def audit_tile(row: int, col: int, tier_code: int, bulk: NDArray[Any], heavy: NDArray[Any]) -> TileAudit:
    """Compare the labels of both models on a tile's own valid pixels."""
    return TileAudit(row=row, col=col, tier_code=tier_code, num_px=bulk.size, agreeing_px=int((bulk == heavy).sum()))
