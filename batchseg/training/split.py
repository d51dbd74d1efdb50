"""Ground to learn from, to watch and to measure on: three sets of scenes that have none in common."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from batchseg.errors import RecipeError
from batchseg.redact import make_public_url
from batchseg.remote import is_remote
from batchseg.training.train_recipe import GroundSpec, TrainRecipe


def check_split(recipe: TrainRecipe) -> None:
    grounds = {"train": recipe.train, "watch": recipe.watch, "validate": recipe.validate}
    given = {name: spec for name, spec in grounds.items() if spec is not None}
    for (first, one), (second, other) in combinations(given.items(), 2):
        _check_apart(first, one, second, other)
    for name, spec in given.items():
        if any(raster.labels is None for raster in spec.rasters):
            _check_unlabelled(name, recipe.teacher)


def _check_apart(first: str, one: GroundSpec, second: str, other: GroundSpec) -> None:
    again = [*_seeds_of_both(one, other), *_rasters_of_both(one, other)]
    if again:
        done = "trained on" if first == "train" else "watched, which chooses the best moment on it"
        raise RecipeError(
            f"a scene to {'watch' if second == 'watch' else 'measure on'} is {done}",
            where=", ".join(again),
            got=f"it in `{first}` and in `{second}`",
            todo="split by scene: give each scene to one of `train`, `watch` and `validate`",
        )


def _seeds_of_both(one: GroundSpec, other: GroundSpec) -> list[str]:
    if one.seeds is None or other.seeds is None:
        return []
    start, stop = max(one.seeds[0], other.seeds[0]), min(one.seeds[1], other.seeds[1])
    return [f"seeds {start} to {stop - 1}"] if start < stop else []


def _rasters_of_both(one: GroundSpec, other: GroundSpec) -> list[str]:
    known = {_file(raster.image) for raster in one.rasters}
    return sorted({raster.image for raster in other.rasters if _file(raster.image) in known})


def _file(url: str) -> str:
    """One name for a scene, however it is written: a path, links to it, an address with this or that signature."""
    if is_remote(url) or url.startswith("/vsi"):
        return make_public_url(url)
    return str(Path(url.removeprefix("file://")).resolve())


def _check_unlabelled(name: str, teacher: str | None) -> None:
    if name != "train":
        raise RecipeError("ground to measure on needs labels", where=name)
    if teacher is None:
        raise RecipeError(
            "a raster without labels teaches nothing by itself",
            where="train: rasters",
            todo="give its `labels`, or a `teacher`",
        )
