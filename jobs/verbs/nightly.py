"""Run a recipe over every scene that is new or has changed since the last night.

    python -m jobs.nightly configs/nightly.yaml --fleet FLEET

Meant for a scheduler. Started again after any end it goes on where it stopped; started twice, the second one stops with
a clear line and touches nothing. The exit status:

  0 latest.json is up to date   2 bad input, or a night is running already   3 coverage or failures miss the thresholds
  4 stopped by the budget       130 / 143 interrupted
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.recipe import Fleet, Recipe
    from batchseg.resolve.resolve import Resolved
    from batchseg.runs.night import SceneResult
    from batchseg.runs.session import Outcome

EXIT_MISSED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("night", metavar="NIGHT", help="what a night does (YAML); configs/nightly.yaml is one")
    parser.add_argument("--fleet", metavar="FLEET", help="fleet file (YAML): workers, prices, retries; uses Ray")
    parser.add_argument("--workers", type=int, metavar="N", help="this many local workers; above 1 uses Ray")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the summary")


def main(args: argparse.Namespace) -> int:
    from batchseg.ledger.lease import BEAT_S, Lease
    from batchseg.recipe import load_fleet
    from batchseg.recipe.load import load_as, load_recipe
    from batchseg.resolve.destination import check_folder
    from batchseg.runs.night import Night, batch_of, look, passes, publish, run_batch, settle
    from batchseg.store import LocalStore
    from batchseg.workers.heartbeat import Heartbeat
    from jobs.verbs.run import fleet_of

    night = load_as(Night, args.night, "night")
    recipe, fleet = load_recipe(night.recipe), fleet_of(load_fleet(args.fleet), args.workers)
    check_folder(Path(night.output))
    store, began = LocalStore(Path(night.output)), datetime.now(UTC)
    with ExitStack() as stack:
        lease = Lease(store)
        lease.acquire()
        stack.callback(lease.release)
        stack.enter_context(Heartbeat(lease.renew, every_s=BEAT_S))
        found = look(night, recipe)
        batch = batch_of(store, found, began.strftime("%Y-%m-%d"))
        runner = _Runner(args, fleet)
        outcome = None if batch is None else run_batch(night, recipe, batch, runner)
        results = settle(store, found, batch, outcome)
        good, why = passes(results, night.latest)
        if good:
            publish(store, results, began.isoformat())
        status = outcome.exit_status if outcome is not None and outcome.exit_status not in (0, 3) else 0
        status = status or (0 if good else EXIT_MISSED)
        _write_summary(store.root, began, results, why, status)
    _print_summary(results, why, moved=good)
    return status


class _Runner:
    """Runs tonight's recipe as `batchseg run` would."""

    def __init__(self, args: argparse.Namespace, fleet: Fleet) -> None:
        self._args, self._fleet = args, fleet

    def __call__(self, recipe: Recipe, resolved: Resolved) -> Outcome:
        from batchseg.runs.drive import Stop
        from batchseg.runs.session import Options, run
        from jobs.terminal.live import show_run
        from jobs.verbs.run import Signals, placed

        stop = Stop()
        with Signals(stop), show_run(quiet=self._args.quiet) as show:
            open_pool, options = placed(Options(stop=stop, show=show), self._args, self._fleet)
            return run(recipe, self._fleet, open_pool=open_pool, options=options, resolved=resolved)


def _write_summary(root: Path, began: datetime, results: Sequence[SceneResult], why: str, status: int) -> None:
    from batchseg.paths import night_key
    from batchseg.schema import plain
    from batchseg.store import LocalStore

    content = {
        "began": began.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
        "exit_status": status,
        "why": why,
        "counts": dict(Counter(result.state for result in results)),
        "scenes": plain(results),
    }
    LocalStore(root).put(night_key(began.strftime("%Y-%m-%dT%H-%M-%SZ")), json.dumps(content, indent=1).encode())


def _print_summary(results: Sequence[SceneResult], why: str, *, moved: bool) -> None:
    counts = Counter(result.state for result in results)
    print(f"night: {', '.join(f'{num} {state}' for state, num in sorted(counts.items())) or 'no scene'}")
    for result in results:
        if result.error:
            print(f"  {result.state}  {result.name}: {result.error}")
    print(f"latest.json {'is up to date' if moved else 'was left as it is'}: {why}")


def run_main(argv: Sequence[str] | None = None) -> int:
    from jobs.cli import guarded

    parser = argparse.ArgumentParser(
        prog="python -m jobs.nightly", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.set_defaults(main=main, in_cluster=True)
    return guarded(parser.parse_args(argv))
