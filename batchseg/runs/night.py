"""A night: which scenes are new, one run over them, and whether its result may become the latest.

Theory of operation
-------------------
A scene is known by its *key*: the fingerprint of a run of this recipe over this scene alone, so it changes with the
scene's content, the models and every setting that decides bytes, and with nothing else. `index.json` holds the keys of
all scenes that are done, and where; a night is a run over those whose key is not there. Scenes that cannot be read are
told of and left out, so that one bad scene does not stop the night.

The batch of a night is written down before it runs (`batch.json`) and taken up again by the next start, whatever the
date; a batch whose scenes changed meanwhile is left as it is, and its scenes are new again.

    2026-01-31/           the run of that night, like any other
    nights/TIME.json      what each start found and did
    index.json            scene -> key and output, of all that is done
    batch.json            what is being done; gone when it is
    latest.json           the newest outputs of all scenes, once coverage and failures passed
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from batchseg.errors import BatchsegError, InputError, RecipeError
from batchseg.paths import BATCH_KEY, INDEX_KEY, LATEST_KEY
from batchseg.recipe import Recipe
from batchseg.resolve.resolve import Resolved, expand_scenes, resolve
from batchseg.runs.session import Outcome
from batchseg.schema import setting
from batchseg.store import LocalStore, get_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a night's result becomes the latest."""

    coverage: float = setting(1.0, doc="share of the scenes' chunks that must be done, mean over scenes")
    failed_scenes: int = setting(0, doc="scenes that may be unreadable or incomplete")

    def __post_init__(self) -> None:
        if not 0 <= self.coverage <= 1 or self.failed_scenes < 0:
            got = f"coverage {self.coverage}, failed_scenes {self.failed_scenes}"
            raise RecipeError("these thresholds cannot be met or missed", where="latest", got=got)


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """configs/nightly.yaml."""

    recipe: str = setting(doc="recipe file; its `scenes`, `labels` and `output` are left aside")
    output: str = setting(doc="folder of all nights")
    scenes: tuple[str, ...] = setting((), doc="files, URLs or globs")
    listing: str | None = setting(None, doc="a text file with one scene a line; # begins a comment")
    latest: Thresholds = setting(Thresholds, doc="when latest.json moves")

    def __post_init__(self) -> None:
        if not self.scenes and self.listing is None:
            raise RecipeError("there is nowhere to look for scenes", where="scenes", todo="give `scenes` or `listing`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One scene of tonight."""

    url: str
    name: str
    key: str | None
    """None for a scene that cannot be read."""
    error: str | None = None


State = Literal["done", "unchanged", "incomplete", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneResult:
    url: str
    name: str
    state: State
    coverage: float
    output: str | None
    error: str | None = None


def look(night: Night, recipe: Recipe) -> list[Found]:
    """Every scene there is, each judged by itself."""
    found: list[Found] = []
    names: dict[str, str] = {}
    for url in _urls(night):
        scene = _judge(url, recipe)
        if scene.key is not None and scene.name in names:
            twin = names[scene.name]
            scene = replace(scene, key=None, error=f"{url}: {twin} is called {scene.name} too; rename one")
        names.setdefault(scene.name, url)
        found.append(scene)
    return found


def _urls(night: Night) -> list[str]:
    urls: list[str] = []
    for pattern in night.scenes:
        try:
            urls += expand_scenes([pattern])
        except InputError:
            continue  # no file matches tonight; whether that is too few is for the thresholds to say
    if night.listing is not None:
        try:
            lines = Path(night.listing).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError("the listing cannot be read", where=night.listing, got=str(error)) from error
        urls += [text for line in lines if (text := line.partition("#")[0].strip())]
    return list(dict.fromkeys(urls))


def _judge(url: str, recipe: Recipe) -> Found:
    try:
        resolved = resolve(replace(recipe, scenes=(url,), labels=()))
    except BatchsegError as error:
        return Found(url=url, name=Path(url).stem, key=None, error=str(error))
    return Found(url=url, name=next(iter(resolved.job.scenes)), key=resolved.fingerprint)


def batch_of(store: LocalStore, found: Sequence[Found], date: str) -> dict[str, Any] | None:
    """The batch to run: the one that was begun, if its scenes are still the same, else all that is new."""
    keys = {scene.url: scene.key for scene in found if scene.key is not None}
    begun = _read(store, BATCH_KEY)
    if begun and all(keys.get(url) == key for url, key in begun["keys"].items()):
        return begun
    index = _read(store, INDEX_KEY)
    new = {url: key for url, key in keys.items() if index.get(url, {}).get("key") != key}
    if not new:
        store.delete(BATCH_KEY)
        return None
    batch = {"folder": _free_folder(store.root, date), "keys": new}
    store.put(BATCH_KEY, json.dumps(batch, indent=1).encode())
    return batch


def _free_folder(root: Path, date: str) -> str:
    names = (date if number == 1 else f"{date}-{number}" for number in range(1, 1_000_000))
    return next(name for name in names if not (root / name).exists())


def run_batch(
    night: Night, recipe: Recipe, batch: Mapping[str, Any], run: Callable[[Recipe, Resolved], Outcome]
) -> Outcome:
    output = str(Path(night.output) / batch["folder"])
    tonight = replace(recipe, scenes=tuple(batch["keys"]), labels=(), output=output)
    return run(tonight, resolve(tonight))


def settle(
    store: LocalStore, found: Sequence[Found], batch: Mapping[str, Any] | None, outcome: Outcome | None
) -> list[SceneResult]:
    """Write down what is done by now; what became of each scene."""
    index = _read(store, INDEX_KEY)
    results = [_result(scene, index, batch, outcome) for scene in found]
    keys = {scene.url: scene.key for scene in found}
    done = {r.url: {"key": keys[r.url], "name": r.name, "output": r.output} for r in results if r.state == "done"}
    store.put(INDEX_KEY, json.dumps(index | done, indent=1).encode())
    # Chunks that were given up are tried again by the next night, in a folder of its own.
    if outcome is not None and outcome.exit_status in (0, 3):
        store.delete(BATCH_KEY)
    return results


def _result(
    scene: Found, index: Mapping[str, Any], batch: Mapping[str, Any] | None, outcome: Outcome | None
) -> SceneResult:
    known = index.get(scene.url, {})
    facts = {"url": scene.url, "name": scene.name}
    if scene.key is None:
        return SceneResult(**facts, state="unreadable", coverage=0.0, output=None, error=scene.error)
    if known.get("key") == scene.key:
        return SceneResult(**facts, state="unchanged", coverage=1.0, output=known["output"])
    if batch is None or outcome is None or scene.url not in batch["keys"]:
        return SceneResult(**facts, state="incomplete", coverage=0.0, output=None, error="it has not been run yet")
    chunks = outcome.metrics["scenes"][scene.name]["chunks"]
    total, good = sum(chunks.values()), chunks["done"] + chunks["empty"]
    sheets = [task for task in outcome.metrics["quarantined"] if task.startswith(f"{scene.name}/sheet_")]
    state: State = "done" if good == total and not sheets else "incomplete"
    error = None if state == "done" else f"{total - good} of {total} chunks are missing" + ", no GeoTIFF" * bool(sheets)
    output = f"{batch['folder']}/{scene.name}"
    return SceneResult(**facts, state=state, coverage=good / total, output=output, error=error)


def passes(results: Sequence[SceneResult], thresholds: Thresholds) -> tuple[bool, str]:
    """Whether a night's result may become the latest, and why."""
    if not results:
        return False, "no scene was found"
    coverage = sum(result.coverage for result in results) / len(results)
    failed = sum(result.state in ("incomplete", "unreadable") for result in results)
    if coverage < thresholds.coverage:
        return False, f"coverage {coverage:.4f} is below {thresholds.coverage}"
    if failed > thresholds.failed_scenes:
        return False, f"{failed} scenes failed, {thresholds.failed_scenes} may"
    return True, f"coverage {coverage:.4f}, {failed} scenes failed"


def publish(store: LocalStore, results: Sequence[SceneResult], began: str) -> None:
    """Move latest.json; a scene that failed keeps its last good output there."""
    before = _read(store, LATEST_KEY).get("scenes", {})
    found = {result.name for result in results}
    good = {r.name: {"url": r.url, "output": r.output} for r in results if r.state in ("done", "unchanged")}
    kept = {name: facts for name, facts in before.items() if name in found}
    store.put(LATEST_KEY, json.dumps({"began": began, "scenes": kept | good}, indent=1).encode())


def _read(store: LocalStore, key: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = get_json(store, key)
    except FileNotFoundError:
        return {}
    return content
