"""Opening the output folder of a run for the verbs that look at it."""

from __future__ import annotations

from batchseg.errors import InputError
from batchseg.ledger.ledger import Ledger, StoredRecipe
from batchseg.objectstore import open_store
from batchseg.paths import PLAN_KEY
from batchseg.store import Store


def opened(output: str) -> tuple[Store, StoredRecipe]:
    """The store and the resolved recipe that the run wrote down."""
    store = open_store(output)
    # The plan is written last: without it there is nothing to look at yet.
    run = Ledger(store).read_recipe() if _has_plan(store) else None
    if run is None:
        raise InputError(
            "this is not the output of a run",
            where=output,
            expected=f"a folder with {PLAN_KEY}",
            todo="give the folder that the recipe names as `output`",
        )
    return store, run


def _has_plan(store: Store) -> bool:
    try:
        store.get(PLAN_KEY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
