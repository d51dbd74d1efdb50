"""Checks, before the first byte, that a run replaces nothing but its own files.

A folder belongs to a run when `run/recipe.json` is in it; then the run resumes, whatever else lies there. In any other
folder, files where the run would write were made by someone else, and the run refuses them by name. The exception is
what a driver writes before the recipe: it may have been killed in between. Other files may lie beside those of the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from batchseg.errors import DamagedError, RecipeError
from batchseg.ledger.lease import Claim
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.sessions import Session
from batchseg.paths import CLAIMS_FOLDER, EXIT_KEY, LOG_KEY, SCRATCH_FOLDER, OutputKeys
from batchseg.recipe import Recipe
from batchseg.remote import is_remote
from batchseg.resolve.destination import check_output
from batchseg.resolve.input_places import check_inputs, list_inputs
from batchseg.resolve.job import Job
from batchseg.resolve.output_keys import LEASE_KEYS, list_output_keys
from batchseg.runs.exit_status import ExitStatus
from batchseg.store import Store, read_value

NUM_NAMED = 5
"""The number of files that a message names."""


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
        raise make_foreign_error(store, foreign)


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
    return [key for key in taken if not (LEASE_KEYS.owns(key) and _is_lease_file(store, key))]


def _is_lease_file(store: Store, key: str) -> bool:
    kind = Claim if key.startswith(f"{CLAIMS_FOLDER}/") else ExitStatus if key == EXIT_KEY else Session
    try:
        read_value(store, key, kind)
    except (DamagedError, OSError):
        return False
    return True


def make_foreign_error(store: Store, foreign: list[str]) -> RecipeError:
    more = f" and {len(foreign) - NUM_NAMED} more" if len(foreign) > NUM_NAMED else ""
    return RecipeError(
        "there are files where the run would write, and no run of this output made them",
        where=f"output: {store.address}",
        got=f"{', '.join(foreign[:NUM_NAMED])}{more}",
        todo="give another output folder, or move these files away",
    )
