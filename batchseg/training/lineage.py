"""The lineage of a trained bundle: how it was made. A bundle is given away, so signatures and folders are left out."""

from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

from batchseg.errors import BundleError
from batchseg.model.bundle import ITEM, open_bundle
from batchseg.redact import make_public_url
from batchseg.schema import plain
from batchseg.training.train_recipe import GroundSpec, TrainRecipe

_GROUNDS, _BUNDLES = ("train", "validate", "watch"), ("start", "teacher")
_FREE = (
    *("name", "tier", "gsd_m", "licence", "data", "limits"),
    *("steps", "threads", "checkpoint_every", "validate", "patience"),
)
"""Settings that may change between a checkpoint and the training that continues from it."""


def make_public_recipe(recipe: TrainRecipe) -> Any:
    """The recipe as JSON for the lineage, with public names of rasters and bundles."""
    public = plain(recipe)
    public["range"] = list(recipe.input_range)
    for name in _GROUNDS:
        public[name] = make_public_ground(getattr(recipe, name))
    for name in _BUNDLES:
        public[name] = public[name] and make_public_name(public[name])
    return public


def make_public_ground(spec: GroundSpec | None) -> Any:
    public = plain(spec)
    for raster in public["rasters"] if public else ():
        for name, address in raster.items():
            raster[name] = address and make_public_name(address)
    return public


def make_public_name(address: str) -> str:
    """A URL without credentials and query, a path without its folders, `zoo:NAME` unchanged.

    The digests in the lineage identify the data exactly.
    """
    public = make_public_url(address)
    is_on_server = "://" in public and "file://" not in public
    return public if is_on_server else PurePosixPath(public).name or public


def select_deciding(public_recipe: dict[str, Any]) -> dict[str, Any]:
    """The settings that tell one training from another."""
    return {key: value for key, value in public_recipe.items() if key not in _FREE}


def is_finished(folder: Path, lineage: dict[str, Any]) -> bool:
    """Whether this very training is already finished in the folder; the bundle of another training is refused."""
    if not (folder / ITEM).exists():
        return False
    existing = open_bundle(str(folder), check_weights=False).contract.lineage
    if select_deciding(existing.get("recipe", {})) != select_deciding(lineage["recipe"]):
        raise BundleError("the folder holds a bundle of another recipe", where=str(folder), todo="give a new folder")
    if any(existing.get(key) != lineage.get(key) for key in ("recipe", "data", "start", "teacher")):
        return False  # the same training with more steps or another text: it continues
    open_bundle(str(folder))
    return True


def read_commit() -> str | None:
    """The commit of the code that trains, where it is a checkout, with a mark for uncommitted changes."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
