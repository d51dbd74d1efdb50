"""Print the story of one chunk: its contents, its cost, its stored objects, and its events in order.

It comes from the chunk's record and from the log, both below OUTPUT/run, so it needs neither recipe nor scene.
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

HELP = "print the story of one chunk: contents, cost, stored objects, events"
PRINTED_FACTS = ("task", "story")
"""Facts of an event that earlier lines have printed already."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="output folder or URL of the run")
    parser.add_argument("chunk", metavar="CHUNK", help="name of the chunk: SCENE/ROW_COLUMN, for example scene/0_3")


def main(args: argparse.Namespace) -> int:
    from batchseg.ledger.keys import parse_chunk_key
    from batchseg.ledger.ledger import Ledger
    from batchseg.resolve.output_folder import open_output
    from batchseg.resolve.plan_file import read_plan
    from batchseg.runs.log import read_log_lines
    from jobs.terminal.formats import line

    store = open_output(args.output)
    key, plan, ledger = parse_chunk_key(args.chunk), read_plan(store), Ledger(store)
    _check_chunk(key, plan)
    record, window = ledger.read_record(key), plan.window(key)
    rows, cols = window.rows, window.cols
    print(line("chunk", f"{key}: rows {rows.start} to {rows.stop}, columns {cols.start} to {cols.stop}"))
    for text in _format_record(record, plan) if record else [line("kind", "not committed")]:
        print(text)
    for failure in ledger.read_story(key) or ():
        print(line("given up", failure))
    for event in _select_events(read_log_lines(store), str(key)):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.pop("unix_s")))
        print(
            f"{when}  {event.pop('event')}  "
            + "  ".join(f"{k}={v}" for k, v in event.items() if k not in PRINTED_FACTS)
        )
    return 0


def _check_chunk(key: ChunkKey, plan: PlanFile) -> None:
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


def _format_record(record: Record, plan: PlanFile) -> Iterator[str]:
    from batchseg.ledger.stages import STAGES, sum_paid_s
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
    usd = sum_paid_s(seconds) * attempt.usd_per_hour / 3600
    yield line("cost", f"{format_usd(usd)}, {sum_paid_s(seconds):.2f} s  ({format_shares(seconds)})")
    yield line("worker", f"{attempt.worker}, attempt {attempt.number}; {_join_facts(attempt.environment)}")
    for stored in record.objects:
        yield line("stored", f"{stored.key}, {stored.size_bytes} bytes, {stored.digest}")


def _join_facts(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _select_events(lines: list[str], task: str) -> list[dict[str, Any]]:
    events = [_parse_event(text) for text in lines]
    return [event for event in events if event.get("task") == task]


def _parse_event(text: str) -> dict[str, Any]:
    """The facts of one line; none if a driver was killed while it wrote the line."""
    try:
        event = json.loads(text)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
