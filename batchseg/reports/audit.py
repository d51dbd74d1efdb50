"""How far the two tiers agree, from the tiles of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from batchseg.engine.route import TileAudit

RESAMPLES = 2000
SEED = 0
MEANING = (
    "Share of pixels that both tiers label alike, on tiles chosen by hash, with the range that 95 % of resamples of"
    " these tiles fall into. It shows how much the choice of tier matters, and not which tier is right: two models may"
    " agree and both be wrong. Labels show that."
)


def audit_of(audits: Sequence[TileAudit]) -> dict[str, Any] | None:
    """Tiles are resampled, not pixels: pixels of one tile are right and wrong together."""
    if not audits:
        return None
    tiles = sorted((audit.num_px, audit.agreeing_px) for audit in audits)  # the same numbers in any order
    px = np.array(tiles, np.float64)
    chosen = np.random.default_rng(SEED).integers(0, len(px), (RESAMPLES, len(px)))
    totals = px[chosen].sum(1)
    low, high = np.quantile(totals[:, 1] / totals[:, 0], (0.025, 0.975))
    return {
        "tiles": len(px),
        "px": int(px[:, 0].sum()),
        "agreement": round(float(px[:, 1].sum() / px[:, 0].sum()), 5),
        "agreement_low": round(float(low), 5),
        "agreement_high": round(float(high), 5),
        "meaning": MEANING,
    }
