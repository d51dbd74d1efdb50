"""The story of one chunk: its record, what it cost, and every event of it in order."""

from __future__ import annotations

import argparse
import difflib
import json
import time
from pathlib import Path
from typing import Any

HELP = "the story of one chunk"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="the run's output folder")
    parser.add_argument("chunk", metavar="CHUNK", help="its name, SCENE/ROW_COLUMN, like scene/0_3")


def main(args: argparse.Namespace) -> int:
    from batchseg.errors import InputError  # noqa: PLC0415 - --help must not wait for it
    from batchseg.ledger.keys import parse_chunk_key  # noqa: PLC0415
    from batchseg.ledger.ledger import Ledger  # noqa: PLC0415
    from batchseg.recipe.build import plain  # noqa: PLC0415
    from batchseg.runs.planfile import read_plan  # noqa: PLC0415
    from jobs.folder import opened  # noqa: PLC0415

    store, _ = opened(args.output)
    key, plan = parse_chunk_key(args.chunk), read_plan(store)
    if key.scene not in plan.scenes:
        near = difflib.get_close_matches(key.scene, plan.scenes, n=1, cutoff=0)
        raise InputError(
            "no such scene in this run", where=args.chunk, todo=f"did you mean {near[0]}/{key.row}_{key.col}?"
        )
    rows, cols = plan.grid(key.scene).shape
    if key.row >= rows or key.col >= cols:
        raise InputError(
            "no such chunk", where=args.chunk, expected=f"{key.scene}/0_0 to {key.scene}/{rows - 1}_{cols - 1}"
        )
    record, story = Ledger(store).record(key), Ledger(store).story(key)
    print(json.dumps(plain(record), indent=1) if record else f"{key} has not been committed")
    for line in story or ():
        print(f"given up: {line}")
    for event in _events(args.output / "run" / "log.jsonl", str(key)):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.pop("unix_s")))
        print(f"{when}  {event.pop('event')}  " + "  ".join(f"{k}={v}" for k, v in event.items() if k != "task"))
    return 0


def _events(log: Path, task: str) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    events = [_event(line) for line in log.read_text("utf-8").splitlines()]
    return [event for event in events if event.get("task") == task]


def _event(line: str) -> dict[str, Any]:
    """A driver that was killed while it wrote leaves half a line, of which nothing can be told."""
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return found
