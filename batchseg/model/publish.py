"""New folders of bundles: whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from batchseg.atomic import make_folder
from batchseg.errors import BundleError
from batchseg.scratch import open_scratch, sweep_scratch


@contextmanager
def publish_folder(folder: Path) -> Iterator[Path]:
    """Yield an unfinished folder to fill. It gets its name at the end; an error removes it.

    It is made at once, so that a place where nothing can be written is refused before minutes of work.
    """
    with ExitStack() as stack:
        try:
            unfinished = _make_unfinished(folder.absolute(), stack)
        except OSError as error:
            todo = "give another folder"
            raise BundleError("no bundle can be written there", where=str(folder), got=str(error), todo=todo) from error
        try:
            yield unfinished
            unfinished.rename(folder.absolute())
        except BrokenPipeError:
            raise  # the screen has gone, not the disk
        except OSError as error:
            raise BundleError("the bundle could not be made", where=str(folder), got=str(error)) from error


def _make_unfinished(folder: Path, stack: ExitStack) -> Path:
    """A folder beside the finished one, with a name that nobody has; the stack removes it."""
    if os.path.lexists(folder):
        raise BundleError("there is something already", where=str(folder), todo="give a new folder")
    prefix = f"{folder.name}.unfinished-"
    make_folder(folder.parent)
    sweep_scratch(folder.parent, prefix)
    unfinished = stack.enter_context(open_scratch(folder.parent, prefix)) / folder.name
    make_folder(unfinished)  # the scratch folder around it is for the user alone
    return unfinished


def read_clock() -> str:
    """Now, as the date and time of a STAC item."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
