"""How far a run is, from its ledger alone; safe while it runs, and after."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter

HELP = "how far a run is, from another terminal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="the run's output folder or URL")


def main(args: argparse.Namespace) -> int:
    from batchseg.ledger.ledger import Ledger
    from batchseg.paths import LEASE_KEY
    from batchseg.reports.write import spent_usd
    from batchseg.resolve.plan_file import read_plan
    from jobs.terminal.formats import format_count, format_usd
    from jobs.terminal.output_folder import opened

    store, _ = opened(args.output)
    plan, ledger = read_plan(store), Ledger(store)
    done, given_up = Counter(key.scene for key in ledger.read_briefs()), ledger.read_quarantine()
    sheets = Counter(record.key.scene for record in ledger.read_sheets())
    for scene in plan.scenes:
        made = f", {format_count(sheets[scene], 'sheet')} of GeoTIFFs made" if sheets[scene] else ""
        print(f"{scene}: {done[scene]} of {format_count(len(plan.grid(scene)), 'chunk')} committed{made}")
    print(f"given up: {len(given_up)}" + "".join(f"\n  {task}: {story[-1]}" for task, story in given_up.items()))
    print(f"cost so far: {format_usd(spent_usd(store, head_usd_per_hour=plan.head_usd_per_hour))}")
    print(_driver(json.loads(store.get(LEASE_KEY))))
    return 0


def _driver(driver: dict[str, object]) -> str:
    age_s = time.time() - float(str(driver["beat_unix_s"]))
    who = f"process {driver['pid']} on {driver['host']}"
    if driver["ended"]:
        return f"not running; last driver: {who}, ended {age_s:.0f} s ago"
    if age_s > 15:
        return f"not running: {who} gave no sign for {age_s:.0f} s; the same `batchseg run` goes on"
    return f"running: {who}"
