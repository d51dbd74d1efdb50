"""Every error that batchseg raises on purpose.

They have one root, so that a command can turn each of them into one line. A message has the same parts everywhere: what
went wrong, where, what was expected, what was got, and what to do. The class says who must act:

    InputError    the user, before any work starts           exit status 2
    TaskError     nobody yet: the driver retries the task    quarantined after the retries of the fleet
    StoppedError  the user, who may resume the run           its own exit status
"""

from __future__ import annotations

import re
from typing import ClassVar

from batchseg.redact import redact

MAX_PART_LENGTH = 2000
"""A longer part of a message is cut; the value behind it may be a file of many megabytes."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class BatchsegError(Exception):
    """The root of all errors that batchseg raises on purpose.

    It survives pickling, because workers send errors to the driver.
    """

    exit_status: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        todo: str | None = None,
    ) -> None:
        self.what = _clean(what)
        self.where, self.expected, self.got, self.todo = (
            None if text is None else _clean(text) for text in (where, expected, got, todo)
        )
        super().__init__(self.what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.expected is not None:
            text += f"; expected {self.expected}"
        if self.got is not None:
            text += f"{',' if self.expected is not None else ';'} got {self.got}"
        if self.todo:
            text += f". {self.todo[0].upper()}{self.todo[1:]}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.expected, self.got, self.todo)


def _clean(text: str) -> str:
    """One line without secrets. Text from files can hold control characters, which would forge lines of a terminal."""
    # Cut twice: a secret that the first cut leaves without its end, and so unknown, does not survive the second.
    line = redact(text[: 2 * MAX_PART_LENGTH])
    if len(text) > MAX_PART_LENGTH:
        line = f"{line[: min(MAX_PART_LENGTH, len(line) // 2)]}… ({len(text)} characters)"
    return _CONTROL.sub(lambda match: " " if match[0].isspace() else f"\\x{ord(match[0]):02x}", line)


def _rebuild(
    kind: type[BatchsegError],
    what: str,
    where: str | None,
    expected: str | None,
    got: str | None,
    todo: str | None,
) -> BatchsegError:
    return kind(what, where=where, expected=expected, got=got, todo=todo)


class InputError(BatchsegError):
    """The user's input is wrong. Nothing has been written."""

    exit_status = 2


class RecipeError(InputError):
    """A recipe, a fleet or an option is wrong."""


class IrregularFileError(InputError):
    """A name leads to a pipe, a socket or a device, where a file must be. Its reader might wait for ever."""


class UnknownKeyError(RecipeError):
    """A file has a key that this version does not know."""


class SceneError(InputError):
    """A raster cannot be read or georeferenced."""


class AbsentSceneError(SceneError):
    """A scene cannot be read any more: it is gone or has changed, or its server does not answer. It may come back."""


class BundleError(InputError):
    """The contract of a model bundle is broken or does not fit the scene."""


class BrokenModelError(BundleError):
    """A model gave pixels no probability. The same tile would give the same again, so there is no retry."""


class ForeignRunError(InputError):
    """The output folder holds the records of another recipe (invariant I4)."""


class TaskError(BatchsegError):
    """An attempt at a chunk or a sheet failed."""

    retryable = True


class ReadError(TaskError):
    """A window of a scene could not be read."""


class WriteError(TaskError):
    """An object could not be written, or did not read back as written."""


class StorageError(TaskError):
    """A server failed to answer a request, after several attempts."""


class DamagedError(TaskError):
    """A stored file is not what was written: its digest or its content is wrong (invariant I3)."""

    exit_status = 2


class OutOfMemoryError(TaskError):
    """The host or the device ran out of memory inside one task."""


class StoppedError(BatchsegError):
    """The run ended on purpose before its work was done. The same command resumes it."""


class RefusedError(StoppedError):
    """Storage refuses access, and a retry would change nothing: credentials, rights, a bucket that is gone."""

    exit_status = 5


class FleetError(StoppedError):
    """No worker can work: the workers die at their start, or do not see the files that the driver sees."""


class BusyError(StoppedError):
    """Another living driver holds the lease of this output folder."""

    exit_status = 2
