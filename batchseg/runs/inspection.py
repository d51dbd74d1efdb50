"""Everything that is known of one chunk, from the output folder alone."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from batchseg.errors import InputError
from batchseg.ledger.keys import ChunkKey, Story, parse_chunk_key
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record
from batchseg.resolve.output_folder import open_output
from batchseg.resolve.plan_file import PlanFile, read_plan
from batchseg.runs.log import LogEntry, read_log
from tiling.span import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkReport:
    """One chunk of a run."""

    key: ChunkKey
    window: Window
    """Its rows and columns in the scene."""
    class_names: tuple[str, ...]
    """The classes that the record counts pixels of, in the same order."""
    record: Record | None
    """None before the chunk is committed."""
    given_up: Story
    """Attempts at a chunk that was given up, alone or with its scene, in order; empty for any other chunk."""
    log: tuple[LogEntry, ...]
    """The lines of the run's log that name the chunk."""
    num_damaged_lines: int
    """Lines of the log that nobody can read, whatever they told of."""


def inspect_chunk(output: str | Path, chunk: str) -> ChunkReport:
    """Collect everything that is known of one chunk.

    Args:
        output: The output folder or URL of a run.
        chunk: The name of the chunk, SCENE/ROW_COLUMN.

    Raises:
        InputError: There is no run, or no such chunk in it.
        DamagedError: A file of the run cannot be read.
    """
    store, key = open_output(output), parse_chunk_key(chunk)
    plan, ledger = read_plan(store), Ledger(store)
    _check_key(key, plan)
    record, log = ledger.read_record(key), read_log(store)
    return ChunkReport(
        key=key,
        window=plan.window(key),
        class_names=plan.class_names,
        record=record,
        given_up=() if record is not None else ledger.read_story(key) or (),
        log=tuple(entry for entry in log if entry.facts.get("task") == str(key)),
        num_damaged_lines=log.num_damaged,
    )


def _check_key(key: ChunkKey, plan: PlanFile) -> None:
    if key.scene not in plan.scenes:
        near = difflib.get_close_matches(key.scene, plan.scenes, n=1, cutoff=0)
        raise InputError(
            "no such scene in this run", where=str(key), todo=f"did you mean {near[0]}/{key.row}_{key.col}?"
        )
    rows, cols = plan.grid(key.scene).shape
    if key.row >= rows or key.col >= cols:
        expected = f"{key.scene}/0_0 to {key.scene}/{rows - 1}_{cols - 1}"
        raise InputError("no such chunk", where=str(key), expected=expected)
