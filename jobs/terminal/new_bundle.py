"""A bundle that is made of another model: whole or not at all, and how it compares with the first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.score.gate import QualityChange


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder to make it in, which gets its name at the end; what an error leaves of it goes.

    It is made at once: a place where nothing can be written must not show after minutes of work.
    """
    from batchseg.errors import BundleError

    try:
        if out.exists():
            raise BundleError("there is something already", where=str(out), todo="give a new folder")
        folder = out.with_name(f"{out.name}.unfinished")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        raise BundleError("no bundle can be written there", where=str(out), got=str(error)) from error
    try:
        yield folder
        folder.rename(out)
    except BrokenPipeError:
        raise  # of the screen, not of the disk
    except OSError as error:
        raise BundleError("the bundle could not be made", where=str(out), got=str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scene_name(url: str) -> str:
    """For the bundle's item and card, which are given away: no signature of an address comes with it."""
    from batchseg.redact import make_public_url

    return Path(make_public_url(url)).name


def show_comparison(found: QualityChange, names: tuple[str, ...]) -> None:
    from batchseg.score.confusion import mean_iou
    from jobs.terminal.formats import line

    print(line("agreement", f"{found.agreement:.3%} of the labels are those of the original"))
    if found.before is None or found.after is None:
        return
    for name, before, after in zip(names, found.before, found.after, strict=True):
        if before is not None and after is not None:
            print(line("IoU", f"{name}: {before:.4f} before, {after:.4f} after"))
    print(line("mean IoU", f"{mean_iou(found.before):.4f} before, {mean_iou(found.after):.4f} after"))
