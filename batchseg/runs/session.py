"""One run of a recipe, from nothing or from where an earlier run stopped.

The order matters. Everything that can be wrong with the input is found before the first byte is written. Then the run
takes the lease of the output folder, leaves out the work that is done, and drives the workers through the rest. The
reports come last; they are folds over the ledger and can be made again at any time (`batchseg report`).
"""

from __future__ import annotations

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
from batchseg.egress import redact_errors
from batchseg.errors import BatchsegError, BusyError, RefusedError, StorageError
from batchseg.ledger.keys import ChunkKey, SheetKey
from batchseg.ledger.lease import BEAT_S, Lease
from batchseg.ledger.ledger import Ledger
from batchseg.objectstore import open_store
from batchseg.output.zarr_metadata import create_zarr
from batchseg.paths import LEASE_KEY
from batchseg.recipe import Fleet, Recipe, load_recipe
from batchseg.reports.metrics import Metrics
from batchseg.reports.rescore import rescore
from batchseg.reports.write import sum_spent_usd, write_reports
from batchseg.resolve.nodata_warnings import find_nodata_warnings
from batchseg.resolve.output_keys import list_output_keys
from batchseg.resolve.plan_file import PlanFile, make_plan_file, write_plan
from batchseg.resolve.priority_file import write_priority
from batchseg.resolve.resolve import Resolved, resolve
from batchseg.runs.backlog import Backlog, find_lost_tasks, make_backlog
from batchseg.runs.compaction import Compaction
from batchseg.runs.drive import Drive, Stop, Watcher
from batchseg.runs.exit_status import ExitStatus, choose_exit_status, delete_exit_status, write_exit_status
from batchseg.runs.local_pool import OpenPool, check_fleet, open_local_pool
from batchseg.runs.log import EventLog
from batchseg.runs.loss_times import LossTimes
from batchseg.runs.mosaics import publish_mosaics
from batchseg.runs.output_check import check_run_output
from batchseg.runs.patience import Waits
from batchseg.runs.progress import Progress, Snapshot, read_pool_name
from batchseg.runs.repair import Repair
from batchseg.runs.runstate import RunState
from batchseg.runs.scene_warnings import notice_scene_warnings
from batchseg.store import LocalStore, Store, raise_refusals
from batchseg.tasks.table import make_need_rule
from batchseg.workers.happenings import FileRemade, OutputLost, RunBegun, RunEnded
from batchseg.workers.heartbeat import Heartbeat
from batchseg.workers.models import open_models
from batchseg.workers.pool import DEPTH
from batchseg.workers.worker import OpenModels

NUM_LISTED = 20
"""The number of lost tasks that the log names."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """End of a run, and its results."""

    exit_status: int
    why: str
    """The reason for the exit status, in words."""
    metrics: Metrics
    output: Path | str
    """The output folder, or its URL."""
    remade: tuple[FileRemade, ...] = ()
    """The damaged files that the run made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Choices of a caller beside the recipe and the fleet; none of it changes an output byte."""

    wanted: Callable[[ChunkKey], bool] | None = None
    """The chunks to compute; None for all of them."""
    retry_quarantined: bool = False
    """True if tasks that were given up get another chance."""
    watchers: tuple[Watcher, ...] = ()
    """Objects that take note of everything that happens."""
    read_files: tuple[str, ...] = ()
    """Files that the caller has read, like that of the recipe. The run refuses to replace them."""
    show: Callable[[Snapshot], None] = lambda _: None
    """Shows the progress; called about twice per second."""
    stop: Stop = field(default_factory=Stop)
    """A way to stop the run: it finishes the tasks in hand and can be resumed."""
    open_models: OpenModels = open_models
    """Opens the models of a pilot."""
    one_machine: bool = True
    """True if all workers share the cores of this machine."""
    send_pilot: PilotRunner | None = None
    """Runs a pilot where the workers are; None runs it in this process."""


@redact_errors
def run(
    recipe: Recipe | str | Path,
    fleet: Fleet | None = None,
    *,
    open_pool: OpenPool | None = None,
    options: Options | None = None,
    resolved: Resolved | None = None,
    store: Store | None = None,
) -> Outcome:
    """Run a recipe, or resume it where it stopped.

        from batchseg import run

        outcome = run("recipe.yaml")
        print(outcome.why, outcome.metrics.cost_usd)

    Args:
        recipe: The recipe, or its file. It decides every output byte.
        fleet: Prices, retries and limits; by default those of `Fleet()`.
        open_pool: Opens the workers. By default one worker in this process; `jobs.run` has workers on Ray.
        options: Which chunks to compute, who watches the run, and what stops it.
        resolved: The resolved recipe, where the caller has it already; it saves reading every header again.
        store: The output, where it is another one than the recipe names.

    Returns:
        The exit status with its reason, the metrics and the output folder. Only a complete run has exit status 0.

    Raises:
        InputError: The recipe, a scene, a bundle or the output folder is wrong. Nothing has been written.
        StoppedError: The run ended before its work did; the same call resumes it. BusyError: another driver holds it.
        DamagedError: A file of an earlier run in the output folder is damaged, and no computation brings it back.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    fleet, options = fleet or Fleet(), options or Options()
    resolved, store = resolved or resolve(recipe), store or open_store(recipe.output)
    check_run_output(recipe, resolved.job, store, read_files=options.read_files)
    check_fleet(fleet, resolved.job, in_process=open_pool is None)
    placement = Placement(in_process=open_pool is None, one_machine=options.one_machine, send_pilot=options.send_pilot)
    resolved, pilot = find_threshold(resolved, fleet, store, placement=placement, models=options.open_models)
    Ledger(store).check_recipe(resolved.fingerprint, resolved.content)
    Thread(target=_import_ahead, daemon=True).start()
    lease = Lease(store, head_usd_per_hour=fleet.head_usd_per_hour)
    with raise_refusals(store), ExitStack() as stack:
        lease.acquire()
        stack.callback(_release, lease)
        heartbeat = stack.enter_context(Heartbeat(lease.renew, every_s=BEAT_S))
        repair = Repair(store)
        if lease.damage is not None:
            repair.add(LEASE_KEY, lease.damage, "it is written again")
        held_run = _HeldRun(
            resolved, store, fleet, open_pool or open_local_pool, options, lease, heartbeat.check, pilot, repair
        )
        return held_run.run()


def _import_ahead() -> None:
    """Import now, while the lease settles, what a run needs later: it takes as long as a small scene."""
    for module in ("zarr", "batchseg.reports.ledger_table", "batchseg.reports.stac", "batchseg.reports.page.html"):
        import_module(module)


def _release(lease: Lease) -> None:
    """Release the lease. Where it cannot be written now, the next driver replaces it like that of a dead driver."""
    with suppress(OSError, RefusedError, StorageError):
        lease.release()


@dataclass(frozen=True, slots=True)
class _HeldRun:
    """A run that holds the lease of its output folder."""

    resolved: Resolved
    store: Store
    fleet: Fleet
    open_pool: OpenPool
    options: Options
    lease: Lease
    check: Callable[[], None]
    """Raises when another driver has taken the folder over."""
    pilot: PilotResult | None
    """The pilot that has just found the threshold; None where none was needed."""
    repair: Repair

    def run(self) -> Outcome:
        self.repair.check_rewritten()
        delete_exit_status(self.store)
        try:
            with raise_refusals(self.store):
                return self._run()
        except BusyError:
            raise  # another driver holds the folder by now, so this one may not write to it
        except BatchsegError as error:
            with suppress(OSError, RefusedError, StorageError):  # a full disk cannot take this file either
                write_exit_status(self.store, ExitStatus(exit_status=error.exit_status, why=str(error)))
            raise

    def _run(self) -> Outcome:
        plan = self._write_plan()
        log = EventLog.open(self.store, self.lease.name)
        fingerprint = self.resolved.fingerprint
        log.notice(RunBegun(driver=self.lease.name, took_over=self.lease.took_over, fingerprint=fingerprint))
        stop = self._do_tasks(plan, log)
        self._sweep(deep=True)
        unscored = []
        if stop is None:
            unscored = rescore(self.resolved.job, self.store)
            publish_mosaics(self.resolved.job, self.store)
        self.lease.count_time()
        metrics = write_reports(self.store)
        status = choose_exit_status(metrics, stop, unscored, wants_all_chunks=self.options.wanted is None)
        write_exit_status(self.store, status)
        log.notice(RunEnded(exit_status=status.exit_status, why=status.why))
        log.close()
        output = self.store.root if isinstance(self.store, LocalStore) else self.store.address
        return Outcome(status.exit_status, status.why, metrics, output, tuple(self.repair.remade))

    def _write_plan(self) -> PlanFile:
        """Everything about the run that reports need, before the first task."""
        job, store, ledger = self.resolved.job, self.store, Ledger(self.store)
        ledger.write_recipe(job.fingerprint, self.resolved.content)
        if self.pilot is not None and job.doubt is not None:
            write_pilot(store, self.pilot, job.doubt.threshold)
        for name, scene in job.scenes.items():
            if scene.priority is not None:
                write_priority(store, name, scene.priority)
        plan = make_plan_file(job, find_nodata_warnings(job), head_usd_per_hour=self.fleet.head_usd_per_hour)
        write_plan(store, plan)
        self._sweep(deep=False)
        return plan

    def _sweep(self, *, deep: bool) -> None:
        """Remove what killed workers left."""
        self.store.sweep(list_output_keys(scene.zarr for scene in self.resolved.job.scenes.values()), deep=deep)

    def _do_tasks(self, plan: PlanFile, log: EventLog) -> Stop | None:
        """Do what is left, and again what was lost; returns what stopped it before its end."""
        ledger, retry_quarantined = Ledger(self.store), self.options.retry_quarantined
        backlog = self._make_backlog(retry_quarantined=retry_quarantined)
        for file in self.repair.remade:
            for watcher in (log, *self.options.watchers):
                watcher.notice(file)
        ledger.reopen(tasks=retry_quarantined)
        stop = self._work_off(backlog, plan, log) if backlog.tasks else None
        lost = find_lost_tasks(self.resolved.job, self.store) if stop is None else []
        if lost:
            ledger.forget(*lost)
            log.notice(OutputLost(num=len(lost), tasks=tuple(lost[:NUM_LISTED])))
            stop = self._work_off(self._make_backlog(retry_quarantined=False), plan, log)
        return stop

    def _make_backlog(self, *, retry_quarantined: bool) -> Backlog:
        is_wanted = self.options.wanted or (lambda _: True)
        job, store = self.resolved.job, self.store
        return self.repair.drop_damaged(
            lambda: make_backlog(job, store, is_wanted=is_wanted, retry_quarantined=retry_quarantined)
        )

    def _work_off(self, backlog: Backlog, plan: PlanFile, log: EventLog) -> Stop | None:
        """Do these tasks; returns what stopped the workers before the last one."""
        job, store, fleet, stop = self.resolved.job, self.store, self.fleet, self.options.stop
        find_need = make_need_rule(job, limited=any(pool.only for pool in fleet.pools))
        state = RunState.start(
            backlog.tasks,
            backlog.waits,
            max_failures=fleet.retries.failures,
            max_preemptions=fleet.retries.preemptions,
            depth=DEPTH,
            find_need=find_need,
        )
        waits = Waits(fleet.patience, lambda worker, task: (read_pool_name(worker), task.kind, find_need(task)))
        bookkeeping = (Compaction(Ledger(store)), LossTimes(self.lease.lost_workers_s))
        watchers: tuple[Watcher, ...] = (log, self._make_progress(backlog), *bookkeeping, *self.options.watchers)
        notice_scene_warnings(plan, watchers)
        pool = self.open_pool(job, store, fleet)
        try:
            # Workers open their models meanwhile; no worker has a task before the loop begins.
            for scene in sorted({key.scene for key in backlog.select(ChunkKey)}):
                create_zarr(store, job.scenes[scene].zarr)
            finish = Drive(state, pool, Ledger(store), watchers, waits, stop, check=self.check).run()
        finally:
            pool.close()
        if finish.stopped is not None and stop.why is None:
            raise RefusedError(finish.stopped)
        # A stop that was requested while the last task ended has stopped nothing.
        return stop if finish.stopped is not None else None

    def _make_progress(self, backlog: Backlog) -> Progress:
        num_before = len(backlog.committed_chunks)
        return Progress(
            num_chunks=num_before + len(backlog.select(ChunkKey)),
            num_before=num_before,
            num_sheets=len(backlog.select(SheetKey)),
            usd_before=sum_spent_usd(self.store, head_usd_per_hour=self.fleet.head_usd_per_hour),
            head_usd_per_hour=self.fleet.head_usd_per_hour,
            max_usd=self.fleet.max_usd,
            stop=self.options.stop,
            show=self.options.show,
        )
