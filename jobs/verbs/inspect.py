"""The story of one chunk: what it holds, what it cost, what is stored of it, and every event in order.

All that is known of it is in its record, OUTPUT/run/records/SCENE/ROW_COLUMN.json.
"""

from __future__ import annotations

import argparse
import difflib
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchseg.ledger.keys import ChunkKey
    from batchseg.ledger.records import Record
    from batchseg.resolve.plan_file import PlanFile

HELP = "the story of one chunk"
TOLD = ("task", "story")
"""What the lines above have told of an event already."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="the run's output folder or URL")
    parser.add_argument("chunk", metavar="CHUNK", help="its name, SCENE/ROW_COLUMN, like scene/0_3")


def main(args: argparse.Namespace) -> int:
    from batchseg.ledger.keys import parse_chunk_key
    from batchseg.ledger.ledger import Ledger
    from batchseg.resolve.plan_file import read_plan
    from batchseg.runs.log import read_log_lines
    from jobs.terminal.formats import line
    from jobs.terminal.output_folder import opened

    store, _ = opened(args.output)
    key, plan, ledger = parse_chunk_key(args.chunk), read_plan(store), Ledger(store)
    _check(key, plan)
    record, window = ledger.read_record(key), plan.window(key)
    rows, cols = window.rows, window.cols
    print(line("chunk", f"{key}: rows {rows.start} to {rows.stop}, columns {cols.start} to {cols.stop}"))
    for text in _lines(record, plan) if record else [line("kind", "not committed")]:
        print(text)
    for told in ledger.read_story(key) or ():
        print(line("given up", told))
    for event in _events(read_log_lines(store), str(key)):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.pop("unix_s")))
        print(f"{when}  {event.pop('event')}  " + "  ".join(f"{k}={v}" for k, v in event.items() if k not in TOLD))
    return 0


def _check(key: ChunkKey, plan: PlanFile) -> None:
    from batchseg.errors import InputError

    if key.scene not in plan.scenes:
        near = difflib.get_close_matches(key.scene, plan.scenes, n=1, cutoff=0)
        raise InputError(
            "no such scene in this run", where=str(key), todo=f"did you mean {near[0]}/{key.row}_{key.col}?"
        )
    rows, cols = plan.grid(key.scene).shape
    if key.row >= rows or key.col >= cols:
        expected = f"{key.scene}/0_0 to {key.scene}/{rows - 1}_{cols - 1}"
        raise InputError("no such chunk", where=str(key), expected=expected)


def _lines(record: Record, plan: PlanFile) -> Iterator[str]:
    from batchseg.ledger.stages import STAGES, paid_s
    from jobs.terminal.formats import format_shares, format_usd, line

    measured, attempt = record.measured, record.attempt
    tiles, area_km2 = measured.tiles, measured.area_km2
    yield line("kind", record.kind)
    yield line("tiles", f"{tiles.bulk} bulk, {tiles.heavy} heavy, {tiles.skipped} skipped")
    area = "km² unknown" if area_km2 is None else f"{area_km2:.4f} km²"
    yield line("ground", f"{area}, {measured.valid_px} valid pixels")
    classes = zip(plan.class_names, measured.class_px, strict=True)
    yield line("classes", ", ".join(f"{name} {px}" for name, px in classes if px) or "none")
    seconds = {str(stage): s for stage, s in attempt.seconds.items() if stage in STAGES}
    usd = paid_s(seconds) * attempt.usd_per_hour / 3600
    yield line("cost", f"{format_usd(usd)}, {paid_s(seconds):.2f} s  ({format_shares(seconds)})")
    yield line("worker", f"{attempt.worker}, attempt {attempt.number}; {_flat(attempt.environment)}")
    for stored in record.objects:
        yield line("stored", f"{stored.key}, {stored.size_bytes} bytes, {stored.digest}")


def _flat(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _events(lines: list[str], task: str) -> list[dict[str, Any]]:
    events = [_event(text) for text in lines]
    return [event for event in events if event.get("task") == task]


def _event(text: str) -> dict[str, Any]:
    """A driver that was killed while it wrote leaves half a line, of which nothing can be told."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return found
