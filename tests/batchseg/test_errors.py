from __future__ import annotations

import copy
import pickle
import time

import pytest

from batchseg import errors
from batchseg.errors import BatchsegError, BusyError, DamagedError, InputError, RefusedError, StoppedError, TaskError


def all_kinds(root: type[BatchsegError] = BatchsegError) -> list[type[BatchsegError]]:
    """The root and everything below it that batchseg.errors defines."""
    below = [kind for child in root.__subclasses__() for kind in all_kinds(child)]
    return [root, *(kind for kind in below if kind.__module__ == errors.__name__)]


def test_there_is_one_tree() -> None:
    defined = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert set(all_kinds()) == defined
    assert len(defined) > 10


@pytest.mark.parametrize("kind", all_kinds())
def test_an_error_travels_whole(kind: type[BatchsegError]) -> None:
    """From a worker in another process to the driver."""
    error = kind("it broke", where="here", expected="one", got="two", todo="try that")
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is kind
        assert str(back) == str(error) == "here: it broke; expected one, got two. Try that"
        assert (back.what, back.where, back.expected, back.got, back.todo) == (
            "it broke",
            "here",
            "one",
            "two",
            "try that",
        )
        assert (back.exit_status, back.retryable) == (kind.exit_status, kind.retryable)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "it broke"),
        ({"where": "a.tif"}, "a.tif: it broke"),
        ({"expected": "3"}, "it broke; expected 3"),
        ({"got": "4"}, "it broke; got 4"),
        ({"expected": "3", "got": "4"}, "it broke; expected 3, got 4"),
        ({"got": ""}, "it broke; got "),
        ({"todo": "`x` it"}, "it broke. `x` it"),
        ({"todo": ""}, "it broke"),
    ],
)
def test_a_message_has_the_parts_it_was_given(parts: dict[str, str], text: str) -> None:
    assert str(BatchsegError("it broke", **parts)) == text


def test_who_has_to_act() -> None:
    """The user (2, before any work or at a damaged file), nobody yet (retried), the user (the same command resumes)."""
    for kind in all_kinds():
        assert kind.retryable == issubclass(kind, TaskError), kind
        by_the_user = issubclass(kind, InputError | BusyError | DamagedError)
        assert kind.exit_status == (2 if by_the_user else 5 if kind is RefusedError else 1), kind
        assert sum(issubclass(kind, branch) for branch in (InputError, TaskError, StoppedError)) <= 1, kind


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("band\nbatchseg: complete", "band batchseg: complete"),
        ("band\r\nok", "band  ok"),
        ("\x1b[2K\x1b[1Aok", "\\x1b[2K\\x1b[1Aok"),
        ("a\x85b\u2028c", "a b c"),
        ("tab\there", "tab here"),
        ("bell\a", "bell\\x07"),
    ],
)
def test_text_of_a_file_cannot_forge_a_line(text: str, line: str) -> None:
    error = BatchsegError(text, where=text, got=text)
    assert str(error) == f"{line}: {line}; got {line}"
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("unit", ["x", "a://", "/vsi", "é", "?a=b ", "X-Amz-"])
def test_a_long_value_is_cut_in_no_time(unit: str) -> None:
    begun_s = time.monotonic()
    assert len(str(BatchsegError("wrong value", got=unit * 10**6))) < 3000
    assert time.monotonic() - begun_s < 5


def test_a_secret_at_the_cut_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary" * 10)
    for length in range(0, 3 * errors.MAX_PART_LENGTH, 7):
        assert "canarycanary" not in str(BatchsegError(" " * length + "canary" * 10 + " " * 9000))
