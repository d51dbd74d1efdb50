"""The public functions of `jobs`: runs and nights with the workers of a Ray cluster."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from batchseg.egress import redact_errors
from batchseg.recipe import Fleet, Recipe, load_recipe
from batchseg.resolve.resolve import Resolved
from batchseg.runs import session
from batchseg.runs.night import NightOutcome, run_night
from batchseg.runs.night_settings import Night, load_night
from batchseg.runs.progress import Snapshot
from batchseg.runs.session import Options, Outcome
from jobs.cluster.connection import ray
from jobs.cluster.job_folder import check_recipe_paths
from jobs.cluster.pilot import send_pilot
from jobs.cluster.pool import open_ray_pool
from jobs.cluster.ray_metrics import RayMetrics


@redact_errors
def run(
    recipe: Recipe | str | Path,
    fleet: Fleet | None = None,
    *,
    options: Options | None = None,
    resolved: Resolved | None = None,
) -> Outcome:
    """Run a recipe on Ray, or resume it where it stopped.

    The run uses the Ray that this process has initialised, else the cluster that `RAY_ADDRESS` names, else a Ray of
    its own on this machine, which ends with the run.

        from batchseg import load_fleet
        from jobs import run

        outcome = run("recipe.yaml", load_fleet("fleet.yaml"))

    Args:
        recipe: The recipe, or its file. It decides every output byte.
        fleet: Workers, prices and retries. By default one worker.
        options: Which chunks to compute, who watches the run, and what stops it.
        resolved: The resolved recipe, where the caller has it already; it saves reading every header again.

    Returns:
        The exit status with its reason, the metrics and the output folder.

    Raises:
        InputError: The recipe, a scene or a bundle is wrong. Nothing has been written.
        StoppedError: The run ended before its work did; the same call resumes it.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    check_recipe_paths(recipe)
    return session.run(
        recipe, fleet, open_pool=open_ray_pool, options=adapt_options(options or Options()), resolved=resolved
    )


@redact_errors
def nightly(night: Night | str | Path, fleet: Fleet | None = None, *, options: Options | None = None) -> NightOutcome:
    """Run a recipe on Ray over every scene that is new or has changed since the last night.

        from batchseg import load_fleet
        from jobs import nightly

        outcome = nightly("nightly.yaml", load_fleet("fleet.yaml"))

    Args:
        night: The night, or its file: the recipe, where scenes come from, where results go, and when they become
            the latest.
        fleet: Workers, prices and retries. By default one worker.
        options: Who watches the run, and what stops it.

    Returns:
        The exit status with its reason, and what became of each scene.

    Raises:
        InputError: The night or its recipe is wrong. Nothing has been written.
        StoppedError: The run ended before its work did; the same call resumes it. Or another night is running.
    """
    night = night if isinstance(night, Night) else load_night(night)
    return run_night(night, lambda recipe, resolved: run(recipe, fleet, options=options, resolved=resolved))


def adapt_options(options: Options) -> Options:
    """The options of a run on Ray: pilots run where the workers do, and Ray's metrics show what the caller is shown."""
    one_machine = "RAY_ADDRESS" not in os.environ and not ray.is_initialized()
    metrics, show = RayMetrics(), options.show

    def show_both(snapshot: Snapshot) -> None:
        show(snapshot)
        metrics.show(snapshot)

    return replace(
        options,
        one_machine=one_machine,
        send_pilot=None if one_machine else send_pilot,
        watchers=(*options.watchers, metrics),
        show=show_both,
    )
