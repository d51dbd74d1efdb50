"""The content of metrics.json as values: what a run measured, over the whole run and per scene.

A field has the name that it has in the file. Money is in US dollars throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

from batchseg.errors import InputError
from batchseg.json_values import read_value
from batchseg.ledger.records import TileCounts
from batchseg.paths import METRICS_KEY
from batchseg.reports.audit import TierAgreement
from batchseg.reports.money import Cost
from batchseg.schema import inlined
from batchseg.score.scores import NoScores, ReferenceScores
from batchseg.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCounts:
    """Numbers of chunks by their state."""

    done: int
    """Chunks with predicted pixels."""
    empty: int
    """Chunks without a valid pixel, which need no model."""
    failed: int
    """Chunks that were given up after all their attempts."""
    not_run: int
    """Chunks that have no record yet."""

    @property
    def total(self) -> int:
        return self.done + self.empty + self.failed + self.not_run


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamScores:
    """Visibility of borders in the labels, by kind of border.

    A score is the rate of class changes across these borders, divided by the rate half a tile away; 1 means that the
    borders cannot be seen. It is None where there is nothing to divide by.
    """

    tile: float | None
    chunk: float | None
    tier: float | None
    """Borders between tiles of different tiers."""
    same_tier: float | None
    """Borders between tiles of one tier, for comparison with `tier`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCounts:
    """Numbers of workers, and of the attempts that they failed at."""

    hired: int
    lost: int
    """Workers that died before the end of their work, of a preemption or otherwise."""
    failed_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Measurements of a scene and of the whole run alike."""

    area_km2: float | None
    """Ground area of the valid pixels; None where some of them have no place on the Earth."""
    valid_px: int
    class_px: dict[str, int]
    """Pixels per class, by class name."""
    class_area_km2: dict[str, float] | None
    """Ground area per class, by class name; None where `area_km2` is."""
    mean_confidence: float | None
    """Mean confidence of the valid pixels, from 0 to 1; None without a valid pixel."""
    tiles: TileCounts
    heavy_share: float | None
    """Share of the predicted tiles that the heavy model labelled; None without such a tile."""
    scores: NoScores | ReferenceScores = inlined()
    """Scores against the reference labels."""
    audit: TierAgreement | None
    """Agreement of the tiers on the audited tiles; None without an audit."""
    chunks: ChunkCounts
    seam: SeamScores


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneMetrics(Measures):
    """Measurements of one scene."""

    cost_usd: float
    """Cost of the scene's committed tasks. Start-up, idle time and waste belong to workers, not to scenes."""
    cost_usd_per_km2: float | None
    cost: Cost
    area_note: str | None
    """The reason why the ground area is unknown; None where it is known."""
    layout_note: str | None
    """Reason why the scene is slow to read, and its repair; None for a good layout."""
    nodata_note: str | None = None
    """Undeclared nodata that the scene seems to have, and the line that declares it; None where there is none."""
    labels_note: str | None = None
    """The ground that the reference scores, or a warning about it; None where there is nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(Measures):
    """Measurements of a whole run; `plain` of it is the content of metrics.json."""

    wall_s: float
    """Time that the run's drivers took, over all its sessions."""
    mpx_per_s: float | None
    """Millions of valid pixels per second of `wall_s`."""
    cost_usd: float
    """The sum of all parts of `cost`."""
    cost_usd_per_km2: float | None
    cost: Cost
    paid_usd: float
    """The lifetimes of workers and drivers at their prices, for comparison with `cost_usd`."""
    workers: WorkerCounts
    fingerprint: str
    """Hash of the resolved recipe."""
    environments: tuple[dict[str, str], ...]
    """Numeric environments that took part; with more than one, output bytes may differ between them (I2)."""
    quarantined: dict[str, tuple[str, ...]]
    """Tasks that were given up, by name, with one line for each failed attempt; and scenes, with one for each look."""
    scenes: dict[str, SceneMetrics]
    versions: dict[str, str]
    """Versions of the installed packages that matter, by package name."""


def read_metrics(store: Store) -> Metrics:
    """Read the metrics that a run, or `batchseg report`, wrote last.

    Raises:
        InputError: There are none yet.
        DamagedError: metrics.json is damaged, or another version wrote it.
    """
    todo = f"run `batchseg report {store.address}`, which makes it again"
    try:
        return read_value(store, METRICS_KEY, Metrics, todo=todo)
    except FileNotFoundError as error:
        raise InputError("this output folder has no metrics yet", where=METRICS_KEY, todo=todo) from error
