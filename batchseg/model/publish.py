"""New folders of bundles: whole or not at all."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchseg.errors import BundleError


@contextmanager
def publish_folder(folder: Path) -> Iterator[Path]:
    """Yield an unfinished folder to fill. It gets its name at the end; an error removes it.

    It is made at once, so that a place where nothing can be written is refused before minutes of work.
    """
    try:
        if folder.exists():
            raise BundleError("there is something already", where=str(folder), todo="give a new folder")
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    except OSError as error:
        todo = "give another folder"
        raise BundleError("no bundle can be written there", where=str(folder), got=str(error), todo=todo) from error
    try:
        yield unfinished
        unfinished.rename(folder)
    except BrokenPipeError:
        raise  # the screen has gone, not the disk
    except OSError as error:
        raise BundleError("the bundle could not be made", where=str(folder), got=str(error)) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read_clock() -> str:
    """Now, as the date and time of a STAC item."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
