"""The story of one chunk: its record, what it cost, and every event of it in order."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

HELP = "the story of one chunk"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="the run's output folder")
    parser.add_argument("chunk", metavar="CHUNK", help="its name, SCENE/ROW_COLUMN, like scene/0_3")


def main(args: argparse.Namespace) -> int:
    from batchseg.errors import InputError  # noqa: PLC0415 - --help must not wait for it
    from batchseg.ledger.keys import parse_chunk_key  # noqa: PLC0415
    from batchseg.ledger.ledger import Ledger  # noqa: PLC0415
    from batchseg.recipe.build import plain  # noqa: PLC0415
    from jobs.folder import opened  # noqa: PLC0415

    store, run = opened(args.output)
    key = parse_chunk_key(args.chunk)
    if key.scene not in run["resolved"]["scenes"]:
        known = ", ".join(run["resolved"]["scenes"])
        raise InputError("no such scene in this run", where=args.chunk, expected=known, got=key.scene)
    record, story = Ledger(store).record(key), Ledger(store).story(key)
    print(json.dumps(plain(record), indent=1) if record else f"{key} has not been committed")
    for line in story or ():
        print(f"given up: {line}")
    for event in _events(args.output / "run" / "log.jsonl", str(key)):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(event.pop("unix_s")))))
        print(f"{when}  {event.pop('event')}  " + "  ".join(f"{k}={v}" for k, v in event.items() if k != "task"))
    return 0


def _events(log: Path, task: str) -> list[dict[str, object]]:
    if not log.exists():
        return []
    events = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    return [event for event in events if event.get("task") == task]
