"""Bootstrap intervals: how far a score would vary with other ground of the same kind. Pure.

The ground is cut into blocks, and the blocks are resampled, not the pixels, because the errors of neighbouring pixels
are not independent. Every score of one call is computed on the same resamples, so that the interval of a difference is
that of the difference and not of its two sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 0
WEIGHTS_AT_ONCE = 1 << 22
"""The number of block weights that are drawn together, which bounds the memory."""
DIGITS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A score with its 95 % bootstrap interval; None where the score does not exist."""

    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """The score with four digits, like `0.8123 [0.8011, 0.8230]`."""
        if self.value is None or self.low is None or self.high is None:
            return "-"
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def resample_sums(values_NM: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over resampled blocks.

    Args:
        values_NM: The values of each block: blocks x values.

    Returns:
        Resamples x values; each resample draws as many blocks as there are, with replacement.
    """
    num = len(values_NM)
    random, step = np.random.default_rng(SEED), max(1, WEIGHTS_AT_ONCE // num)
    sums = [
        random.multinomial(num, np.full(num, 1 / num), min(step, RESAMPLES - start)) @ values_NM
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(sums)


def make_interval(value: float, resampled_R: NDArray[np.float64]) -> Interval:
    """The interval from the 2.5 % to the 97.5 % quantile of the resamples; NaN stands for a score that is missing."""
    known = resampled_R[~np.isnan(resampled_R)]
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
    return Interval(value=_round(value), low=_round(low), high=_round(high))


def _round(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), DIGITS)
