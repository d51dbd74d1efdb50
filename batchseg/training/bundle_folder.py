"""The folder that a bundle is written into: it is checked before a training, and a full disk is reported well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from batchseg.errors import BundleError


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
