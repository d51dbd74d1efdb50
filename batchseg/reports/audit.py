"""Agreement of the two tiers, from the tiles of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchseg.engine.route import TileAudit

RESAMPLES = 2000
SEED = 0
MEANING = (
    "Share of pixels that both tiers label alike, on tiles chosen by hash, with the range that 95 % of resamples of"
    " these tiles fall into. It shows how much the choice of tier matters, and not which tier is right: two models may"
    " agree and both be wrong. Labels show that."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierAgreement:
    """The agreement of the two tiers on the audited tiles, with its 95 % bootstrap interval."""

    tiles: int
    """Number of audited tiles."""
    px: int
    """Number of pixels on these tiles that both tiers labelled."""
    agreement: float
    """Share of these pixels that have the same label from both tiers."""
    agreement_low: float
    """Lower end of the interval."""
    agreement_high: float
    """Upper end of the interval."""
    meaning: str
    """An explanation for the reader of metrics.json."""


def measure_tier_agreement(audits: Sequence[TileAudit]) -> TierAgreement | None:
    """The agreement over these tiles; None without any.

    Tiles are resampled, not pixels, because the errors of a tile's pixels are not independent.
    """
    if not audits:
        return None
    # Sorting gives the same resamples in whatever order the ledger lists the tiles.
    counts_T2 = np.array(sorted((audit.num_px, audit.agreeing_px) for audit in audits), np.float64)
    chosen = np.random.default_rng(SEED).integers(0, len(counts_T2), (RESAMPLES, len(counts_T2)))
    totals = counts_T2[chosen].sum(1)
    low, high = np.quantile(totals[:, 1] / totals[:, 0], (0.025, 0.975))
    num_px, agreeing_px = counts_T2.sum(0)
    return TierAgreement(
        tiles=len(counts_T2),
        px=int(num_px),
        agreement=round(float(agreeing_px / num_px), 5),
        agreement_low=round(float(low), 5),
        agreement_high=round(float(high), 5),
        meaning=MEANING,
    )
