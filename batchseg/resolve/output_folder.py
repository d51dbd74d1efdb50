"""Opening the output folder of a run, to look at it."""

from __future__ import annotations

from pathlib import Path

from batchseg.errors import InputError
from batchseg.ledger.ledger import Ledger
from batchseg.objectstore import open_store
from batchseg.paths import BATCH_KEY, INDEX_KEY, PLAN_KEY
from batchseg.store import Store


def open_output(output: str | Path) -> Store:
    """The storage of a run that has begun.

    Raises:
        InputError: No run has begun there.
    """
    store = open_store(str(output))
    # A run writes its plan after its recipe; without the plan there is nothing to look at yet.
    if not _has_object(store, PLAN_KEY) or Ledger(store).read_recipe() is None:
        raise InputError(
            "this is not the output of a run",
            where=str(output),
            expected=f"a folder with {PLAN_KEY}",
            todo="give the folder that the recipe names as `output`",
        )
    return store


def open_nights(output: str | Path) -> Store | None:
    """The storage of a folder of nights; None if it is none."""
    store = open_store(str(output))
    is_of_nights = any(_has_object(store, key) for key in (INDEX_KEY, BATCH_KEY)) and not _has_object(store, PLAN_KEY)
    return store if is_of_nights else None


def _has_object(store: Store, key: str) -> bool:
    try:
        store.get(key)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
