"""Opening the output folder of a run for the verbs that look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchseg.errors import InputError
from batchseg.ledger.ledger import Ledger
from batchseg.store import LocalStore


def opened(output: Path) -> tuple[LocalStore, dict[str, Any]]:
    """The store and the resolved recipe that the run wrote down."""
    store = LocalStore(output)
    run = Ledger(store).resolved()
    if run is None:
        raise InputError(
            "this is not the output of a run", where=str(output), expected="run/recipe.json", todo="check the path"
        )
    return store, run
