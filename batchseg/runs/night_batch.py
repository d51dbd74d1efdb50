"""The scenes of a night, and which of them its run computes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchseg.errors import BatchsegError, DamagedError, InputError, RecipeError
from batchseg.json_values import put_value
from batchseg.paths import BATCH_KEY
from batchseg.recipe import Recipe
from batchseg.redact import make_public_url
from batchseg.regular_files import read_regular
from batchseg.resolve.resolve import resolve
from batchseg.resolve.scenes import expand_scenes
from batchseg.runs.night_files import Batch, read_batch, read_index
from batchseg.runs.night_reasons import digest_parts
from batchseg.runs.night_settings import Night
from batchseg.scene.header import make_scene_name
from batchseg.store import LocalStore


@dataclass(frozen=True, slots=True, kw_only=True)
class NightScene:
    """One scene that a night looked at."""

    url: str
    """The address that the night names. It may hold credentials, so no file has it."""
    name: str
    key: str | None
    """The fingerprint of a run over this scene alone; None for a scene that cannot be read."""
    parts: dict[str, str] = field(default_factory=dict)
    """Short hashes of what the key is made of."""
    error: str | None = None
    """Reason why the scene cannot be read."""

    @property
    def public_url(self) -> str:
        """The address in files. A new signature does not make a new scene of it."""
        return make_public_url(self.url)


def find_scenes(night: Night, recipe: Recipe) -> list[NightScene]:
    """Every scene that the night names, each judged by itself."""
    scenes: list[NightScene] = []
    urls_by_name: dict[str, str] = {}
    for url in _list_urls(night):
        scene = _identify(url, recipe)
        if scene.key is not None and scene.name in urls_by_name:
            twin = urls_by_name[scene.name]
            error = f"{scene.public_url}: {twin} is called {scene.name} too. Rename one of them"
            scene = replace(scene, key=None, error=error)
        urls_by_name.setdefault(scene.name, scene.public_url)
        scenes.append(scene)
    return scenes


def _list_urls(night: Night) -> list[str]:
    urls: list[str] = []
    for pattern in night.scenes:
        try:
            urls += expand_scenes([pattern])
        except InputError:
            continue  # no file matches tonight; the thresholds say whether that is too few
    if night.listing is not None:
        try:
            lines = read_regular(night.listing).decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError("the listing cannot be read", where=night.listing, got=str(error)) from error
        urls += [text for line in lines if (text := line.partition("#")[0].strip())]
    return list(dict.fromkeys(urls))


def _identify(url: str, recipe: Recipe) -> NightScene:
    try:
        resolved = resolve(replace(recipe, scenes=(url,), labels=()))
    except BatchsegError as error:
        return NightScene(url=url, name=make_scene_name(url), key=None, error=str(error))
    name, parts = next(iter(resolved.job.scenes)), digest_parts(resolved.content)
    return NightScene(url=url, name=name, key=resolved.fingerprint, parts=parts)


def choose_batch(store: LocalStore, scenes: Sequence[NightScene], date: str, notes: list[str]) -> Batch | None:
    """The batch to run: an interrupted one, if its scenes are still the same, else all new scenes."""
    keys = {scene.public_url: scene.key for scene in scenes if scene.key is not None}
    interrupted = _read_interrupted(store, notes)
    if interrupted is not None and all(keys.get(url) == key for url, key in interrupted.keys.items()):
        return interrupted
    index = read_index(store)
    new = {url: key for url, key in keys.items() if url not in index or index[url].key != key}
    if not new:
        store.delete(BATCH_KEY)
        return None
    batch = Batch(folder=_choose_folder(store.root, date), keys=new)
    put_value(store, BATCH_KEY, batch)
    return batch


def _read_interrupted(store: LocalStore, notes: list[str]) -> Batch | None:
    try:
        return read_batch(store)
    except DamagedError as error:
        notes.append(f"{BATCH_KEY} was damaged ({error.got}); its scenes are chosen again")
        return None


def _choose_folder(root: Path, date: str) -> str:
    names = (date if number == 1 else f"{date}-{number}" for number in range(1, 1_000_000))
    return next(name for name in names if not os.path.lexists(root / name))
