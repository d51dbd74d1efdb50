"""The split of the scenes: those to train on, to watch and to measure on must be different ones."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from batchseg.errors import RecipeError
from batchseg.redact import make_public_url
from batchseg.remote import is_remote
from batchseg.training.train_recipe import GroundSpec, TrainRecipe


def check_split(recipe: TrainRecipe) -> None:
    """Refuse a recipe that measures on a scene it was trained on or that early stopping saw."""
    grounds = {"train": recipe.train, "watch": recipe.watch, "validate": recipe.validate}
    specs = {name: spec for name, spec in grounds.items() if spec is not None}
    for first, second in combinations(specs, 2):
        _check_apart(first, specs[first], second, specs[second])
    for name, spec in specs.items():
        if any(raster.labels is None for raster in spec.rasters):
            _check_unlabelled(name, recipe.teacher)


def _check_apart(first: str, first_spec: GroundSpec, second: str, second_spec: GroundSpec) -> None:
    shared = [*_find_shared_seeds(first_spec, second_spec), *_find_shared_rasters(first_spec, second_spec)]
    if shared:
        purpose = "watch" if second == "watch" else "measure on"
        reason = "trained on" if first == "train" else "watched, since early stopping takes the step that suits it best"
        raise RecipeError(
            f"a scene to {purpose} must not be {reason}",
            where=", ".join(shared),
            got=f"it in `{first}` and in `{second}`",
            todo="split by scene: give each scene to one of `train`, `watch` and `validate`",
        )


def _find_shared_seeds(first: GroundSpec, second: GroundSpec) -> list[str]:
    if first.seeds is None or second.seeds is None:
        return []
    start, stop = max(first.seeds[0], second.seeds[0]), min(first.seeds[1], second.seeds[1])
    return [f"seeds {start} to {stop - 1}"] if start < stop else []


def _find_shared_rasters(first: GroundSpec, second: GroundSpec) -> list[str]:
    known = {_normalise_address(raster.image) for raster in first.rasters}
    return sorted({raster.image for raster in second.rasters if _normalise_address(raster.image) in known})


def _normalise_address(url: str) -> str:
    """One name for a scene, whether its path goes through links or its URL carries a signature."""
    if is_remote(url) or url.startswith("/vsi"):
        return make_public_url(url)
    return str(Path(url.removeprefix("file://")).resolve())


def _check_unlabelled(name: str, teacher: str | None) -> None:
    if name != "train":
        raise RecipeError(
            "scenes to measure on must have labels", where=name, todo="give `labels` for each of its rasters"
        )
    if teacher is None:
        raise RecipeError(
            "a raster without labels teaches nothing by itself",
            where="train: rasters",
            todo="give its `labels`, or a `teacher`",
        )
