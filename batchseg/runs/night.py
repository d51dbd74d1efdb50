"""One night: find the new scenes, run a recipe over them, decide whether the result becomes the latest.

Theory of operation
-------------------
A scene is known by its *key*: the fingerprint of a run of this recipe over this scene alone. So the key changes with
the scene's content, the models and every setting that decides output bytes, and with nothing else. `index.json` holds
the keys of all finished scenes and where their output is; a night runs over the scenes whose key is not there. A scene
that cannot be read is reported and left out, so that one bad scene does not stop the night.

The batch of a night is written down before it runs (`batch.json`), and the next start takes it up again, whatever the
date. A batch whose scenes have changed meanwhile is left as it is, and its scenes count as new.

    2026-01-31/           the run of that night, like any other run
    nights/TIME.json      what each start found and did
    index.json            address -> key and output of every finished scene
    batch.json            the scenes that are being computed; gone when they are finished
    latest.json           the newest good output of each scene, moved when coverage and failures pass the thresholds
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from batchseg.errors import DamagedError
from batchseg.json_values import put_value
from batchseg.ledger.lease import BEAT_S, Lease
from batchseg.paths import BATCH_KEY, INDEX_KEY, LATEST_KEY, night_key
from batchseg.recipe import Recipe, load_recipe
from batchseg.resolve.input_files import list_named_files
from batchseg.resolve.resolve import Resolved, resolve
from batchseg.runs.exit_status import EXIT_OK, EXIT_QUARANTINED
from batchseg.runs.night_batch import NightScene, choose_batch, find_scenes
from batchseg.runs.night_files import (
    Batch,
    FinishedScene,
    Latest,
    LatestScene,
    NightSummary,
    SceneResult,
    read_index,
    read_latest,
)
from batchseg.runs.night_reasons import describe_change
from batchseg.runs.night_settings import Night, Thresholds
from batchseg.runs.output_check import open_night_output
from batchseg.runs.session import Outcome
from batchseg.store import LocalStore
from batchseg.workers.heartbeat import Heartbeat

EXIT_MISSED = 3
"""Coverage or failures miss the thresholds."""

RunRecipe = Callable[[Recipe, Resolved], Outcome]
"""Runs the recipe of a night; the recipe comes resolved too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightOutcome:
    """End of a night."""

    exit_status: int
    why: str
    """Reason why latest.json moved, or why it did not."""
    moved_latest: bool
    scenes: tuple[SceneResult, ...]
    has_latest: bool = True
    """False if there is no latest.json, since no night has been good enough yet."""
    cost_usd: float | None = None
    """Dollars of tonight's run; None without a run."""
    notes: tuple[str, ...] = ()
    """Damaged files that the night made again."""


def run_night(night: Night, run: RunRecipe, *, read_files: Iterable[str] = ()) -> NightOutcome:
    """Run one night: find new scenes, run the recipe over them, write down the results, and move latest.json.

    A night that was interrupted is taken up by the next one. A second night beside a living one raises BusyError.

    Args:
        night: What to do.
        run: Runs the recipe of the night.
        read_files: Files that the caller has read, like that of the night; the night refuses to replace them.
    """
    recipe = load_recipe(night.recipe)
    named = (night.recipe, *filter(None, [night.listing]), *read_files, *list_named_files(recipe))
    store, began = open_night_output(night.output, read_files=named), datetime.now(UTC)
    with ExitStack() as stack:
        lease = Lease(store)
        lease.acquire()
        stack.callback(lease.release)
        stack.enter_context(Heartbeat(lease.renew, every_s=BEAT_S))
        return _run_locked(night, recipe, run, store, began)


def _run_locked(night: Night, recipe: Recipe, run: RunRecipe, store: LocalStore, began: datetime) -> NightOutcome:
    """The night itself; the caller holds the lease of the folder."""
    notes: list[str] = []
    scenes = find_scenes(night, recipe)
    batch = choose_batch(store, scenes, began.strftime("%Y-%m-%d"), notes)
    outcome = None if batch is None else run_batch(store, recipe, batch, scenes, run)
    results = record_results(store, scenes, batch, outcome)
    notes += [] if outcome is None else [str(file) for file in outcome.remade]
    is_good, why = check_thresholds(results, night.latest)
    if is_good:
        publish_latest(store, results, began.isoformat(), notes)
    night_outcome = NightOutcome(
        exit_status=_choose_exit_status(outcome, is_good=is_good),
        why=why,
        moved_latest=is_good,
        scenes=tuple(results),
        has_latest=is_good or _has_latest(store),
        cost_usd=None if outcome is None else outcome.metrics.cost_usd,
        notes=tuple(notes),
    )
    summary = NightSummary(
        began=began.isoformat(),
        ended=datetime.now(UTC).isoformat(),
        exit_status=night_outcome.exit_status,
        why=why,
        counts=dict(Counter(result.state for result in results)),
        scenes=night_outcome.scenes,
        run=None if outcome is None or batch is None else batch.folder,
        cost_usd=night_outcome.cost_usd,
    )
    put_value(store, night_key(began.strftime("%Y-%m-%dT%H-%M-%SZ")), summary)
    return night_outcome


def _has_latest(store: LocalStore) -> bool:
    try:
        store.get(LATEST_KEY)
    except FileNotFoundError:
        return False
    return True


def _choose_exit_status(outcome: Outcome | None, *, is_good: bool) -> int:
    if outcome is not None and outcome.exit_status not in (EXIT_OK, EXIT_QUARANTINED):
        return outcome.exit_status
    return EXIT_OK if is_good else EXIT_MISSED


def run_batch(store: LocalStore, recipe: Recipe, batch: Batch, scenes: Sequence[NightScene], run: RunRecipe) -> Outcome:
    # The batch has public addresses. The scenes of tonight have those that open them.
    urls = {scene.public_url: scene.url for scene in scenes if scene.key is not None}
    output = str(store.root / batch.folder)
    tonight = replace(recipe, scenes=tuple(urls[url] for url in batch.keys), labels=(), output=output)
    return run(tonight, resolve(tonight))


def record_results(
    store: LocalStore, scenes: Sequence[NightScene], batch: Batch | None, outcome: Outcome | None
) -> list[SceneResult]:
    """Write down which scenes are finished by now; return what became of each."""
    index = read_index(store)
    results = [_judge(scene, index, batch, outcome) for scene in scenes]
    finished = {
        scene.public_url: FinishedScene(key=scene.key, name=scene.name, output=result.output, parts=scene.parts)
        for scene, result in zip(scenes, results, strict=True)
        if result.state == "done" and scene.key is not None and result.output is not None
    }
    put_value(store, INDEX_KEY, index | finished)
    # The next night tries the chunks that were given up again, in a folder of its own.
    if outcome is not None and outcome.exit_status in (EXIT_OK, EXIT_QUARANTINED):
        store.delete(BATCH_KEY)
    return results


def _judge(
    scene: NightScene, index: Mapping[str, FinishedScene], batch: Batch | None, outcome: Outcome | None
) -> SceneResult:
    url, name, finished = scene.public_url, scene.name, index.get(scene.public_url)
    if scene.key is None:
        return SceneResult(url=url, name=name, state="unreadable", coverage=0.0, output=None, error=scene.error)
    if finished is not None and finished.key == scene.key:
        return SceneResult(url=url, name=name, state="unchanged", coverage=1.0, output=finished.output)
    if batch is None or outcome is None or url not in batch.keys:
        error = "the scene has not been run yet"
        return SceneResult(url=url, name=name, state="incomplete", coverage=0.0, output=None, error=error)
    reason = "new" if finished is None else describe_change(finished.parts, scene.parts)
    result = _judge_run(url, name, f"{batch.folder}/{name}", outcome)
    return replace(result, reason=reason, cost_usd=outcome.metrics.scenes[name].cost_usd)


def _judge_run(url: str, name: str, output: str, outcome: Outcome) -> SceneResult:
    chunks = outcome.metrics.scenes[name].chunks
    num_chunks, num_good = chunks.total, chunks.done + chunks.empty
    has_sheets = not any(task.startswith(f"{name}/sheet_") for task in outcome.metrics.quarantined)
    coverage = num_good / num_chunks
    if num_good == num_chunks and has_sheets:
        return SceneResult(url=url, name=name, state="done", coverage=coverage, output=output)
    error = f"{num_chunks - num_good} of {num_chunks} chunks are missing" + ("" if has_sheets else ", no GeoTIFF")
    error += f": {_find_cause(name, outcome)}"
    return SceneResult(url=url, name=name, state="incomplete", coverage=coverage, output=output, error=error)


def _find_cause(name: str, outcome: Outcome) -> str:
    """The cause of a scene's missing chunks: the story of the scene, or of the first task that was given up."""
    stories = outcome.metrics.quarantined
    of_scene = (story for task, story in stories.items() if task == name or task.startswith(f"{name}/"))
    return next((story[-1] for story in of_scene if story), outcome.why)


def check_thresholds(results: Sequence[SceneResult], thresholds: Thresholds) -> tuple[bool, str]:
    """Decide if the result of a night may become the latest, and why."""
    if not results:
        return False, "the night names no scene"
    coverage = sum(result.coverage for result in results) / len(results)
    num_failed = sum(result.state in ("incomplete", "unreadable") for result in results)
    if coverage < thresholds.coverage:
        return False, f"coverage {coverage:.4f} is below {thresholds.coverage}"
    if num_failed > thresholds.failed_scenes:
        return False, f"{num_failed} scenes failed, at most {thresholds.failed_scenes} may"
    return True, f"coverage {coverage:.4f}, {num_failed} scenes failed"


def publish_latest(store: LocalStore, results: Sequence[SceneResult], began: str, notes: list[str]) -> None:
    """Move latest.json; a scene that failed keeps its last good output there."""
    names = {result.name for result in results}
    kept = {name: scene for name, scene in _read_latest_scenes(store, notes).items() if name in names}
    good = {
        result.name: LatestScene(url=result.url, output=result.output)
        for result in results
        if result.state in ("done", "unchanged") and result.output is not None
    }
    put_value(store, LATEST_KEY, Latest(began=began, scenes=kept | good))


def _read_latest_scenes(store: LocalStore, notes: list[str]) -> dict[str, LatestScene]:
    try:
        latest = read_latest(store)
    except DamagedError as error:
        notes.append(f"{LATEST_KEY} was damaged ({error.got}); it is made again from the index")
        index = read_index(store)
        return {scene.name: LatestScene(url=url, output=scene.output) for url, scene in index.items()}
    return {} if latest is None else latest.scenes
