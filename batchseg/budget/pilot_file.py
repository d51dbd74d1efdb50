"""run/pilot.json: what the pilot of a run found. `plan` reads it; the run itself does not need it."""

from __future__ import annotations

from dataclasses import dataclass

from batchseg.budget.forecast import ExpectedCost
from batchseg.budget.pilot import PilotResult
from batchseg.budget.rehearsal import Pace
from batchseg.budget.sample import share_at_threshold
from batchseg.engine.route import SCORE_TOP
from batchseg.json_values import put_sealed, read_value
from batchseg.ledger.ledger import Ledger
from batchseg.paths import PILOT_KEY
from batchseg.store import Store

REMOVE_PILOT = "remove it: a run does not need it, and `plan` then does not know the pilot's share of heavy tiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotFile:
    """Origin of a run's threshold, and the cost that the run should have."""

    threshold: int
    """Score from which on a tile is heavy, in ten-thousandths."""
    above: float | None = None
    """The same score as in a recipe's `uncertain: above`; None in files that were written before it was."""
    num_tiles: int
    """Number of valid tiles in the sample."""
    num_looked_at: int
    """Number of tiles that were read to find the valid ones."""
    priority_share: float
    """Share of the valid tiles that lie on priority ground."""
    expected_heavy_share: float
    """Share of the sample's tiles that are heavy at the threshold."""
    expected: ExpectedCost | None
    """Expected cost of the run; None where the budget is a share, which needs no clock."""
    pace: Pace | None
    """Measured pace of one worker; None where nothing was timed."""
    scores: tuple[int, ...]
    """Uncertainty of each tile in the sample, in ten-thousandths; NO_SCORE where the bulk model did not run."""


def write_pilot(store: Store, result: PilotResult, threshold: int) -> None:
    """Write down how the threshold was found, and the pilot's own time, which is paid for too."""
    sample, forecast = result.pilot, result.forecast
    share = share_at_threshold(threshold, sample.tiles)
    content = PilotFile(
        threshold=threshold,
        above=None if threshold > SCORE_TOP else threshold / SCORE_TOP,
        num_tiles=len(sample.tiles),
        num_looked_at=sample.num_looked_at,
        priority_share=round(sample.priority_share, 5),
        expected_heavy_share=round(share, 5),
        expected=None if forecast is None else forecast.expect_cost(share),
        pace=None if forecast is None else forecast.pace,
        scores=tuple(tile.score for tile in sample.tiles),
    )
    put_sealed(store, PILOT_KEY, content)
    Ledger(store).write_stint(result.stint)


def read_pilot(store: Store) -> PilotFile | None:
    """Read what the pilot of the run in this folder found; None if the run had no pilot.

    Raises:
        DamagedError: The file is there, but is not what a run writes.
    """
    try:
        return read_value(store, PILOT_KEY, PilotFile, todo=REMOVE_PILOT)
    except FileNotFoundError:
        return None
