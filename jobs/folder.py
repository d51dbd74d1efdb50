"""Opening the output folder of a run for the verbs that look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchseg.errors import InputError
from batchseg.ledger.ledger import Ledger
from batchseg.runs.planfile import PLAN_KEY
from batchseg.store import LocalStore


def opened(output: Path) -> tuple[LocalStore, dict[str, Any]]:
    """The store and the resolved recipe that the run wrote down."""
    store = LocalStore(output)
    # The plan is written last: without it there is nothing to look at yet.
    run = Ledger(store).resolved() if (output / PLAN_KEY).is_file() else None
    if run is None:
        raise InputError(
            "this is not the output of a run",
            where=str(output),
            expected=f"a folder with {PLAN_KEY}",
            todo="give the folder that the recipe names as `output`",
        )
    return store, run
