"""Reads with a time limit: a read of a lost mount, or of a server that says no word, would hang for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from batchseg.errors import AbsentSceneError
from batchseg.patient_threads import PatientThreads
from batchseg.recipe import Patience
from batchseg.scene.pixels import Pixels, Source, describe_window
from tiling.span import Window

T = TypeVar("T")
READ_S = Patience().read_s
"""Time limit where no fleet sets one: before a run, and for reference labels."""
_READERS = PatientThreads(256, "reader")
"""The threads that read. Each has its own handles of GDAL, so they are kept from read to read."""


def read_within(read: Callable[[], T], within_s: float, where: str) -> T:
    """Make a call that reads a raster on a thread of its own; raise AbsentSceneError when it takes too long."""
    return _READERS.call(read, within_s, lambda: _make_error(within_s, where))


def _make_error(within_s: float, where: str) -> AbsentSceneError:
    return AbsentSceneError(
        "the read hangs",
        where=where,
        got=f"nothing within {within_s:g} s",
        todo="look at the disk, the mount or the server; for storage that is slow but sound raise `patience: read_s` "
        "of the fleet",
    )


@dataclass(frozen=True, slots=True)
class LimitedSource:
    """A source whose reads end, one way or the other."""

    source: Source
    url: str
    """Address of the scene, for messages."""
    within_s: float = READ_S

    @classmethod
    def of(cls, source: Source, url: str, within_s: float) -> LimitedSource:
        """Limit the reads of a source, which may have another limit already."""
        return cls(source.source if isinstance(source, cls) else source, url, within_s)

    def read(self, window: Window) -> Pixels:
        return read_within(lambda: self.source.read(window), self.within_s, describe_window(self.url, window))
