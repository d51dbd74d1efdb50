"""Say how far a run is, from its output folder alone. Safe while the run works, and after.

It prints the committed chunks and the published GeoTIFFs of each scene, the tasks that were given up, the cost so far,
and whether the driver is running, stopped or gone. The exit status is 0, or 2 where there is no run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.runs.status import DriverStatus, RunStatus

HELP = "say how far a run is, also while it works"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="output folder or URL of the run")


def main(args: argparse.Namespace) -> int:
    from batchseg.runs.status import status

    for text in _lines(status(args.output)):
        print(text)
    return 0


def _lines(run: RunStatus) -> Iterator[str]:
    from jobs.terminal.formats import format_count, format_usd

    for scene in run.scenes:
        sheets = f", {format_count(scene.num_sheets, 'sheet')} of GeoTIFFs made" if scene.num_sheets else ""
        chunks = format_count(scene.num_chunks, "chunk")
        yield f"{scene.name}: {scene.num_committed} of {chunks} committed{sheets}"
    given_up = run.lost_scenes | {str(task): story for task, story in run.given_up.items()}
    yield f"given up: {len(given_up)}"
    for name, story in given_up.items():
        yield f"  {name}: {story[-1]}"
    yield f"cost so far: {format_usd(run.cost_usd)}"
    yield _driver_line(run.driver)


def _driver_line(driver: DriverStatus) -> str:
    process = f"process {driver.pid} on {driver.host}"
    if driver.state == "running":
        return f"running: {process}"
    if driver.state == "stopped":
        return f"not running; last driver: {process}, ended {driver.silent_s:.0f} s ago"
    return f"not running: {process} has been silent for {driver.silent_s:.0f} s; `batchseg run` resumes the run"
