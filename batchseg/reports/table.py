"""ledger.parquet: one row and one polygon a chunk, for QGIS, DuckDB and pandas.

Written by pyarrow as GeoParquet 1.0. geopandas would do the same in a line, but it brings pandas, and the two are a
quarter of the memory that a run of a small scene needs. `pa.array` and `pa.table` import pandas too where it is
installed, if only to ask whether a list is one of its columns: hence columns are laid out here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyproj
import shapely
from pyarrow import parquet

from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.records import Record
from batchseg.ledger.stages import STAGES
from batchseg.reports.money import usd_by_stage
from batchseg.resolve.plan_file import PlanFile
from batchseg.scene.outline import outline
from batchseg.store import Store
from tiling.span import Window

GEOMETRY = "geometry"
BATCH_ROWS = 65_536


def write_table(
    plan: PlanFile, store: Store, records: Sequence[Record], quarantined: dict[str, tuple[str, ...]], key: str
) -> None:
    rows = [_row(record) for record in records]
    rows += [_failed_row(task, story) for task, story in quarantined.items()]
    outlines = np.array([_outline_of(plan, row) for row in rows], dtype=object)
    for row, polygon in zip(rows, outlines, strict=True):
        row[GEOMETRY] = None if polygon is None else shapely.to_wkb(polygon)
    schema = pa.schema([*_types().items(), (GEOMETRY, pa.binary())], metadata={"geo": json.dumps(_geo(outlines))})
    with tempfile.TemporaryDirectory(dir=store.scratch()) as folder:
        path = Path(folder) / "ledger.parquet"
        parquet.write_table(pa.Table.from_batches(_batches(rows, schema), schema), path, compression="zstd")
        store.put_file(key, path)


def _batches(rows: list[dict[str, Any]], schema: Any) -> list[Any]:
    """Of so many rows that no column's bytes need more than four bytes to count."""
    found = []
    for start in range(0, len(rows), BATCH_ROWS):
        part = rows[start : start + BATCH_ROWS]
        columns = [_column([row.get(field.name) for row in part], field.type) for field in schema]
        found.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return found


def _column(values: list[Any], kind: Any) -> Any:
    """An Arrow array: a bit a value that is there, and numbers, or bytes and where each value's end."""
    is_there = np.packbits(np.array([value is not None for value in values], bool), bitorder="little")
    if kind in {pa.string(), pa.binary()}:
        pieces = [value.encode() if isinstance(value, str) else value or b"" for value in values]
        ends = np.cumsum([0, *map(len, pieces)])
        buffers = [is_there, ends.astype(np.int32), b"".join(pieces)]
    else:
        buffers = [is_there, np.array([value or 0 for value in values], kind.to_pandas_dtype())]
    return pa.Array.from_buffers(kind, len(values), [pa.py_buffer(buffer) for buffer in buffers])


def _types() -> dict[str, Any]:
    """The columns, of the same types whatever the rows say: the tables of many runs can be read as one."""
    plain = ["scene", "row", "col", "kind", "attempts", "worker", "pool", "device", "cost_usd", "valid_px", "area_km2"]
    tiles = ["tiles_bulk", "tiles_heavy", "tiles_skipped"]
    stages = [f"{stage}_{unit}" for unit in ("s", "usd") for stage in STAGES]
    special = dict.fromkeys(("scene", "kind", "worker", "pool", "device", "story"), pa.string())
    special |= dict.fromkeys(("row", "col", "attempts", "valid_px", *tiles), pa.int64())
    names = [*plain, *tiles, "mean_confidence", *stages, "story"]
    return {name: special.get(name, pa.float64()) for name in names}


def _geo(outlines: Any) -> dict[str, Any]:
    """What GeoParquet says of its geometry."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": pyproj.CRS("EPSG:4326").to_json_dict(),
    }
    if any(outline is not None for outline in outlines):
        column["bbox"] = shapely.total_bounds(outlines).tolist()
    return {"version": "1.0.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


def _row(record: Record) -> dict[str, Any]:
    measured, attempt = record.measured, record.attempt
    usd = usd_by_stage(attempt)
    return {
        "scene": record.key.scene,
        "row": record.key.row,
        "col": record.key.col,
        "kind": record.kind,
        "attempts": attempt.number,
        "worker": attempt.worker,
        "pool": attempt.pool,
        "device": attempt.device,
        "cost_usd": sum(usd.values()),
        "valid_px": measured.valid_px,
        "area_km2": measured.area_km2,
        "tiles_bulk": measured.tiles.bulk,
        "tiles_heavy": measured.tiles.heavy,
        "tiles_skipped": measured.tiles.skipped,
        "mean_confidence": measured.confidence_sum / 254 / measured.valid_px if measured.valid_px else None,
        **{f"{stage}_s": attempt.seconds.get(stage, 0.0) for stage in STAGES},
        **{f"{stage}_usd": usd[stage] for stage in STAGES},
    }


def _failed_row(task: str, story: tuple[str, ...]) -> dict[str, Any]:
    scene, _, cell = task.rpartition("/")
    row, _, col = cell.removeprefix("sheet_").partition("_")
    kind = "failed sheet" if cell.startswith("sheet_") else "failed"
    return {
        "scene": scene,
        "row": int(row),
        "col": int(col),
        "kind": kind,
        "attempts": len(story),
        "story": "\n".join(story),
    }


def _outline_of(plan: PlanFile, row: dict[str, Any]) -> Any:
    """Ground that was given up is on the map too; a sheet lies over the whole of its scene."""
    georef = plan.scenes[row["scene"]].georef
    if row["kind"] == "failed sheet":
        return outline(georef, Window.of(0, georef.height_px, 0, georef.width_px))
    return outline(georef, plan.window(ChunkKey(row["scene"], row["row"], row["col"])))
