"""Run a recipe, or go on with it where it stopped.

One worker in this process by default; Ray with --workers above 1 or with a fleet file. Inside a Ray cluster
(`ray job submit -- python -m jobs.run RECIPE --fleet FLEET`) it uses that cluster.

Interrupt it and give the same command again: at most the chunks in hand are computed again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.budget.pilot import PilotRunner
    from batchseg.recipe import Fleet
    from batchseg.resolve.job import Job
    from batchseg.runs.drive import Stop
    from batchseg.runs.progress import Snapshot
    from batchseg.runs.session import OpenPool, Options

HELP = "run or resume a recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file (YAML)")
    parser.add_argument("--fleet", metavar="FLEET", help="fleet file (YAML): workers, prices, retries; uses Ray")
    parser.add_argument("--workers", type=int, metavar="N", help="this many local workers; above 1 uses Ray")
    parser.add_argument("--sample", type=int, metavar="N", help="only N chunks, chosen by hash: a quick look")
    parser.add_argument(
        "--bbox",
        type=float,
        nargs=4,
        metavar=("WEST", "SOUTH", "EAST", "NORTH"),
        help="only chunks that this box of longitudes and latitudes touches",
    )
    parser.add_argument(
        "--retry-quarantined", action="store_true", help="give chunks that were given up another chance"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, only the summary")


def main(args: argparse.Namespace) -> int:
    from batchseg.recipe import load_fleet, load_recipe
    from batchseg.resolve.resolve import resolve
    from batchseg.runs.drive import Stop
    from batchseg.runs.session import run
    from jobs.terminal.live import show_run
    from jobs.terminal.summary import print_summary

    recipe = load_recipe(args.recipe)
    fleet = fleet_of(load_fleet(args.fleet), args.workers)
    resolved = resolve(recipe)
    stop = Stop()
    options = _options(args, resolved.job, stop)
    with Signals(stop), show_run(quiet=args.quiet) as show:
        open_pool, options = placed(dataclasses.replace(options, show=show), args, fleet)
        outcome = run(recipe, fleet, open_pool=open_pool, options=options, resolved=resolved)
    print_summary(outcome)
    return outcome.exit_status


def fleet_of(fleet: Fleet, workers: int | None) -> Fleet:
    if workers is None:
        return fleet
    from batchseg.errors import RecipeError

    if workers < 1:
        raise RecipeError("a run has at least one worker", where="--workers", got=str(workers))
    if len(fleet.pools) > 1:
        raise RecipeError(
            "--workers cannot say which pool it means", where="--workers", todo="set it in the fleet file"
        )
    return dataclasses.replace(fleet, pools=(dataclasses.replace(fleet.pools[0], workers=workers),))


def placed(options: Options, args: argparse.Namespace, fleet: Fleet) -> tuple[OpenPool | None, Options]:
    """Where the workers live, and what depends on it."""
    open_pool = pool_of(args, fleet)
    if open_pool is None or open_pool.__module__ != "jobs.cluster.pool":
        return open_pool, options
    from jobs.cluster.connection import ray

    one_machine = "RAY_ADDRESS" not in os.environ and not ray.is_initialized()
    options = dataclasses.replace(options, one_machine=one_machine, send_pilot=pilot_sender(one_machine=one_machine))
    return open_pool, _with_metrics(options)


def pool_of(args: argparse.Namespace, fleet: Fleet) -> OpenPool | None:
    """None is the pool in this process."""
    if getattr(args, "in_cluster", False) and "RAY_ADDRESS" not in os.environ:
        from jobs.cluster.connection import join_ray
        from jobs.cluster.pool import open_ray_pool

        if join_ray("auto"):
            return open_ray_pool
    if args.fleet is None and sum(pool.workers for pool in fleet.pools) == 1 and "RAY_ADDRESS" not in os.environ:
        return None
    from jobs.cluster.pool import open_ray_pool

    return open_ray_pool


def pilot_sender(*, one_machine: bool) -> PilotRunner | None:
    """On a cluster a pilot runs where the workers do."""
    if one_machine:
        return None
    from jobs.cluster.pilot import send_pilot

    return send_pilot


def _with_metrics(options: Options) -> Options:
    """What is shown here is shown by Ray's metrics too."""
    from jobs.cluster.ray_metrics import RayMetrics

    metrics, show = RayMetrics(), options.show

    def show_both(snapshot: Snapshot) -> None:
        show(snapshot)
        metrics.show(snapshot)

    return dataclasses.replace(options, watchers=(*options.watchers, metrics), show=show_both)


def _options(args: argparse.Namespace, job: Job, stop: Stop) -> Options:
    from batchseg.runs.selection import all_chunks, chunks_in_box, sample_of
    from batchseg.runs.session import Options

    if args.bbox is None and args.sample is None:
        return Options(retry_quarantined=args.retry_quarantined, stop=stop)
    wanted = all_chunks(job) if args.bbox is None else chunks_in_box(job, args.bbox)
    if args.sample is not None:
        wanted = sample_of(wanted, args.sample)
    return Options(wanted=wanted.__contains__, retry_quarantined=args.retry_quarantined, stop=stop)


class Signals:
    """The first interrupt lets the chunks in hand end; the second leaves at once. Both can be resumed."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _: FrameType | None) -> None:
        name, status = signal.Signals(number).name, 128 + number
        if self._stop.why is not None:
            print("\nbatchseg: leaving at once; the same command goes on where this stopped", file=sys.stderr)
            os._exit(status)
        self._stop.request(name, status)  # first, so that a second signal finds it, however soon it comes
        print(f"\nbatchseg: {name}: finishing the chunks in hand; once more to leave at once", file=sys.stderr)


def run_main(argv: Sequence[str] | None = None) -> int:
    """`python -m jobs.run …`."""
    from jobs.cli import guarded

    parser = argparse.ArgumentParser(
        prog="python -m jobs.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(main=main, in_cluster=True)
    return guarded(parser.parse_args(argv))
