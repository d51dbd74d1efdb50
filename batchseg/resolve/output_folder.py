"""Opening the output folder of a run, to look at it."""

from __future__ import annotations

from pathlib import Path

from batchseg.errors import InputError
from batchseg.ledger.ledger import Ledger
from batchseg.objectstore import open_store
from batchseg.paths import PLAN_KEY
from batchseg.store import Store


def open_output(output: str | Path) -> Store:
    """The storage of a run that has begun.

    Raises:
        InputError: No run has begun there.
    """
    store = open_store(str(output))
    # A run writes its plan after its recipe; without the plan there is nothing to look at yet.
    if not _has_plan(store) or Ledger(store).read_recipe() is None:
        raise InputError(
            "this is not the output of a run",
            where=str(output),
            expected=f"a folder with {PLAN_KEY}",
            todo="give the folder that the recipe names as `output`",
        )
    return store


def _has_plan(store: Store) -> bool:
    try:
        store.get(PLAN_KEY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
