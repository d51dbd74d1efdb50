"""The ledger of a small run with labels, priority ground, an audit, tasks that were given up, and two scenes."""

from __future__ import annotations

from typing import Any

from batchseg.engine.route import TileAudit
from batchseg.ledger.keys import ChunkKey, SheetKey, Story, TaskKey
from batchseg.ledger.records import Agreement, Record, Seams, SheetRecord, Stint, TileCounts
from batchseg.reports.fold import fold_metrics
from batchseg.reports.metrics import Metrics
from batchseg.resolve.plan_file import PlanFile, ScenePlan
from batchseg.scene.georef import Georef
from tests.batchseg.ledger.ledger_records import attempt_of, record_of, session_of, stint_of

CLASSES = ("soil", "water", "roof")
QUARANTINED: dict[TaskKey, Story] = {
    ChunkKey("nowhere", 0, 1): ("attempt 1: the raster is damaged", "attempt 2: the raster is damaged"),
    SheetKey("nowhere", 0, 0): ("attempt 1: No space left on device",),
}
VERSIONS = {"batchseg": "0.1.0", "numpy": "2.0"}


def small_plan() -> PlanFile:
    """A scene of two chunks with a reference, and one of three chunks that lies nowhere on the Earth."""

    def georef(height_px: int) -> Georef:
        return Georef(
            width_px=16,
            height_px=height_px,
            crs_wkt=None,
            transform=None,
            gcps=(),
            gcps_crs_wkt=None,
            rpcs=None,
        )

    harbour = ScenePlan(url="harbour.tif", georef=georef(32), labels_id="drawn", area_note=None)
    note = "the raster has no georeference"
    nowhere = ScenePlan(
        url="nowhere.tif", georef=georef(48), labels_id=None, area_note=note, layout_note="its blocks of 9000 x 1 px"
    )
    return PlanFile(
        fingerprint="f",
        class_names=CLASSES,
        core_px=8,
        chunk_px=16,
        head_usd_per_hour=0.1,
        scenes={"harbour": harbour, "nowhere": nowhere},
    )


def small_records() -> list[Record]:
    parts = {
        "bulk_outside": ((20, 1, 0), (2, 9, 0), (0, 0, 0)),
        "heavy_inside": ((5, 0, 0), (1, 12, 0), (0, 0, 0)),
    }
    agreement = Agreement(labels_id="drawn", confusion=((25, 1, 0), (3, 21, 0), (0, 0, 0)), unknown_px=4, parts=parts)
    seconds = {"compute_bulk": 2.5, "compute_heavy": 7.0, "audit": 0.5, "read": 1.25, "write": 0.75, "busy_read": 3.0}
    first = record_of(
        ChunkKey("harbour", 0, 0),
        attempt_of("spot-0", 20.0, seconds, 3.0),
        tiles=TileCounts(bulk=3, heavy=1),
        valid_px=230,
        class_px=(100, 120, 10),
        area_km2=0.023000000123,
        class_area_km2=(0.01, 0.012, 0.001000000123),
        confidence_sum=230 * 200,
        agreement=agreement,
        audits=tuple(TileAudit(row=row, col=0, tier_code=0, num_px=64, agreeing_px=60 - 19 * row) for row in range(2)),
    )
    empty = {"valid_px": 0, "class_px": (0, 0, 0), "area_km2": None, "class_area_km2": None, "confidence_sum": 0}
    second = record_of(
        ChunkKey("harbour", 1, 0), attempt_of("spot-1", 3.0, {"read": 0.125}, 1.0), tiles=TileCounts(skipped=4), **empty
    )
    third = record_of(
        ChunkKey("nowhere", 0, 0),
        attempt_of("spot-1", 30.0, {"compute_bulk": 4.0, "read": 1.0}, 1.0),
        tiles=TileCounts(bulk=4),
        valid_px=256,
        class_px=(250, 0, 6),
        area_km2=None,
        class_area_km2=None,
        confidence_sum=256 * 99,
    )
    return [first, second, third]


def small_sheets() -> list[SheetRecord]:
    seams: dict[str, Any] = {"tile": (9, 40, 7, 41), "chunk": (3, 12, 2, 12), "tier": (0, 0, 0, 0)}
    return [
        SheetRecord(
            key=SheetKey("harbour", 0, 0),
            fingerprint="f",
            inputs_digest="",
            missing=(),
            objects=(),
            seams=Seams(**seams, same_tier=(9, 40, 7, 41)),
            attempt=attempt_of("spot-0", 41.0, {"write": 1.5}, 3.0),
        )
    ]


def small_stints() -> list[Stint]:
    return [
        stint_of("spot-0", 50.0, usd_per_hour=3.0, start_s=6.0),
        stint_of(
            "spot-1", 31.0, usd_per_hour=1.0, start_s=2.0, waste_s=3.0, ended=False, failures=("nowhere/0_1: why",)
        ),
    ]


def small_metrics() -> Metrics:
    return fold_metrics(
        small_plan(),
        small_records(),
        small_sheets(),
        small_stints(),
        sessions=[session_of("driver", 0.0, 64.0, 0.1)],
        quarantined=QUARANTINED,
        versions=VERSIONS,
    )
