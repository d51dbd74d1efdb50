"""metrics.json and the numbers of every report: pure folds over records, sheets and stints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from batchseg.engine.route import TileAudit
from batchseg.ledger.records import Record, SheetRecord, Stint, TileCounts
from batchseg.output.sheet_seams import Cut, SeamCounts, seams_between
from batchseg.reports.audit import audit_of
from batchseg.reports.money import cost_parts, paid_usd
from batchseg.resolve.plan_file import PlanFile
from batchseg.schema import plain
from batchseg.score.scores import compute_priority_scores, compute_scores, compute_tier_scores


@dataclass(slots=True)
class _Sums:
    tiles: TileCounts = field(default_factory=TileCounts)
    valid_px: int = 0
    class_px: Any = 0
    area_km2: float | None = 0.0
    class_area_km2: Any = 0.0
    confidence_sum: int = 0
    confusion: Any = None
    unknown_px: int = 0
    parts: dict[str, Any] = field(default_factory=dict)
    audits: list[TileAudit] = field(default_factory=list)

    def add(self, record: Record, labels_id: str | None) -> None:
        m = record.measured
        self.tiles += m.tiles
        self.valid_px += m.valid_px
        self.class_px = self.class_px + np.array(m.class_px, np.int64)
        if m.area_km2 is None or self.area_km2 is None:
            # An empty chunk outside of all ground adds nothing, and makes nothing unknown.
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


def metrics(
    plan: PlanFile,
    records: Sequence[Record],
    sheets: Sequence[SheetRecord],
    stints: Sequence[Stint],
    *,
    quarantined: dict[str, tuple[str, ...]],
    wall_s: float,
) -> dict[str, Any]:
    """The content of metrics.json."""
    scenes = {}
    for name in plan.scenes:
        of_scene = [r for r in records if r.key.scene == name]
        sheets_of_scene = [s for s in sheets if s.key.scene == name]
        scenes[name] = _block(plan, (name,), of_scene, sheets_of_scene, quarantined)
        # Start-up, idle time and waste belong to workers, not to scenes: they are in the whole run's cost only.
        of_tasks = cost_parts([*of_scene, *sheets_of_scene], [], wall_s=0.0, head_usd_per_hour=0.0)
        scenes[name] |= _money(of_tasks, scenes[name]["area_km2"])
        off_earth = "some valid pixels lie off the Earth" if scenes[name]["area_km2"] is None else None
        scenes[name]["area_note"] = plan.scenes[name].area_note or off_earth
        scenes[name]["layout_note"] = plan.scenes[name].layout_note
    whole = _block(plan, tuple(plan.scenes), records, sheets, quarantined)
    cost = cost_parts([*records, *sheets], stints, wall_s=wall_s, head_usd_per_hour=plan.head_usd_per_hour)
    return {
        **whole,
        "wall_s": _round(wall_s, 3),
        "mpx_per_s": _round(whole["valid_px"] / 1e6 / wall_s, 4) if wall_s else None,
        **_money(cost, whole["area_km2"]),
        "paid_usd": _round(paid_usd([*records, *sheets], stints, wall_s, plan.head_usd_per_hour)),
        "workers": _workers(stints),
        "fingerprint": plan.fingerprint,
        "environments": environments(records),
        "quarantined": {task: list(story) for task, story in quarantined.items()},
        "scenes": scenes,
    }


def _workers(stints: Sequence[Stint]) -> dict[str, int]:
    """How many there were, how many of them died at their work (of a preemption or otherwise), what they failed at."""
    return {
        "hired": len(stints),
        "lost": sum(not stint.ended for stint in stints),
        "failed_attempts": sum(len(stint.failures) for stint in stints),
    }


def _block(
    plan: PlanFile,
    scenes: tuple[str, ...],
    records: Sequence[Record],
    sheets: Sequence[SheetRecord],
    quarantined: dict[str, tuple[str, ...]],
) -> dict[str, Any]:
    """What is told of each scene and of the whole run alike."""
    sums = _Sums()
    for record in records:
        sums.add(record, plan.scenes[record.key.scene].labels_id)
    empty = sum(record.kind == "empty" for record in records)
    failed = [task for task in quarantined if task.rpartition("/")[0] in scenes]
    failed_chunks = sum("/sheet_" not in task for task in failed)
    num_chunks = sum(len(plan.grid(scene)) for scene in scenes)
    return {
        **_ground(plan.class_names, sums),
        **_accuracy(plan.class_names, sums),
        "audit": audit_of(sums.audits),
        "chunks": {
            "done": len(records) - empty,
            "empty": empty,
            "failed": failed_chunks,
            "not_run": num_chunks - len(records) - failed_chunks,
        },
        "seam": _seams(plan, sheets),
    }


def _ground(classes: tuple[str, ...], sums: _Sums) -> dict[str, Any]:
    predicted = sums.tiles.bulk + sums.tiles.heavy
    area_known = sums.area_km2 is not None
    class_px = np.broadcast_to(sums.class_px, len(classes)).tolist()
    class_km2 = np.broadcast_to(sums.class_area_km2, len(classes)).round(9).tolist()
    return {
        "area_km2": _round(sums.area_km2, 9),
        "valid_px": sums.valid_px,
        "class_px": dict(zip(classes, class_px, strict=True)),
        "class_area_km2": dict(zip(classes, class_km2, strict=True)) if area_known else None,
        "mean_confidence": _round(sums.confidence_sum / 254 / sums.valid_px, 5) if sums.valid_px else None,
        "tiles": {"bulk": sums.tiles.bulk, "heavy": sums.tiles.heavy, "skipped": sums.tiles.skipped},
        "heavy_share": _round(sums.tiles.heavy / predicted, 5) if predicted else None,
    }


def accuracy_of(plan: PlanFile, records: Iterable[Record]) -> dict[str, Any]:
    """Of records whose agreement is with the reference that the plan names."""
    sums = _Sums()
    for record in records:
        sums.add(record, plan.scenes[record.key.scene].labels_id)
    return _accuracy(plan.class_names, sums)


def _accuracy(classes: tuple[str, ...], sums: _Sums) -> dict[str, Any]:
    if sums.confusion is None:
        return {"iou": None, "miou": None, "confusion": None, "unknown_label_px": 0}
    return {
        **plain(compute_scores(sums.confusion, classes)),
        "confusion": sums.confusion.tolist(),
        "unknown_label_px": sums.unknown_px,
        "by_tier": plain(compute_tier_scores(sums.parts, classes)),
        "by_priority": plain(compute_priority_scores(sums.parts, classes)),
    }


def _seams(plan: PlanFile, sheets: Sequence[SheetRecord]) -> dict[str, float | None]:
    """Inside sheets, and where two of them meet."""
    cut = Cut(core_px=plan.core_px, chunk_px=plan.chunk_px, nodata=plan.nodata)
    counts = sum((SeamCounts.of(sheet.seams) for sheet in sheets), SeamCounts())
    for scene in sorted({sheet.key.scene for sheet in sheets}):
        of_scene = [sheet for sheet in sheets if sheet.key.scene == scene]
        counts += seams_between(of_scene, cut, sheet_px=plan.scenes[scene].sheet_px)
    kinds = ("tile", "chunk", "tier", "same_tier")
    return {kind: _round(getattr(counts, kind).score, 3) for kind in kinds}


def _money(cost: dict[str, float], area_km2: float | None) -> dict[str, Any]:
    total_usd = sum(cost.values())
    return {
        "cost_usd": _round(total_usd),
        "cost_usd_per_km2": _round(total_usd / area_km2) if area_km2 else None,
        "cost": {part: _round(usd) for part, usd in cost.items()},
    }


def environments(records: Iterable[Record]) -> list[dict[str, str]]:
    """The numeric environments that took part; more than one means that bytes may differ between them (I2)."""
    seen = {tuple(sorted(record.attempt.environment.items())) for record in records}
    return [dict(items) for items in sorted(seen)]


def _round(value: float | None, digits: int = 8) -> float | None:
    return None if value is None else round(float(value), digits)
