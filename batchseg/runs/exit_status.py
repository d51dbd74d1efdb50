"""End of a run, as an exit status with a reason: for the shell, for schedulers, and in run/exit.json."""

from __future__ import annotations

from dataclasses import dataclass

from batchseg.json_values import put_sealed, read_value
from batchseg.paths import EXIT_KEY
from batchseg.reports.metrics import Metrics
from batchseg.runs.drive import Stop
from batchseg.store import Store

EXIT_OK, EXIT_QUARANTINED, EXIT_BUDGET = 0, 3, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """run/exit.json."""

    exit_status: int
    why: str


def choose_exit_status(
    metrics: Metrics, stop: Stop | None, unscored: list[str], *, wants_all_chunks: bool
) -> ExitStatus:
    """The exit status of a run that came to its end, or was stopped before.

    Args:
        metrics: The metrics of the run.
        stop: What stopped the run before its end; None for a run that came to its end.
        unscored: Chunks whose score could not be computed, with the reasons.
        wants_all_chunks: Whether the user asked for all chunks, not for a sample or a box.
    """
    if stop is not None and stop.why == "budget":
        why = "stopped by the budget; the same command with a higher max_usd goes on"
        return ExitStatus(exit_status=EXIT_BUDGET, why=why)
    if stop is not None:
        why = f"interrupted by {stop.why}; the same command goes on"
        return ExitStatus(exit_status=stop.exit_status, why=why)
    problem = _find_problem(metrics, unscored, wants_all_chunks=wants_all_chunks)
    if problem is not None:
        return ExitStatus(exit_status=EXIT_QUARANTINED, why=problem)
    num_left = metrics.chunks.not_run
    if num_left:
        why = f"as far as was asked; {num_left} chunks are left for the same command without --sample and --bbox"
        return ExitStatus(exit_status=EXIT_OK, why=why)
    return ExitStatus(exit_status=EXIT_OK, why="complete")


def _find_problem(metrics: Metrics, unscored: list[str], *, wants_all_chunks: bool) -> str | None:
    """Reason why the output is not complete; None where it is."""
    lost_scenes = [name for name in metrics.quarantined if "/" not in name]
    num_given_up, num_left = len(metrics.quarantined) - len(lost_scenes), metrics.chunks.not_run
    problems = []
    if num_given_up:
        tasks = "1 task was" if num_given_up == 1 else f"{num_given_up} tasks were"
        problems.append(f"{tasks} given up; --retry-quarantined tries again")
    if lost_scenes:
        scenes = f"scene {lost_scenes[0]}" if len(lost_scenes) == 1 else f"{len(lost_scenes)} scenes"
        problems.append(f"{scenes} could not be read any more; the same command tries again")
    if problems:
        return ". ".join(problems)
    if unscored:
        more = f" (and {len(unscored) - 1} more chunks)" if len(unscored) > 1 else ""
        return f"the prediction is whole, but its score is not: {unscored[0]}{more}"
    if num_left and wants_all_chunks:
        return f"{num_left} chunks have no record; the same command goes on"
    return None


def write_exit_status(store: Store, status: ExitStatus) -> None:
    put_sealed(store, EXIT_KEY, status)


def read_exit_status(store: Store) -> ExitStatus | None:
    """Read how the last session ended; None where it has not ended, or not in order."""
    try:
        return read_value(store, EXIT_KEY, ExitStatus, todo="run `batchseg run` again; it makes this file again")
    except FileNotFoundError:
        return None


def delete_exit_status(store: Store) -> None:
    """Delete the exit status of an earlier run in the same folder, so that no scheduler takes it for this run's."""
    store.delete(EXIT_KEY)
