"""Which tier labels a tile, and why: a function of the tile's place, the recipe's inputs and the bulk model's output.

Theory of operation
-------------------
Reasons are of two kinds. Some know a tile by its *place*, before any model runs: priority polygons. Others judge the
bulk model's *outcome* on the tile's own pixels: uncertainty. An outcome is judged as integers (codes of confidence,
counted and divided without a remainder), so the judgement is the same on every machine that gives the same bytes, and
it sees one tile only: never its chunk, its batch, a worker or a clock (invariant I2). The order is fixed: a tile that
its place sends to the heavy model is not judged. More reasons join one of the two kinds: a priority raster or the
change since an earlier run are places, classes seen are outcomes.

The *audit* runs both tiers on a share of all tiles, chosen by the hash of their names, and compares them. It routes
nothing and changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.tiers import BULK, HEAVY_BY_UNCERTAINTY

Statistic = Literal["mean", "share"]

CERTAIN = 254
"""The confidence code of probability 1."""
SCORE_TOP = 10_000
"""Scores are ten-thousandths: 0 is certain of every pixel."""
NEVER = SCORE_TOP + 1
"""A threshold that no tile reaches."""
NO_SCORE = -1
"""Of tiles that the bulk model never saw."""
HASH_TOP = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """How uncertain the bulk model is of a tile, and from where on the heavy model takes it."""

    statistic: Statistic
    """mean: of 1 - confidence. share: of pixels less confident than `sure_code`."""
    sure_code: int
    threshold: int
    """Tiles that score this or more go to the heavy model."""

    def score(self, confidence: NDArray[np.uint8]) -> int:
        """Of the confidence codes of a tile's own valid pixels, in ten-thousandths."""
        if self.statistic == "share":
            return int((confidence < self.sure_code).sum()) * SCORE_TOP // confidence.size
        doubt = CERTAIN * confidence.size - int(confidence.sum(dtype=np.int64))
        return doubt * SCORE_TOP // (CERTAIN * confidence.size)

    def code(self, score: int) -> int:
        return HEAVY_BY_UNCERTAINTY if score >= self.threshold else BULK


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAudit:
    """Both tiers on one tile."""

    row: int
    col: int
    code: int
    """What labelled it."""
    num_px: int
    agreeing_px: int


def tile_hash(purpose: str, scene: str, row: int, col: int) -> int:
    """A number from 0 to 2**64 - 1 that is the tile's own, another one for each purpose."""
    digest = hashlib.blake2b(f"{scene}/{row}_{col}".encode(), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "big")


def is_audited(scene: str, row: int, col: int, share: float) -> bool:
    return share > 0 and tile_hash("audit", scene, row, col) < share * HASH_TOP


def compared(row: int, col: int, code: int, bulk: NDArray[Any], heavy: NDArray[Any]) -> TileAudit:
    """The labels of both tiers on a tile's own valid pixels."""
    return TileAudit(row=row, col=col, code=code, num_px=bulk.size, agreeing_px=int((bulk == heavy).sum()))
