"""Run a recipe, or resume it where it stopped.

Without a fleet file the run has one worker in this process. With --fleet, or --workers above 1, it has workers on Ray.
Inside a Ray cluster (`ray job submit -- python -m jobs.run RECIPE --fleet FLEET`) it uses that cluster.

An interrupted run is resumed by the same command: at most the chunks in hand are computed again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.terminal.fleet_arguments import add_fleet_arguments, load_limited_fleet
from jobs.terminal.redacted_output import redact_output

if TYPE_CHECKING:
    from batchseg.recipe import Fleet, Recipe
    from batchseg.resolve.resolve import Resolved
    from batchseg.runs.session import Options, Outcome
    from jobs.runner import Runner

HELP = "run or resume a recipe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file (YAML)")
    add_fleet_arguments(parser)
    parser.add_argument("--sample", type=int, metavar="N", help="compute N chunks only, chosen by hash: a quick look")
    parser.add_argument(
        "--bbox",
        type=float,
        nargs=4,
        metavar=("WEST", "SOUTH", "EAST", "NORTH"),
        help="compute only the chunks that this box touches; longitudes and latitudes in degrees",
    )
    parser.add_argument("--retry-quarantined", action="store_true", help="try the chunks that were given up again")
    parser.add_argument("--quiet", action="store_true", help="print the summary only, no progress")


def main(args: argparse.Namespace) -> int:
    from batchseg.recipe import load_recipe
    from batchseg.resolve.resolve import resolve
    from batchseg.runs.selection import select_chunks
    from batchseg.runs.session import Options
    from jobs.runner import choose_runner
    from jobs.terminal.summary import print_summary

    recipe, fleet = load_recipe(args.recipe), load_limited_fleet(args.fleet, args.workers)
    in_cluster = getattr(args, "in_cluster", False)
    if in_cluster:
        from jobs.cluster.job_folder import check_recipe_paths

        check_recipe_paths(recipe)
    resolved = resolve(recipe)
    wanted = select_chunks(resolved.job, bbox=args.bbox, num_chunks=args.sample)
    options = Options(
        wanted=None if wanted is None else wanted.__contains__,
        retry_quarantined=args.retry_quarantined,
        read_files=tuple(filter(None, (args.recipe, args.fleet))),
    )
    if not in_cluster:
        warn_of_shared_cores(resolved, fleet, has_fleet_file=args.fleet is not None)
    runner = choose_runner(fleet, has_fleet_file=args.fleet is not None, join_cluster=in_cluster)
    outcome = run_visibly(runner, recipe, fleet, resolved=resolved, options=options, quiet=args.quiet)
    for file in outcome.remade:
        print(f"batchseg: {file}", file=sys.stderr)
    print_summary(outcome)
    return outcome.exit_status


def warn_of_shared_cores(resolved: Resolved, fleet: Fleet, *, has_fleet_file: bool) -> None:
    """Say on stderr if the workers would have too few cores on this machine."""
    from batchseg.budget.crew import count_crew
    from batchseg.workers.models import choose_pool_device
    from jobs.runner import find_placement

    placement = find_placement(fleet, has_fleet_file=has_fleet_file)
    device = choose_pool_device(fleet.pools[0], resolved.job, in_process=placement.in_process)
    warning = count_crew(resolved, fleet, placement, device).warning
    if warning is not None:
        print(f"batchseg: {warning}", file=sys.stderr)


def run_visibly(
    runner: Runner,
    recipe: Recipe,
    fleet: Fleet,
    *,
    resolved: Resolved,
    options: Options | None = None,
    quiet: bool,
) -> Outcome:
    """Run a recipe with progress on the terminal, stopping in order at the first signal."""
    from batchseg.runs.drive import Stop
    from batchseg.runs.session import Options
    from jobs.terminal.live import show_run
    from jobs.terminal.signals import stop_on_signals

    stop = Stop()
    with stop_on_signals(stop, within_s=fleet.patience.stop_s), show_run(quiet=quiet) as show:
        options = dataclasses.replace(options or Options(), stop=stop, show=show)
        return runner(recipe, fleet, options=options, resolved=resolved)


@redact_output()
def run_main(argv: Sequence[str] | None = None) -> int:
    """`python -m jobs.run …`."""
    from jobs.cli import parse_arguments, run_verb

    parser = argparse.ArgumentParser(
        prog="python -m jobs.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(main=main, in_cluster=True)
    return run_verb(parse_arguments(parser, argv))
