"""Opening the output folder of a run for the verbs that look at it."""

from __future__ import annotations

from batchseg.ledger.ledger import Ledger, StoredRecipe
from batchseg.resolve.output_folder import open_output
from batchseg.store import Store


def opened(output: str) -> tuple[Store, StoredRecipe]:
    """The store and the resolved recipe that the run wrote down."""
    store = open_output(output)
    recipe = Ledger(store).read_recipe()
    assert recipe is not None, "open_output has read it"
    return store, recipe
