"""Paths inside a submitted job, whose working directory is a copy that Ray deletes when the job has ended.

`ray job submit --working-dir .` packs the folder, without what .rayignore and .gitignore name, and unpacks it on every
node. So a relative output "succeeds" into a folder that is lost, and a relative input may not have been packed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from batchseg.errors import RecipeError
from batchseg.recipe import LabelPolygons, Recipe
from batchseg.remote import is_remote
from batchseg.runs.night_settings import Night

_Paths = Iterable[tuple[str, str]]
"""Keys of a file, each with a path that it names."""
_UNPACKED = ("runtime_resources", "working_dir_files")
"""The folders of a Ray session under which it unpacks working directories."""


def find_job_folder(current: Path) -> Path | None:
    """Find the unpacked working directory of a job that a folder lies in; None outside of such a job."""
    for folder in (current, *current.parents):
        if folder.parent.parts[-2:] == _UNPACKED:
            return folder
    return None


def check_recipe_paths(recipe: Recipe, *, current: Path | None = None) -> None:
    """Refuse paths of a recipe that a job would lose or cannot find.

    Args:
        recipe: The recipe.
        current: The current folder; by default that of this process.

    Raises:
        RecipeError: The output lies in the job's working directory, or a relative input is not there.
    """
    _check_paths([("output", recipe.output)], _list_inputs(recipe), current or Path.cwd())


def check_night_paths(night: Night, *, current: Path | None = None) -> None:
    """Refuse paths of a night that a job would lose or cannot find."""
    inputs = [("recipe", night.recipe), *(("scenes", scene) for scene in night.scenes)]
    inputs += [] if night.listing is None else [("listing", night.listing)]
    _check_paths([("output", night.output)], inputs, current or Path.cwd())


def _check_paths(outputs: _Paths, inputs: _Paths, at: Path) -> None:
    job_folder = find_job_folder(at.resolve())
    if job_folder is None:
        return
    for key, path in outputs:
        if not is_remote(path) and (at / path.removeprefix("file://")).resolve().is_relative_to(job_folder):
            raise RecipeError(
                "an output in the job's working directory would be lost, since Ray deletes this copy after the job",
                where=key,
                expected="a URL, or an absolute path that all nodes see",
                got=path,
                todo=f"write `{key}: s3://BUCKET/{Path(path).name}` or `{key}: /SHARED/{Path(path).name}`",
            )
    for key, path in inputs:
        if _is_relative(path) and not any(at.glob(path)):
            raise RecipeError(
                "this file is not in the job's working directory",
                where=key,
                got=path,
                todo="write an absolute path that all nodes see, or a URL: the upload leaves out what .rayignore and "
                ".gitignore name, `out/` for example",
            )


def _list_inputs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield from (("scenes", scene) for scene in recipe.scenes)
    for labels in recipe.labels:
        if isinstance(labels, LabelPolygons):
            yield "labels: polygons", labels.polygons.partition("|")[0]
        elif labels is not None:
            yield "labels", labels.partition("|")[0]
    yield from (("route: priority: polygons", reason.polygons.partition("|")[0]) for reason in recipe.route.polygons)
    if recipe.aoi is not None:
        yield "aoi", recipe.aoi.partition("|")[0]
    for tier, ref in (("bulk", recipe.models.bulk), ("heavy", recipe.models.heavy)):
        if ref is not None and not ref.startswith("zoo:"):
            yield f"models: {tier}", ref


def _is_relative(path: str) -> bool:
    """Test for a plain relative path; GDAL's own names begin with `/vsi` or with a driver and a colon."""
    return not (is_remote(path) or path.startswith(("/", "~", "file:")) or ":" in path)
