"""One run of a recipe, from nothing or from where it stopped.

The order matters. Everything that can be wrong with the input is found before the first byte is written; then the
output folder is claimed; then work that is done and whole is left out; then the driver loop; then the reports, which
are folds over the ledger and can be made again at any time (`batchseg report`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from threading import Thread

from batchseg.budget.pilot import PilotResult
from batchseg.budget.pilot_file import write_pilot
from batchseg.budget.placement import PilotRunner, Placement
from batchseg.budget.threshold import find_threshold
from batchseg.errors import BatchsegError, BusyError, RecipeError, RefusedError, StorageError
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.lease import BEAT_S, Lease
from batchseg.ledger.ledger import Ledger
from batchseg.objectstore import open_store
from batchseg.output.stored import clear_zarr
from batchseg.output.zarr_metadata import create_zarr
from batchseg.paths import EXIT_KEY
from batchseg.recipe import Fleet, Recipe
from batchseg.reports.metrics import Metrics
from batchseg.reports.rescore import rescore
from batchseg.reports.write import sum_spent_usd, write_reports
from batchseg.resolve.destination import check_output
from batchseg.resolve.file_layout import find_layout_warnings
from batchseg.resolve.job import Job
from batchseg.resolve.plan_file import make_plan_file, write_plan
from batchseg.resolve.priority_file import write_priority
from batchseg.resolve.resolve import Resolved, resolve
from batchseg.runs.backlog import Backlog, find_lost_tasks, make_backlog
from batchseg.runs.compaction import Compaction
from batchseg.runs.drive import Drive, Stop, Watcher
from batchseg.runs.log import EventLog
from batchseg.runs.mosaics import publish_mosaics
from batchseg.runs.patience import Waits
from batchseg.runs.progress import Progress, Snapshot, read_pool_name
from batchseg.runs.runstate import RunState
from batchseg.store import LocalStore, Store, raise_refusals
from batchseg.tasks.table import make_need_rule
from batchseg.workers.happenings import OutputLost, RunBegun, RunEnded, SceneBadlyLaidOut
from batchseg.workers.heartbeat import Heartbeat
from batchseg.workers.models import choose_pool_device, open_models
from batchseg.workers.pool import DEPTH, LocalPool, Pool
from batchseg.workers.worker import OpenModels, Worker, WorkerSpec

EXIT_OK, EXIT_QUARANTINED, EXIT_BUDGET = 0, 3, 4

OpenPool = Callable[[Job, Store, Fleet], Pool]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    exit_status: int
    why: str
    metrics: Metrics
    output: Path | str
    """A folder or a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What of a run is neither recipe nor fleet."""

    wanted: Callable[[ChunkKey], bool] | None = None
    """Which chunks; None for all of them."""
    retry_quarantined: bool = False
    watchers: tuple[Watcher, ...] = ()
    show: Callable[[Snapshot], None] = lambda _: None
    stop: Stop = field(default_factory=Stop)
    open_models: OpenModels = open_models
    """Of a pilot."""
    one_machine: bool = True
    """All workers share the cores of this machine."""
    send_pilot: PilotRunner | None = None
    """Does a pilot where the workers are; None does it in this process."""


def run(
    recipe: Recipe,
    fleet: Fleet | None = None,
    *,
    open_pool: OpenPool | None = None,
    options: Options | None = None,
    resolved: Resolved | None = None,
    store: Store | None = None,
) -> Outcome:
    """Run or resume a recipe; by default with one worker in this process."""
    fleet, options = fleet or Fleet(), options or Options()
    resolved = resolved or resolve(recipe)
    store = store or open_store(recipe.output)
    check_output(store)
    check_fleet(fleet, resolved.job, in_process=open_pool is None)
    placement = Placement(in_process=open_pool is None, one_machine=options.one_machine, send_pilot=options.send_pilot)
    resolved, found = find_threshold(resolved, fleet, store, placement=placement, models=options.open_models)
    Ledger(store).check_recipe(resolved.fingerprint, resolved.content)
    Thread(target=_import_ahead, daemon=True).start()
    lease = Lease(store, head_usd_per_hour=fleet.head_usd_per_hour)
    with raise_refusals(store), ExitStack() as stack:
        lease.acquire()
        stack.callback(_release, lease)
        heartbeat = stack.enter_context(Heartbeat(lease.renew, every_s=BEAT_S))
        session = _Session(resolved, store, fleet, open_pool or open_local_pool, options, lease, heartbeat.check, found)
        return session.run()


def _import_ahead() -> None:
    """What a run needs soon or at its end takes as long to import as a small scene: now, while the claim settles."""
    for module in ("zarr", "batchseg.reports.table", "batchseg.reports.stac", "batchseg.reports.page.html"):
        import_module(module)


def check_fleet(fleet: Fleet, job: Job, *, in_process: bool) -> None:
    """Raises where some task of the job could never be done by any pool."""
    for pool in fleet.pools:
        choose_pool_device(pool, job, in_process=in_process)
        if pool.only is not None and pool.only not in job.models:
            raise RecipeError(
                "a pool is limited to a tier that this recipe has no model for",
                where=f"pools: {pool.name}: only",
                expected=" or ".join(job.models),
                got=pool.only,
            )
    if len(job.models) > 1 and all(pool.only is not None for pool in fleet.pools):
        raise RecipeError(
            "no pool takes chunks with tiles of both tiers",
            where="pools",
            todo="leave `only` out for at least one of them",
        )


def _release(lease: Lease) -> None:
    """A file that nobody may write now is replaced in time, like that of a dead driver."""
    with suppress(OSError, RefusedError, StorageError):
        lease.release()


@dataclass(frozen=True, slots=True)
class _Session:
    """A claimed output folder, and what to do there."""

    resolved: Resolved
    store: Store
    fleet: Fleet
    open_pool: OpenPool
    options: Options
    lease: Lease
    check: Callable[[], None]
    """Raises when another driver has taken the folder over."""
    found: PilotResult | None
    """What the threshold of this run was found by, if it was just found."""

    def run(self) -> Outcome:
        # Until this run has ended in one way or another, nobody may read how the last one did.
        self.store.delete(EXIT_KEY)
        try:
            with raise_refusals(self.store):
                return self._run()
        except BusyError:
            raise  # the folder is another driver's by now
        except BatchsegError as error:
            with suppress(
                OSError, RefusedError, StorageError
            ):  # where nothing can be written, the error alone has to say it
                _write_exit(self.store, error.exit_status, str(error))
            raise

    def _run(self) -> Outcome:
        job, store, ledger = self.resolved.job, self.store, Ledger(self.store)
        if ledger.read_recipe() is None:
            for scene in job.scenes.values():
                clear_zarr(store, scene.zarr)
        ledger.write_recipe(job.fingerprint, self.resolved.content)
        if self.found is not None and job.doubt is not None:
            write_pilot(store, self.found, job.doubt.threshold)
        for name, scene in job.scenes.items():
            if scene.priority is not None:
                write_priority(store, name, scene.priority)
        write_plan(store, make_plan_file(job, head_usd_per_hour=self.fleet.head_usd_per_hour))
        store.sweep(deep=False)
        log = EventLog.open(store, self.lease.name)
        log.notice(RunBegun(driver=self.lease.name, took_over=self.lease.took_over, fingerprint=job.fingerprint))
        todo = self._find_todo(retry_quarantined=self.options.retry_quarantined)
        if self.options.retry_quarantined:
            ledger.unquarantine_all()
        stopped = None if not todo.tasks else self._work(todo, log)
        gone = find_lost_tasks(job, store) if stopped is None else []
        if gone:
            ledger.forget(*gone)
            log.notice(OutputLost(num=len(gone), tasks=tuple(gone[:20])))
            stopped = self._work(self._find_todo(retry_quarantined=False), log)
        store.sweep()  # of workers that were killed while they wrote
        unscored = []
        if stopped is None:
            unscored = rescore(job, store)
            publish_mosaics(job, store)
        self.lease.count_time()
        metrics = write_reports(store)
        status, why = _exit_status(metrics, stopped, unscored, asked_for_all=self.options.wanted is None)
        _write_exit(store, status, why)
        log.notice(RunEnded(exit_status=status, why=why))
        log.close()
        return Outcome(status, why, metrics, store.root if isinstance(store, LocalStore) else store.address)

    def _find_todo(self, *, retry_quarantined: bool) -> Backlog:
        is_wanted = self.options.wanted or (lambda _: True)
        return make_backlog(self.resolved.job, self.store, is_wanted=is_wanted, retry_quarantined=retry_quarantined)

    def _work(self, todo: Backlog, log: EventLog) -> Stop | None:
        """Do what is left; what stopped it, if it did not come to its end."""
        job, store, fleet, stop = self.resolved.job, self.store, self.fleet, self.options.stop
        chunks, num_before = todo.select(ChunkKey), len(todo.committed_chunks)
        progress = Progress(
            num_chunks=num_before + len(chunks),
            num_before=num_before,
            num_sheets=len(todo.select(SheetKey)),
            usd_before=sum_spent_usd(store, head_usd_per_hour=fleet.head_usd_per_hour),
            head_usd_per_hour=fleet.head_usd_per_hour,
            max_usd=fleet.max_usd,
            stop=stop,
            show=self.options.show,
        )
        find_need = make_need_rule(job, limited=any(pool.only for pool in fleet.pools))
        state = RunState.start(
            todo.tasks,
            todo.waits,
            max_failures=fleet.retries.failures,
            max_preemptions=fleet.retries.preemptions,
            depth=DEPTH,
            find_need=find_need,
        )
        waits = Waits(fleet.patience, lambda worker, task: (read_pool_name(worker), task.kind, find_need(task)))
        watchers: tuple[Watcher, ...] = (log, progress, Compaction(Ledger(store)), *self.options.watchers)
        for scene, why in find_layout_warnings(job).items():
            for watcher in watchers:
                watcher.notice(SceneBadlyLaidOut(scene=scene, why=why))
        pool = self.open_pool(job, store, fleet)
        try:
            # Workers open their models meanwhile; nobody has a task before the loop begins.
            for scene in sorted({key.scene for key in chunks}):
                create_zarr(store, job.scenes[scene].zarr)
            finish = Drive(state, pool, Ledger(store), watchers, waits, stop, check=self.check).run()
        finally:
            pool.close()
        if finish.stopped is not None and stop.why is None:
            raise RefusedError(finish.stopped)
        # A stop that was asked for while the last task ended stopped nothing.
        return stop if finish.stopped is not None else None


def open_local_pool(job: Job, store: Store, fleet: Fleet) -> Pool:
    """One worker in this process, at the price of the fleet's first pool."""
    first = fleet.pools[0]
    spec = WorkerSpec.new(
        pool=first.name, device=choose_pool_device(first, job, in_process=True), usd_per_hour=first.usd_per_hour
    )
    return LocalPool(lambda: Worker(spec, job, store, open_models).begin(), depth=DEPTH)


def _exit_status(
    metrics: Metrics, stopped: Stop | None, unscored: list[str], *, asked_for_all: bool
) -> tuple[int, str]:
    if stopped is not None and stopped.why == "budget":
        return EXIT_BUDGET, "stopped by the budget; the same command with a higher max_usd goes on"
    if stopped is not None:
        return stopped.exit_status, f"interrupted by {stopped.why}; the same command goes on"
    num_given_up, num_left = len(metrics.quarantined), metrics.chunks.not_run
    if num_given_up:
        tasks = "1 task was" if num_given_up == 1 else f"{num_given_up} tasks were"
        return EXIT_QUARANTINED, f"{tasks} given up; --retry-quarantined tries again"
    if unscored:
        more = f" (and {len(unscored) - 1} more chunks)" if len(unscored) > 1 else ""
        return EXIT_QUARANTINED, f"the prediction is whole, but its score is not: {unscored[0]}{more}"
    if num_left and asked_for_all:
        return EXIT_QUARANTINED, f"{num_left} chunks have no record; the same command goes on"
    return (
        EXIT_OK,
        f"as far as was asked; {num_left} chunks are left for the same command without --sample and --bbox"
        if num_left
        else "complete",
    )


def _write_exit(store: Store, status: int, why: str) -> None:
    store.put(EXIT_KEY, json.dumps({"exit_status": status, "why": why}, indent=1).encode())
