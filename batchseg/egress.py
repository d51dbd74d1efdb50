"""The one place where text leaves: every file, every message and every error goes through it without credentials.

Text becomes bytes here and nowhere else, JSON becomes text here and nowhere else, and the errors of public functions
pass here. `tests/test_architecture.py` holds this, with a list of the few modules that write bytes or let a library
write. The terminal has its own place, `jobs/terminal/redacted_output.py`.
"""

from __future__ import annotations

import functools
import json
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from batchseg.errors import BatchsegError
from batchseg.redact import may_need_redaction, redact

P = ParamSpec("P")
R = TypeVar("R")
_PICTURE = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/]*+={0,2}")
"""A picture of a page. No text is in it, and looking through it would take longer than all else."""


def encode_text(text: str) -> bytes:
    """Make the content of a file of text."""
    return redact(text).encode()


def write_text(path: Path, text: str) -> None:
    """Write a file of text."""
    path.write_bytes(encode_text(text))


def format_json(
    data: Any, *, indent: int | None = None, sort_keys: bool = False, compact: bool = False, ascii_only: bool = True
) -> str:
    """Format plain data as JSON. Each text in it is redacted by itself, before its quotes are escaped.

    Args:
        data: What JSON can hold: mappings, lists, texts, numbers.
        indent: Spaces per level; None puts all on one line.
        sort_keys: Whether keys stand in alphabetical order.
        compact: Whether there is no space behind commas and colons.
        ascii_only: Whether other letters are escaped.
    """
    separators = (",", ":") if compact else None
    dump = functools.partial(
        json.dumps, indent=indent, sort_keys=sort_keys, separators=separators, ensure_ascii=ascii_only
    )
    content: str = dump(data)
    if not may_need_redaction(content):
        return content
    together = "\n".join(list_texts(data))
    if redact(together) != together:
        content = dump(_redact_texts(data))
    return content


def list_texts(data: Any) -> Iterator[str]:
    """List each text in plain data, keys included, and pictures left out."""
    if isinstance(data, str):
        if not _PICTURE.fullmatch(data):
            yield data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield str(key)
            yield from list_texts(value)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from list_texts(item)


def _redact_texts(data: Any) -> Any:
    if isinstance(data, str):
        return data if _PICTURE.fullmatch(data) else redact(data)
    if isinstance(data, Mapping):
        return {redact(str(key)): _redact_texts(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_redact_texts(item) for item in data]
    return data


def encode_json(
    data: Any, *, indent: int | None = None, sort_keys: bool = False, compact: bool = False, ascii_only: bool = True
) -> bytes:
    """Make the content of a JSON file, as `format_json` does."""
    return format_json(data, indent=indent, sort_keys=sort_keys, compact=compact, ascii_only=ascii_only).encode()


def redact_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Let no error of this function, and no cause of it, show a credential in a traceback."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _ErrorGate():
            return function(*args, **kwargs)

    return call


class _ErrorGate:
    """Replaces errors of libraries whose text holds a credential; their class is named in the text."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        _redact_causes(error, {})
        public = _make_public(error)
        if public is not error:
            try:
                raise public.with_traceback(trace)
            finally:
                public.__context__ = error.__context__


def _redact_causes(error: BaseException, public: dict[int, BaseException]) -> None:
    """Replace the errors that led to this one, as far as they show a credential; `public` has those that are done."""
    public[id(error)] = error
    for link in ("__cause__", "__context__"):
        other = getattr(error, link)
        if other is not None:
            if id(other) not in public:
                _redact_causes(other, public)
                public[id(other)] = _make_public(other)
            setattr(error, link, public[id(other)])


def _make_public(error: BaseException) -> BaseException:
    """The same error, or one in its place whose text holds no credential."""
    is_group = isinstance(error, BaseExceptionGroup)
    text = "".join(traceback.format_exception(error) if is_group else traceback.format_exception_only(error))
    if isinstance(error, BatchsegError) or redact(text) == text:
        return error
    public = RuntimeError(redact(f"{type(error).__name__}: {error}")).with_traceback(error.__traceback__)
    public.__cause__, public.__context__ = error.__cause__, error.__context__
    public.__suppress_context__ = error.__suppress_context__
    return public
