"""Checks, before anything is written, that a run can write to its output."""

from __future__ import annotations

import os
from pathlib import Path

from batchseg.errors import RecipeError, RefusedError, StorageError
from batchseg.json_values import get_json
from batchseg.paths import RECIPE_KEY
from batchseg.store import LocalStore, Store


def check_output(store: Store) -> None:
    """Raise RecipeError unless a run can write to this storage; write nothing."""
    if isinstance(store, LocalStore):
        check_folder(store.root)
        return
    try:
        get_json(store, RECIPE_KEY)
    except FileNotFoundError:
        return
    except (RefusedError, StorageError) as error:
        raise RecipeError(
            error.what,
            where=f"output: {store.address}",
            got=error.got,
            todo="check bucket, credentials, region and endpoint (docs/object-storage.md)",
        ) from None


def check_folder(output: Path) -> None:
    """Raise RecipeError unless this is a local folder that can be made or written to; write nothing."""
    if "://" in str(output) or ":/" in output.parts[0]:
        raise RecipeError("the output must be a local folder", where=f"output: {output}", todo="give a folder")
    nearest = next(path for path in (output, *output.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise RecipeError(
            "the output must be a folder that this user may write to",
            where=f"output: {output}",
            got=f"{nearest}, {'a folder without permission to write' if nearest.is_dir() else 'a file'}",
            todo="give another output folder",
        )
