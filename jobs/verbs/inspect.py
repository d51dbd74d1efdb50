"""Print the story of one chunk: its contents, its cost, its stored objects, and its events in order.

It comes from the chunk's record and from the log, both below OUTPUT/run, so it needs neither recipe nor scene.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.ledger.records import Record
    from batchseg.runs.inspection import ChunkReport
    from batchseg.runs.log import LogEntry

HELP = "print the story of one chunk: contents, cost, stored objects, events"
PRINTED_ABOVE = ("task", "story")
"""Facts of a log line that the lines above it show already."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="output folder or URL of the run")
    parser.add_argument("chunk", metavar="CHUNK", help="name of the chunk: SCENE/ROW_COLUMN, for example scene/0_3")


def main(args: argparse.Namespace) -> int:
    from batchseg.runs.inspection import inspect_chunk

    for text in format_chunk(inspect_chunk(args.output, args.chunk)):
        print(text)
    return 0


def format_chunk(chunk: ChunkReport) -> Iterator[str]:
    from jobs.terminal.formats import format_damaged_lines, format_line

    rows, cols = chunk.window.rows, chunk.window.cols
    yield format_line("chunk", f"{chunk.key}: rows {rows.start} to {rows.stop}, columns {cols.start} to {cols.stop}")
    if chunk.record is None:
        yield format_line("kind", "not committed")
    else:
        yield from _format_record(chunk.record, chunk.class_names)
    for text in chunk.given_up:
        yield format_line("given up", text)
    for entry in chunk.log:
        yield _format_entry(entry)
    if chunk.num_damaged_lines:
        yield format_damaged_lines(chunk.num_damaged_lines)


def _format_record(record: Record, class_names: tuple[str, ...]) -> Iterator[str]:
    from batchseg.ledger.stages import STAGES, sum_paid_s
    from jobs.terminal.formats import format_line, format_shares, format_usd

    measured, attempt = record.measured, record.attempt
    tiles, area_km2 = measured.tiles, measured.area_km2
    yield format_line("kind", record.kind)
    yield format_line("tiles", f"{tiles.bulk} bulk, {tiles.heavy} heavy, {tiles.skipped} skipped")
    area = "km² unknown" if area_km2 is None else f"{area_km2:.4f} km²"
    yield format_line("ground", f"{area}, {measured.valid_px} valid pixels")
    classes = zip(class_names, measured.class_px, strict=True)
    yield format_line("classes", ", ".join(f"{name} {px}" for name, px in classes if px) or "none")
    seconds = {str(stage): s for stage, s in attempt.seconds.items() if stage in STAGES}
    usd = sum_paid_s(seconds) * attempt.usd_per_hour / 3600
    yield format_line("cost", f"{format_usd(usd)}, {sum_paid_s(seconds):.2f} s  ({format_shares(seconds)})")
    yield format_line("worker", f"{attempt.worker}, attempt {attempt.number}; {_join_facts(attempt.environment)}")
    for stored in record.objects:
        yield format_line("stored", f"{stored.key}, {stored.size_bytes} bytes, {stored.digest}")


def _join_facts(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _format_entry(entry: LogEntry) -> str:
    local_time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.unix_s))
    facts = "  ".join(f"{name}={value}" for name, value in entry.facts.items() if name not in PRINTED_ABOVE)
    return f"{local_time}  {entry.event}  {facts}"
