"""The folder that a bundle is trained into: it is checked before a training, and a full disk is reported well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from batchseg.collisions import check_inputs, list_bundle_files, make_foreign_error
from batchseg.errors import BundleError
from batchseg.model.bundle import ITEM
from batchseg.model.card import CARD
from batchseg.model.item import WEIGHTS
from batchseg.paths import OutputKeys
from batchseg.store import LocalStore
from batchseg.training.checkpoint import CHECKPOINT_FILES, is_checkpoint
from batchseg.training.curves import CURVE_FILES
from batchseg.training.train_recipe import TrainRecipe

TRAINING = "training"
"""Folder beside the bundle with checkpoint, curves and a teacher's logits. It may be deleted after the training."""
CHECKPOINT = f"{TRAINING}/checkpoint"
_CURVES = frozenset(f"{TRAINING}/{name}" for name in CURVE_FILES)
_CHECKPOINTS = frozenset(f"{CHECKPOINT}/{name}" for name in CHECKPOINT_FILES)
_BUNDLE_FILES = frozenset({WEIGHTS, CARD})
_TRAINING_FILES = frozenset({ITEM}) | _BUNDLE_FILES | _CURVES | _CHECKPOINTS


def check_bundle_folder(folder: Path) -> None:
    """Refuse a place where no bundle can be written, before a training of hours."""
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        problem = None if existing.is_dir() else f"{existing}, a file"
        if problem is None and not os.access(existing, os.W_OK | os.X_OK):
            problem = f"{existing}, where you may not write"
    except OSError as error:
        problem = str(error)
    if problem is not None:
        raise BundleError("no bundle can be written there", where=str(folder), got=problem, todo="give another folder")


def check_bundle_files(folder: Path, recipe: TrainRecipe) -> None:
    """Raise RecipeError when the training would replace one of its inputs, or a file that no training made."""
    store, keys = LocalStore(folder), OutputKeys(frozenset(_TRAINING_FILES), frozenset())
    check_inputs(store, keys, _list_inputs(recipe))
    taken = list(store.find_taken(keys))
    foreign = [key for key in taken if key in _CURVES and not _is_curve(folder / key)]
    foreign += [key for key in taken if key in _CHECKPOINTS and not is_checkpoint(folder / key)]
    # A bundle is compared with the recipe later. Without one, only a checkpoint says that a training has begun here.
    if ITEM not in taken and not any(is_checkpoint(folder / key) for key in _CHECKPOINTS):
        foreign += [key for key in taken if key in _BUNDLE_FILES]
    if foreign:
        raise make_foreign_error(str(folder), foreign, writer="training")


def _list_inputs(recipe: TrainRecipe) -> Iterator[str]:
    for ground in recipe.grounds:
        for raster in ground.rasters:
            yield from filter(None, (raster.image, raster.labels))
    for ref in (recipe.start, recipe.teacher):
        if ref is not None and not ref.startswith("zoo:"):
            yield from list_bundle_files(ref)


def _is_curve(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().startswith("step,")
    except (OSError, UnicodeDecodeError):
        return False


@contextmanager
def report_full_disk(folder: Path) -> Iterator[None]:
    """Turn a write error into one that says how to continue: the last checkpoint is kept."""
    try:
        yield
    except BrokenPipeError:
        raise  # the terminal's, not the disk's
    except (OSError, SafetensorError) as error:
        todo = "when there is room, the same command goes on from the last checkpoint"
        raise BundleError("the training cannot be written", where=str(folder), got=str(error), todo=todo) from error
