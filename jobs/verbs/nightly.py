"""Run a recipe over every scene that is new or has changed since the last night.

    python -m jobs.nightly configs/nightly.yaml --fleet FLEET

A scheduler starts it. After an interruption the next start resumes the night. A second start beside a running one stops
with one line and changes nothing.

exit status:
  0  latest.json is up to date
  2  bad input, or another night is running
  3  coverage or failures miss the thresholds; latest.json stays as it is
  4  stopped by the budget
  5  storage refuses, or no worker starts
  130 / 143  interrupted
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.terminal.fleet_arguments import add_fleet_arguments, load_limited_fleet
from jobs.terminal.redacted_output import redact_output

if TYPE_CHECKING:
    from batchseg.recipe import Recipe
    from batchseg.resolve.resolve import Resolved
    from batchseg.runs.night import NightOutcome
    from batchseg.runs.session import Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("night", metavar="NIGHT", help="night file (YAML); configs/nightly.yaml is an example")
    add_fleet_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="print the summary only, no progress")


def main(args: argparse.Namespace) -> int:
    from batchseg.runs.night import run_night
    from batchseg.runs.night_settings import load_night
    from batchseg.runs.session import Options
    from jobs.cluster.job_folder import check_night_paths
    from jobs.runner import choose_runner
    from jobs.verbs.run import run_visibly

    read_files = tuple(filter(None, (args.night, args.fleet)))
    night, fleet = load_night(args.night), load_limited_fleet(args.fleet, args.workers)
    check_night_paths(night)

    def run(recipe: Recipe, resolved: Resolved) -> Outcome:
        runner = choose_runner(fleet, has_fleet_file=args.fleet is not None, join_cluster=True)
        options = Options(read_files=(*read_files, night.recipe))
        return run_visibly(runner, recipe, fleet, resolved=resolved, options=options, quiet=args.quiet)

    outcome = run_night(night, run, read_files=read_files)
    print_night(outcome)
    return outcome.exit_status


def print_night(outcome: NightOutcome) -> None:
    from jobs.terminal.night_lines import format_cost, format_scene

    for note in outcome.notes:
        print(f"batchseg: {note}", file=sys.stderr)
    counts = Counter(result.state for result in outcome.scenes)
    states = ", ".join(f"{num} {state}" for state, num in sorted(counts.items())) or "no scene"
    print(f"night: {states}{format_cost(outcome.cost_usd)}")
    for result in outcome.scenes:
        if result.error or result.reason:
            print(f"  {format_scene(result)}")
    if not outcome.has_latest:
        print(f"there is no latest.json yet: {outcome.why}")
    else:
        print(f"latest.json {'is up to date' if outcome.moved_latest else 'stays as it is'}: {outcome.why}")


@redact_output()
def run_main(argv: Sequence[str] | None = None) -> int:
    """`python -m jobs.nightly …`."""
    from jobs.cli import parse_arguments, run_verb

    parser = argparse.ArgumentParser(
        prog="python -m jobs.nightly", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(main=main)
    return run_verb(parse_arguments(parser, argv))
