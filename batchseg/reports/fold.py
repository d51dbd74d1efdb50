"""The metrics of a run: pure folds over its records, sheets and stints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.route import TileAudit
from batchseg.layers.confidence import CERTAIN
from batchseg.ledger.keys import ChunkKey, Story, TaskKey
from batchseg.ledger.records import Record, SheetRecord, Stint, TileCounts
from batchseg.ledger.sessions import Session, join_losses
from batchseg.output.sheet_seams import MapCut, SeamCounts, count_seams_between
from batchseg.reports.audit import measure_tier_agreement
from batchseg.reports.metrics import ChunkCounts, Measures, Metrics, SceneMetrics, SeamScores, WorkerCounts
from batchseg.reports.money import Cost, price_head, split_cost, sum_paid_usd
from batchseg.resolve.plan_file import PlanFile
from batchseg.score.scores import NO_SCORES, NoScores, ReferenceScores, compute_reference_scores

Quarantine = Mapping[TaskKey | str, Story]
"""Tasks that were given up, and what happened to them."""


@dataclass(slots=True)
class _Sums:
    """Sums over records."""

    tiles: TileCounts = field(default_factory=TileCounts)
    valid_px: int = 0
    class_px: Any = 0
    area_km2: float | None = 0.0
    class_area_km2: Any = 0.0
    confidence_sum: int = 0
    confusion: NDArray[np.int64] | None = None
    unknown_px: int = 0
    parts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    audits: list[TileAudit] = field(default_factory=list)

    def add(self, record: Record, labels_id: str | None) -> None:
        """Add one record; an agreement with other labels than these is left out."""
        m = record.measured
        self.tiles += m.tiles
        self.valid_px += m.valid_px
        self.class_px = self.class_px + np.array(m.class_px, np.int64)
        if m.area_km2 is None or self.area_km2 is None:
            # A chunk without a valid pixel that lies off the Earth adds nothing, and makes nothing unknown.
            self.area_km2 = None if m.valid_px else self.area_km2
        else:
            self.area_km2 += m.area_km2
            self.class_area_km2 = self.class_area_km2 + np.array(m.class_area_km2)
        self.confidence_sum += m.confidence_sum
        self.audits += m.audits
        if m.agreement is not None and m.agreement.labels_id == labels_id:
            matrix = np.array(m.agreement.confusion, np.int64)
            self.confusion = matrix if self.confusion is None else self.confusion + matrix
            self.unknown_px += m.agreement.unknown_px
            for part, counts in m.agreement.parts.items():
                self.parts[part] = self.parts.get(part, 0) + np.array(counts, np.int64)

    def scores(self, classes: Sequence[str]) -> NoScores | ReferenceScores:
        if self.confusion is None:
            return NO_SCORES
        return compute_reference_scores(self.confusion, self.parts, self.unknown_px, classes)


def fold_metrics(
    plan: PlanFile,
    records: Sequence[Record],
    sheets: Sequence[SheetRecord],
    stints: Sequence[Stint],
    *,
    sessions: Sequence[Session],
    quarantined: Quarantine,
    versions: Mapping[str, str],
) -> Metrics:
    """Fold the ledger of a run into its metrics; the order of records does not matter.

    Args:
        plan: What the run wrote down about itself.
        records: All committed chunks.
        sheets: All published sheets.
        stints: The lives of all workers.
        sessions: The sessions of all drivers.
        quarantined: Tasks that were given up, and scenes by their names.
        versions: Versions of the installed packages that matter.
    """
    whole = fold_measures(plan, tuple(plan.scenes), records, sheets, quarantined)
    wall_s = sum((session.seconds for session in sessions), 0.0)
    head_usd = price_head(sessions, default_usd_per_hour=plan.head_usd_per_hour)
    lost_s = join_losses(sessions)
    cost = split_cost([*records, *sheets], stints, head_usd=head_usd, lost_s=lost_s)
    return Metrics(
        **_list_fields(whole),
        wall_s=round(wall_s, 3),
        mpx_per_s=round(whole.valid_px / 1e6 / wall_s, 4) if wall_s else None,
        cost_usd=_round_usd(cost.total_usd),
        cost_usd_per_km2=_usd_per_km2(cost, whole.area_km2),
        cost=_round_cost(cost),
        paid_usd=_round_usd(sum_paid_usd([*records, *sheets], stints, head_usd=head_usd, lost_s=lost_s)),
        workers=_count_workers(stints),
        fingerprint=plan.fingerprint,
        environments=tuple(list_environments(records)),
        quarantined={str(task): story for task, story in quarantined.items()},
        scenes={name: _fold_scene(plan, name, records, sheets, quarantined) for name in plan.scenes},
        versions=dict(versions),
    )


def fold_scores(plan: PlanFile, records: Iterable[Record]) -> NoScores | ReferenceScores:
    """The scores over these records, of agreements with the references that the plan names."""
    return _add_up(plan, records).scores(plan.class_names)


def list_environments(records: Iterable[Record]) -> list[dict[str, str]]:
    """The numeric environments that took part, each once, in a fixed order."""
    seen = {tuple(sorted(record.attempt.environment.items())) for record in records}
    return [dict(items) for items in sorted(seen)]


def _fold_scene(
    plan: PlanFile, name: str, records: Sequence[Record], sheets: Sequence[SheetRecord], quarantined: Quarantine
) -> SceneMetrics:
    of_scene = [record for record in records if record.key.scene == name]
    sheets_of_scene = [sheet for sheet in sheets if sheet.key.scene == name]
    measures = fold_measures(plan, (name,), of_scene, sheets_of_scene, quarantined)
    # Start-up, idle time and waste belong to workers, not to scenes: only the whole run's cost has them.
    cost = split_cost([*of_scene, *sheets_of_scene], [], head_usd=0.0)
    off_earth = "some valid pixels lie off the Earth" if measures.area_km2 is None else None
    return SceneMetrics(
        **_list_fields(measures),
        cost_usd=_round_usd(cost.total_usd),
        cost_usd_per_km2=_usd_per_km2(cost, measures.area_km2),
        cost=_round_cost(cost),
        area_note=plan.scenes[name].area_note or off_earth,
        layout_note=plan.scenes[name].layout_note,
        nodata_note=plan.scenes[name].nodata_note,
        labels_note=plan.scenes[name].labels_note,
    )


def fold_measures(
    plan: PlanFile,
    scenes: tuple[str, ...],
    records: Sequence[Record],
    sheets: Sequence[SheetRecord],
    quarantined: Quarantine,
) -> Measures:
    """Measure some scenes together.

    Args:
        plan: What the run wrote down about itself.
        scenes: The names of the scenes.
        records: Their committed chunks.
        sheets: Their published sheets.
        quarantined: All tasks that were given up.
    """
    classes, sums = plan.class_names, _add_up(plan, records)
    predicted = sums.tiles.bulk + sums.tiles.heavy
    class_px = np.broadcast_to(sums.class_px, len(classes)).tolist()
    class_km2 = np.broadcast_to(sums.class_area_km2, len(classes)).round(9).tolist()
    return Measures(
        area_km2=None if sums.area_km2 is None else round(float(sums.area_km2), 9),
        valid_px=sums.valid_px,
        class_px=dict(zip(classes, class_px, strict=True)),
        class_area_km2=None if sums.area_km2 is None else dict(zip(classes, class_km2, strict=True)),
        mean_confidence=round(sums.confidence_sum / CERTAIN / sums.valid_px, 5) if sums.valid_px else None,
        tiles=sums.tiles,
        heavy_share=round(sums.tiles.heavy / predicted, 5) if predicted else None,
        scores=sums.scores(classes),
        audit=measure_tier_agreement(sums.audits),
        chunks=_count_chunks(plan, scenes, records, quarantined),
        seam=_score_seams(plan, sheets),
    )


def _add_up(plan: PlanFile, records: Iterable[Record]) -> _Sums:
    sums = _Sums()
    for record in records:
        sums.add(record, plan.scenes[record.key.scene].labels_id)
    return sums


def _count_chunks(
    plan: PlanFile, scenes: tuple[str, ...], records: Sequence[Record], quarantined: Quarantine
) -> ChunkCounts:
    empty = sum(record.kind == "empty" for record in records)
    failed = sum(isinstance(task, ChunkKey) and task.scene in scenes for task in quarantined)
    num_chunks = sum(len(plan.grid(scene)) for scene in scenes)
    return ChunkCounts(
        done=len(records) - empty, empty=empty, failed=failed, not_run=num_chunks - len(records) - failed
    )


def _count_workers(stints: Sequence[Stint]) -> WorkerCounts:
    return WorkerCounts(
        hired=len(stints),
        lost=sum(not stint.ended for stint in stints),
        failed_attempts=sum(len(stint.failures) for stint in stints),
    )


def _score_seams(plan: PlanFile, sheets: Sequence[SheetRecord]) -> SeamScores:
    """Score the borders inside of sheets and those where two sheets meet."""
    cut = MapCut(core_px=plan.core_px, chunk_px=plan.chunk_px, nodata=plan.nodata)
    counts = sum((SeamCounts.from_seams(sheet.seams) for sheet in sheets), SeamCounts())
    for scene in sorted({sheet.key.scene for sheet in sheets}):
        of_scene = [sheet for sheet in sheets if sheet.key.scene == scene]
        counts += count_seams_between(of_scene, cut, sheet_px=plan.scenes[scene].sheet_px)
    tile, chunk, tier, same_tier = (
        None if count.score is None else round(float(count.score), 3)
        for count in (counts.tile, counts.chunk, counts.tier, counts.same_tier)
    )
    return SeamScores(tile=tile, chunk=chunk, tier=tier, same_tier=same_tier)


def _list_fields(measures: Measures) -> dict[str, Any]:
    return {f.name: getattr(measures, f.name) for f in fields(Measures)}


def _usd_per_km2(cost: Cost, area_km2: float | None) -> float | None:
    return _round_usd(cost.total_usd / area_km2) if area_km2 else None


def _round_cost(cost: Cost) -> Cost:
    return Cost(**{part: _round_usd(usd) for part, usd in cost.parts.items()})


def _round_usd(usd: float) -> float:
    return round(float(usd), 8)
