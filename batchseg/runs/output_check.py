"""Checks, before the first byte, that a run replaces nothing but its own files.

A folder belongs to a run when `run/recipe.json` is in it; then the run resumes, whatever else lies there. In any other
folder, files where the run would write were made by someone else, and the run refuses them by name. The exception is
what a driver writes before the recipe: it may have been killed in between. Other files may lie beside those of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from batchseg.collisions import check_inputs, make_foreign_error
from batchseg.errors import DamagedError, RecipeError
from batchseg.json_values import read_value
from batchseg.ledger.lease import Claim
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.sessions import Session, read_holder
from batchseg.objectstore import open_store
from batchseg.paths import (
    BATCH_KEY,
    CLAIMS_FOLDER,
    EXIT_KEY,
    INDEX_KEY,
    LATEST_KEY,
    LEASE_KEY,
    LOG_KEY,
    NIGHTS_FOLDER,
    SCRATCH_FOLDER,
    SESSIONS_FOLDER,
    OutputKeys,
)
from batchseg.recipe import Recipe
from batchseg.remote import is_remote
from batchseg.resolve.destination import check_folder, check_output
from batchseg.resolve.input_files import list_inputs
from batchseg.resolve.job import Job
from batchseg.resolve.output_keys import NIGHT_KEYS, list_output_keys
from batchseg.runs.exit_status import ExitStatus
from batchseg.runs.night_files import Batch, Latest, NightSummary, read_index
from batchseg.store import LocalStore, Store

_LEASE_FILES = {LEASE_KEY: Session, EXIT_KEY: ExitStatus, SESSIONS_FOLDER: Session, CLAIMS_FOLDER: Claim}
_NIGHT_FILES = {BATCH_KEY: Batch, LATEST_KEY: Latest, NIGHTS_FOLDER: NightSummary}


def check_run_output(recipe: Recipe, job: Job, store: Store, *, read_files: Iterable[str] = ()) -> None:
    """Raise RecipeError unless a run can write to this output without replacing what it did not make.

    Args:
        recipe: The recipe, which names the inputs.
        job: The resolved recipe.
        store: The output.
        read_files: Other files that the caller has read, like that of the recipe.
    """
    check_output(store)
    keys = list_output_keys(scene.zarr for scene in job.scenes.values())
    check_inputs(store, keys, (*list_inputs(recipe, job), *read_files))
    check_links(store, keys)
    ledger = Ledger(store)
    if ledger.read_recipe() is not None:
        return
    foreign = find_foreign(store, keys)
    # A driver that has begun meanwhile writes the recipe before all other files but those of the lease.
    if foreign and ledger.read_recipe() is None:
        raise make_foreign_error(store.address, foreign, writer="run")


def open_night_output(output: str, *, read_files: Iterable[str]) -> LocalStore:
    """Open the folder of all nights, and check that a night replaces nothing in it that no night made.

    Args:
        output: A local folder.
        read_files: The files that the night reads.

    Raises:
        RecipeError: It is no local folder, or files of others lie where a night writes.
    """
    store = open_store(output)
    if not isinstance(store, LocalStore):
        raise RecipeError(
            "the output of nights must be a local folder", where=f"output: {output}", todo="give a folder"
        )
    check_folder(store.root)
    check_inputs(store, NIGHT_KEYS, read_files)
    check_links(store, NIGHT_KEYS)
    foreign = [key for key in find_foreign(store, NIGHT_KEYS) if not _is_night_file(store, key)]
    if foreign and not _has_night_begun(store):
        raise make_foreign_error(store.address, foreign, writer="night")
    return store


def _has_night_begun(store: Store) -> bool:
    """Test if a driver has held the folder that was none of a run; a file that cannot be read is damaged then."""
    try:
        return read_holder(store) is not None and Ledger(store).read_recipe() is None
    except DamagedError:
        return False


def check_links(store: Store, keys: OutputKeys) -> None:
    """Raise RecipeError when a symbolic link inside of the output would lead the writer out of it."""
    if is_remote(store.address):
        return
    root = Path(store.address)
    for key in (*keys.list_folders(), SCRATCH_FOLDER, LOG_KEY):
        if (root / key).is_symlink():
            raise RecipeError(
                "a run writes inside of its output folder only",
                where=f"output: {store.address}",
                expected=f"a folder {key}" if key != LOG_KEY else f"a file {key}",
                got=f"a symbolic link to {(root / key).readlink()}",
                todo="remove the link, or give another output folder; the output folder itself may be a link",
            )


def find_foreign(store: Store, keys: OutputKeys) -> list[str]:
    """Find what lies where these keys would be written, and is not the lease of a driver."""
    taken = sorted(store.find_taken(keys), key=lambda key: (key.count("/"), key))
    return [key for key in taken if not _holds(store, key, _LEASE_FILES)]


def _is_night_file(store: Store, key: str) -> bool:
    if key != INDEX_KEY:
        return _holds(store, key, _NIGHT_FILES)
    try:
        return bool(read_index(store))
    except (DamagedError, OSError):
        return False


def _holds(store: Store, key: str, kinds: Mapping[str, type[object]]) -> bool:
    """Test if a file holds what its key says."""
    kind = kinds.get(key) or kinds.get(key.rpartition("/")[0])
    try:
        return kind is not None and read_value(store, key, kind) is not None
    except (DamagedError, OSError):
        return False
