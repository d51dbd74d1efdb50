"""ledger.parquet: one row and one polygon per chunk, for QGIS, DuckDB and pandas.

pyarrow writes it as GeoParquet 1.0. geopandas would do the same in one line, but it imports pandas, and the two need a
quarter of the memory of a small run. `pa.array` and `pa.table` import pandas as well where it is installed, only to
check whether a list is one of its columns. This module therefore lays out the columns itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyproj
import shapely
from pyarrow import parquet

from batchseg.egress import encode_text, format_json
from batchseg.layers.confidence import CERTAIN
from batchseg.ledger.keys import ChunkKey, Story, TaskKey
from batchseg.ledger.records import Record
from batchseg.ledger.stages import STAGES, Stage
from batchseg.reports.money import price_stages
from batchseg.resolve.plan_file import PlanFile
from batchseg.scene.outline import make_outline
from batchseg.schema import JsonObject
from batchseg.store import Store
from tiling.span import Window

GEOMETRY = "geometry"
BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One chunk, or one task that was given up; a field without a value is empty in the table."""

    scene: str
    row: int
    col: int
    kind: str
    """`done` or `empty`; `failed` for a chunk that was given up, `failed sheet` for a sheet, and so on."""
    attempts: int
    worker: str | None = None
    pool: str | None = None
    device: str | None = None
    cost_usd: float | None = None
    valid_px: int | None = None
    area_km2: float | None = None
    tiles_bulk: int | None = None
    tiles_heavy: int | None = None
    tiles_skipped: int | None = None
    mean_confidence: float | None = None
    stage_s: Mapping[Stage, float] | None = None
    """Seconds by stage; a column for each stage, like `read_s`."""
    stage_usd: Mapping[Stage, float] | None = None
    """US dollars by stage; a column for each stage, like `read_usd`."""
    story: str | None = None
    """Describe a task that was given up, one line per attempt."""

    def cells(self) -> Iterator[tuple[str, object]]:
        """The columns with the values of this row."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in _PER_STAGE:
                unit = _PER_STAGE[f.name]
                yield from ((f"{stage}_{unit}", None if value is None else value[stage]) for stage in STAGES)
            else:
                yield f.name, value


_PER_STAGE = {"stage_s": "s", "stage_usd": "usd"}
_TEXTS = frozenset({"scene", "kind", "worker", "pool", "device", "story"})
_WHOLE_NUMBERS = frozenset({"row", "col", "attempts", "valid_px", "tiles_bulk", "tiles_heavy", "tiles_skipped"})


def write_table(
    plan: PlanFile, store: Store, records: Sequence[Record], quarantined: Mapping[TaskKey, Story], key: str
) -> None:
    """Write the table of a run: its committed chunks, and the tasks that were given up."""
    tasks: list[TaskKey] = [record.key for record in records]
    tasks += quarantined
    rows = [_chunk_row(record) for record in records]
    rows += [_make_failed_row(task, story) for task, story in quarantined.items()]
    outlines = np.array([_outline(plan, task) for task in tasks], dtype=object)
    cells = [
        dict(row.cells()) | {GEOMETRY: None if polygon is None else shapely.to_wkb(polygon)}
        for row, polygon in zip(rows, outlines, strict=True)
    ]
    schema = pa.schema(
        [*_column_types().items(), (GEOMETRY, pa.binary())], metadata={"geo": format_json(_describe_geometry(outlines))}
    )
    with store.scratch() as folder:
        path = folder / "ledger.parquet"
        parquet.write_table(pa.Table.from_batches(_lay_out(cells, schema), schema), path, compression="zstd")
        store.put_file(key, path)


def _lay_out(rows: Sequence[Mapping[str, object]], schema: Any) -> list[Any]:
    """Arrow batches of so few rows that 32-bit offsets suffice for every column."""
    batches = []
    for start in range(0, len(rows), BATCH_ROWS):
        part = rows[start : start + BATCH_ROWS]
        columns = [_column([row.get(field.name) for row in part], field.type) for field in schema]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return batches


def _column(values: Sequence[Any], kind: Any) -> Any:
    """An Arrow array: one validity bit per value, then the numbers, or the offsets of the values and their bytes."""
    is_there = np.packbits(np.array([value is not None for value in values], bool), bitorder="little")
    if kind in {pa.string(), pa.binary()}:
        pieces = [encode_text(value) if isinstance(value, str) else value or b"" for value in values]
        ends = np.cumsum([0, *map(len, pieces)])
        buffers = [is_there, ends.astype(np.int32), b"".join(pieces)]
    else:
        buffers = [is_there, np.array([value or 0 for value in values], kind.to_pandas_dtype())]
    return pa.Array.from_buffers(kind, len(values), [pa.py_buffer(buffer) for buffer in buffers])


def _column_types() -> dict[str, Any]:
    """The columns with their types, which never depend on the rows: tables of many runs can be read as one."""
    columns = [name for name, _ in Row(scene="", row=0, col=0, kind="", attempts=0).cells()]
    kinds = dict.fromkeys(_TEXTS, pa.string()) | dict.fromkeys(_WHOLE_NUMBERS, pa.int64())
    return {name: kinds.get(name, pa.float64()) for name in columns}


def _describe_geometry(outlines: Any) -> JsonObject:
    """The metadata that GeoParquet requires about the geometry column."""
    has_any = any(polygon is not None for polygon in outlines)
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": pyproj.CRS("EPSG:4326").to_json_dict(),
        **({"bbox": shapely.total_bounds(outlines).tolist()} if has_any else {}),
    }
    return {"version": "1.0.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


def _chunk_row(record: Record) -> Row:
    measured, attempt = record.measured, record.attempt
    usd = price_stages(attempt)
    return Row(
        scene=record.key.scene,
        row=record.key.row,
        col=record.key.col,
        kind=record.kind,
        attempts=attempt.number,
        worker=attempt.worker,
        pool=attempt.pool,
        device=attempt.device,
        cost_usd=sum(usd.values()),
        valid_px=measured.valid_px,
        area_km2=measured.area_km2,
        tiles_bulk=measured.tiles.bulk,
        tiles_heavy=measured.tiles.heavy,
        tiles_skipped=measured.tiles.skipped,
        mean_confidence=measured.confidence_sum / CERTAIN / measured.valid_px if measured.valid_px else None,
        stage_s={stage: attempt.seconds.get(stage, 0.0) for stage in STAGES},
        stage_usd=usd,
    )


def _make_failed_row(task: TaskKey, story: Story) -> Row:
    kind = "failed" if isinstance(task, ChunkKey) else f"failed {task.kind}"
    return Row(scene=task.scene, row=task.row, col=task.col, kind=kind, attempts=len(story), story="\n".join(story))


def _outline(plan: PlanFile, task: TaskKey) -> Any:
    """The polygon of a task's ground; a sheet gets that of its whole scene."""
    georef = plan.scenes[task.scene].georef
    if isinstance(task, ChunkKey):
        return make_outline(georef, plan.window(task))
    return make_outline(georef, Window.of(0, georef.height_px, 0, georef.width_px))
