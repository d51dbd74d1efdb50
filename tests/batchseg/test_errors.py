from __future__ import annotations

import copy
import pickle

import pytest

from batchseg import errors
from batchseg.errors import BatchsegError, BusyError, InputError, RefusedError, StoppedError, TaskError


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
    """The user (2, before any work), nobody yet (tried again), whoever runs it (the same command resumes)."""
    for kind in all_kinds():
        assert kind.retryable == issubclass(kind, TaskError), kind
        by_the_user = issubclass(kind, InputError | BusyError)
        assert kind.exit_status == (2 if by_the_user else 5 if kind is RefusedError else 1), kind
        assert sum(issubclass(kind, branch) for branch in (InputError, TaskError, StoppedError)) <= 1, kind
