"""Say how far a run is, from its output folder alone, or what the last night did. Safe while the run works, and after.

It prints the committed chunks and the published GeoTIFFs of each scene, the ground and its classes, the speed and the
time left, workers and losses, the tasks that were given up, the cost so far, whether the driver is running, stopped or
gone, and the run's exit status. The exit status of this command is 0, or 2 where there is no run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.runs.status import DriverStatus, RunStatus
    from batchseg.runs.workers_status import WorkersStatus
    from batchseg.store import Store

HELP = "say how far a run is, also while it works"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="output folder or URL of a run, or of nights")


def main(args: argparse.Namespace) -> int:
    from batchseg.resolve.output_folder import open_nights
    from batchseg.runs.status import status

    nights = open_nights(args.output)
    lines = _lines(status(args.output)) if nights is None else _night_lines(args.output, nights)
    for text in lines:
        print(text)
    return 0


def _night_lines(output: str, nights: Store) -> Iterator[str]:
    """The last night, and the run of the night that works or was interrupted."""
    from batchseg.errors import InputError
    from batchseg.runs.night_files import read_batch, read_newest_summary
    from batchseg.runs.status import status
    from jobs.terminal.night_lines import format_nights

    yield from format_nights(read_newest_summary(nights))
    batch = read_batch(nights)
    if batch is None:
        return
    yield f"not finished: the run in {batch.folder}"
    try:
        run = status(f"{output.rstrip('/')}/{batch.folder}")
    except InputError:
        yield "  it has not begun"
        return
    yield from (f"  {text}" for text in _lines(run))


def _lines(run: RunStatus) -> Iterator[str]:
    from jobs.terminal.formats import format_count, format_damaged_lines, format_usd

    for scene in run.scenes:
        sheets = f", {format_count(scene.num_sheets, 'sheet')} of GeoTIFFs made" if scene.num_sheets else ""
        chunks = format_count(scene.num_chunks, "chunk")
        yield f"{scene.name}: {scene.num_committed} of {chunks} committed{sheets}"
    yield from _ground_lines(run)
    yield f"speed: {_format_speed(run)}"
    yield f"workers: {_format_workers(run.workers)}"
    if run.workers.message is not None:
        yield f"  {run.workers.message}"
    if run.num_damaged_lines:
        yield format_damaged_lines(run.num_damaged_lines)
    given_up = run.lost_scenes | {str(task): story for task, story in run.given_up.items()}
    yield f"given up: {len(given_up)}"
    for name, story in given_up.items():
        yield f"  {name}: {story[-1]}"
    yield f"cost so far: {format_usd(run.cost_usd)}"
    yield _driver_line(run.driver)
    yield f"exit status: {_format_exit(run)}"


def _ground_lines(run: RunStatus) -> Iterator[str]:
    from jobs.terminal.formats import format_areas, format_km2

    so_far = "" if all(scene.num_committed == scene.num_chunks for scene in run.scenes) else " so far"
    if run.measures is None:
        yield f"areas{so_far}: too many chunks to add up here; metrics.json has them when the run ends"
        return
    km2 = run.measures.area_km2
    ground = "km² unknown" if km2 is None else format_km2(km2)
    yield f"ground{so_far}: {ground}, {run.measures.valid_px / 1e6:.2f} Mpx"
    yield f"areas{so_far}: {format_areas(run.measures.class_area_km2, run.measures.class_px)}"


def _format_speed(run: RunStatus) -> str:
    from jobs.terminal.formats import format_duration

    speed = run.speed
    text = "unknown" if speed.mpx_per_s is None else f"{speed.mpx_per_s:.2f} Mpx/s"
    if run.driver.state != "running":
        return text
    left = "the time left is known after the first chunk" if speed.left_s is None else format_duration(speed.left_s)
    return f"{text}, {left}{'' if speed.left_s is None else ' left'}"


def _format_workers(workers: WorkersStatus) -> str:
    from jobs.terminal.formats import format_count

    parts = [f"{workers.num_working} working"]
    parts += [f"{workers.num_starting} starting"] if workers.num_starting else []
    parts += [f"{workers.num_leaving} leaving"] if workers.num_leaving else []
    parts.append(f"{workers.num_lost} lost" + (f" ({workers.num_preempted} preempted)" if workers.num_lost else ""))
    parts += [format_count(workers.num_failed_attempts, "failed attempt")] if workers.num_failed_attempts else []
    return ", ".join(parts)


def _format_exit(run: RunStatus) -> str:
    if run.exit is not None:
        return f"{run.exit.exit_status}, {run.exit.why}"
    return "none yet" if run.driver.state == "running" else "none: the driver ended without a word"


def _driver_line(driver: DriverStatus) -> str:
    process = f"process {driver.pid} on {driver.host}"
    if driver.state == "running":
        return f"running: {process}"
    if driver.state == "stopped":
        return f"not running; last driver: {process}, ended {driver.silent_s:.0f} s ago"
    return f"not running: {process} has been silent for {driver.silent_s:.0f} s; `batchseg run` resumes the run"
