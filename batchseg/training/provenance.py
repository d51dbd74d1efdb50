"""The provenance of a trained bundle: how it was made. It has no signatures and no folders: bundles are shared."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path, PurePosixPath

from batchseg.errors import BundleError
from batchseg.model.bundle import ITEM, open_bundle
from batchseg.model.lineage import TrainedLineage
from batchseg.model.quality import GroundRecord, RasterRecord
from batchseg.redact import make_public_url
from batchseg.schema import Json, JsonObject, plain
from batchseg.training.train_recipe import GroundSpec, TrainRecipe

_FREE = (
    *("name", "tier", "gsd_m", "licence", "data", "limits"),
    *("steps", "threads", "checkpoint_every", "validate", "patience"),
)
"""Settings that may change between a checkpoint and the training that continues from it."""


def make_public_recipe(recipe: TrainRecipe) -> JsonObject:
    """The recipe as JSON for the lineage, with public names of rasters and bundles."""
    grounds = {"train": recipe.train, "validate": recipe.validate, "watch": recipe.watch}
    bundles = {"start": recipe.start, "teacher": recipe.teacher}
    public: JsonObject = plain(recipe)
    return {
        # What rasters may refer to changes no weight, and names folders.
        **{key: value for key, value in public.items() if key != "trust"},
        "range": list(recipe.input_range),
        **{name: plain(spec and make_public_ground(spec)) for name, spec in grounds.items()},
        **{name: ref and make_public_name(ref) for name, ref in bundles.items()},
    }


def make_public_ground(spec: GroundSpec) -> GroundRecord:
    return GroundRecord(
        seeds=spec.seeds,
        size_px=spec.size_px,
        rasters=tuple(
            RasterRecord(image=make_public_name(raster.image), labels=raster.labels and make_public_name(raster.labels))
            for raster in spec.rasters
        ),
        windows=spec.windows,
        window_px=spec.window_px,
    )


def make_public_name(address: str) -> str:
    """A URL without credentials and query, a path without its folders, `zoo:NAME` unchanged.

    The digests in the lineage identify the data exactly.
    """
    public = make_public_url(address)
    is_on_server = "://" in public and "file://" not in public
    return public if is_on_server else PurePosixPath(public).name or public


def select_deciding(public_recipe: JsonObject) -> dict[str, Json]:
    """The settings that tell one training from another."""
    return {key: value for key, value in public_recipe.items() if key not in _FREE}


def is_finished(folder: Path, lineage: TrainedLineage) -> bool:
    """Test if this very training is already finished in the folder; the bundle of another training is refused."""
    if not (folder / ITEM).exists():
        return False
    existing = open_bundle(str(folder), check_weights=False).contract.lineage
    if not isinstance(existing, TrainedLineage) or select_deciding(existing.recipe) != select_deciding(lineage.recipe):
        raise BundleError("the folder holds a bundle of another recipe", where=str(folder), todo="give a new folder")
    if replace(existing, commit=None, steps=0) != replace(lineage, commit=None, steps=0):
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
