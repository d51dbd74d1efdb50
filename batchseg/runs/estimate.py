"""Estimate of a run's work, time and cost, from headers and a sample of pixels. Writes nothing.

Every figure names its assumptions. A figure that is not known is None with a reason; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchseg.budget.crew import Crew, count_crew
from batchseg.budget.duration import Duration, estimate_duration, find_known_heavy_share
from batchseg.budget.memory import LIBRARIES_BYTES, check_memory, estimate_worker_bytes
from batchseg.budget.output_size import check_disk, count_objects, describe_bytes_per_px, estimate_output_bytes
from batchseg.budget.placement import Placement
from batchseg.budget.preview import PilotPreview, preview_pilot
from batchseg.budget.scene_estimate import SceneEstimate, estimate_scene
from batchseg.budget.storage import count_requests
from batchseg.budget.threshold import read_threshold, with_threshold
from batchseg.egress import redact_errors
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.model.ranking import find_inversion
from batchseg.objectstore import open_store
from batchseg.recipe import Fleet, Recipe, load_recipe
from batchseg.resolve.file_layout import find_layout_warnings
from batchseg.resolve.job import Job
from batchseg.resolve.nodata_warnings import find_nodata_warnings
from batchseg.resolve.resolve import Resolved, resolve
from batchseg.runs.backlog import make_backlog
from batchseg.runs.output_check import check_run_output
from batchseg.schema import setting
from batchseg.score.reference import describe_reference
from batchseg.store import LocalStore, Store
from batchseg.workers.models import choose_pool_device
from batchseg.workers.pool import DEPTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Estimate of a run's work, time and cost. `plain(plan)` is what `batchseg plan RECIPE --json` prints."""

    fingerprint: str = setting(key="recipe", doc="hash of the resolved recipe")
    scenes: tuple[SceneEstimate, ...]
    num_to_do: int
    """Number of chunks without a record."""
    worker_bytes: int
    """Most memory that one worker needs."""
    output_bytes: int
    """Estimated size of the whole output; the real one is half to twice as much."""
    num_objects: int
    """Number of files, or of objects, of the whole output; empty ground has none."""
    num_reads: int
    """Number of read requests for the chunks to do."""
    num_writes: int
    """Number of write requests for the chunks to do."""
    requests_usd: float
    """Price of these requests if scenes and output are in an object store."""
    seconds: float | None
    """Wall time of the chunks to do; None where a bundle has no measured seconds per tile."""
    usd: float | None
    """Price of the workers and the head over that time."""
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    pilot: PilotPreview | None
    """Cost and gain by the share of heavy tiles; None unless a pilot was asked for."""


@redact_errors
def plan(
    recipe: Recipe | str | Path,
    fleet: Fleet | None = None,
    *,
    pilot: bool = False,
    placement: Placement | None = None,
) -> Plan:
    """Say what a run will do, take and cost, without writing anything.

        from batchseg import load_fleet, plan

        print(plan("recipe.yaml", load_fleet("fleet.yaml")).usd)

    Args:
        recipe: The recipe, or its file.
        fleet: The workers and their prices; by default one worker in this process.
        pilot: Whether to run both models on a sample of tiles, and price each share of heavy tiles.
        placement: Where the workers live, and so where a pilot runs; by default in this process, with the devices
            that the fleet's pools ask for.

    Returns:
        The plan. It covers the whole recipe, but time, price and requests are those of the chunks still to do.

    Raises:
        InputError: The recipe, a scene or a bundle is wrong, or a pilot is asked for with one model only.
        ForeignRunError: The output folder holds the results of another recipe.
        RecipeError: The output does not fit on the disk, or a worker not into the memory of this machine.
        DamagedError: A file of the earlier run in the output folder cannot be read.
    """
    read_files = () if isinstance(recipe, Recipe) else (str(recipe),)
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    placement = placement or Placement(in_process=fleet is None)
    fleet = fleet or Fleet()
    resolved, store = resolve(recipe), open_store(recipe.output)
    check_run_output(recipe, resolved.job, store, read_files=read_files)
    return _make_plan(resolved, fleet, store, placement, pilot=pilot)


def _make_plan(resolved: Resolved, fleet: Fleet, store: Store, placement: Placement, *, pilot: bool) -> Plan:
    resolved = _apply_known_threshold(resolved, store)
    job = resolved.job
    Ledger(store).check_recipe(resolved.fingerprint, resolved.content)
    todo = make_backlog(job, store, retry_quarantined=True)
    chunks = todo.select(ChunkKey)
    scenes = tuple(estimate_scene(job, scene, todo.committed_chunks) for scene in job.scenes.values())
    worker_bytes, output_bytes = estimate_worker_bytes(job), estimate_output_bytes(job)
    check_memory(job, worker_bytes, fleet)
    disk_warning = check_disk(output_bytes, store.root) if isinstance(store, LocalStore) else None
    device = choose_pool_device(fleet.pools[0], job, in_process=placement.in_process)
    heavy = find_known_heavy_share(resolved, store)
    crew = count_crew(resolved, fleet, placement, device)
    preview = preview_pilot(resolved, fleet, store, placement) if pilot else None
    if preview is None:
        duration = estimate_duration(resolved, crew, device, scenes, heavy.share)
        assumptions = (duration.note, *([] if heavy.note is None else [heavy.note]))
    else:
        duration = Duration(seconds=preview.expected.wall_s, note=_describe_pilot(preview))
        assumptions = (duration.note,)
    share_to_do = len(chunks) / max(todo.num_chunks, 1)
    seconds = None if duration.seconds is None else duration.seconds * share_to_do
    requests = count_requests(job, chunks)
    return Plan(
        fingerprint=resolved.fingerprint,
        scenes=scenes,
        num_to_do=len(chunks),
        worker_bytes=worker_bytes,
        output_bytes=output_bytes,
        num_objects=count_objects(job),
        num_reads=requests.num_reads,
        num_writes=requests.num_writes,
        requests_usd=requests.usd,
        seconds=seconds,
        usd=None if seconds is None else seconds * (crew.usd_per_hour + fleet.head_usd_per_hour) / 3600,
        assumptions=(*assumptions, *_list_constants(job, fleet)),
        warnings=(
            *_list_scene_warnings(job),
            *([] if disk_warning is None else [disk_warning]),
            *_list_warnings(resolved, crew, preview),
        ),
        pilot=preview,
    )


def _list_scene_warnings(job: Job) -> tuple[str, ...]:
    label_notes = (describe_reference(scene.labels) for scene in job.scenes.values())
    return (
        *find_layout_warnings(job).values(),
        *find_nodata_warnings(job).values(),
        *dict.fromkeys(filter(None, label_notes)),
    )


def _apply_known_threshold(resolved: Resolved, store: Store) -> Resolved:
    """The recipe with the threshold of the run that began in this folder, if its budget has bought one."""
    threshold = None if resolved.budget is None else read_threshold(store)
    return resolved if threshold is None else with_threshold(resolved, threshold)


def _list_warnings(resolved: Resolved, crew: Crew, preview: PilotPreview | None) -> Iterator[str]:
    """Yield warnings about workers without cores of their own, and about a heavy model that is no better."""
    if crew.warning is not None:
        yield crew.warning
    if len(resolved.bundles) < 2:
        return
    inversion = find_inversion(resolved.bundles["heavy"].contract, resolved.bundles["bulk"].contract)
    if inversion is not None:
        yield f"{inversion}; heavy tiles would cost more and be worse"
    scores = [] if preview is None else [point.miou for point in preview.curve if point.miou is not None]
    if scores and scores[-1] < scores[0]:
        yield (
            f"on the labels of this recipe, more heavy tiles make the map worse: a mean IoU of {scores[0]:.4f} with "
            f"the fewest heavy tiles, and of {scores[-1]:.4f} with the most"
        )


def _describe_pilot(preview: PilotPreview) -> str:
    expected = preview.expected
    return (
        f"time: as the pilot measured on {preview.num_tiles} tiles, with {expected.seconds.start:.1f} s until the "
        f"models are open; heavy tiles: {expected.heavy_share:.1%}"
    )


def _list_constants(job: Job, fleet: Fleet) -> tuple[str, ...]:
    """Say which constants and prices the estimate takes."""
    prices = ", ".join(f"{pool.workers} x {pool.name} at ${pool.usd_per_hour} per hour" for pool in fleet.pools)
    return (
        describe_bytes_per_px(next(iter(job.scenes.values())).zarr.layers),
        f"memory: {DEPTH} chunks in hand with their halos, {LIBRARIES_BYTES >> 20} MiB of libraries",
        f"prices: {prices}",
    )
