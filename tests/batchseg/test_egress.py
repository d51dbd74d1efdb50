"""Text, JSON and errors lose their credentials on the way out, and nothing else."""

from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchseg.egress import encode_json, encode_text, format_json, redact_errors, write_text
from batchseg.errors import InputError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet='aé"\\\n/ ._', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet="ab_", max_size=4), inner, max_size=3),
)


@given(VALUES, st.sampled_from([None, 1]), st.booleans(), st.booleans())
def test_innocent_json_is_what_the_library_writes(
    value: object, indent: int | None, sort: bool, ascii_only: bool
) -> None:
    expected = json.dumps(value, indent=indent, sort_keys=sort, ensure_ascii=ascii_only)
    assert format_json(value, indent=indent, sort_keys=sort, ascii_only=ascii_only) == expected
    assert (
        encode_json(value, indent=indent, sort_keys=sort) == json.dumps(value, indent=indent, sort_keys=sort).encode()
    )


HELD = [
    "https://user:CANARY@host/x",
    'said "https://h/x?sig=CANARY" twice',
    "Authorization: Bearer CANARY",
    "Authorization\t:\tBearer CANARY",
    '{"SecretAccessKey" : "CANARY"}',
    "{'token': 'CANARY'}",
    'the CANARY0123"é of the environment',
    "Bearer CANARY0123456",
    "AKIACANARY0123456789",
]


@pytest.mark.parametrize("text", HELD, ids=range(len(HELD)))
@pytest.mark.parametrize("compact", [False, True])
def test_texts_in_json_are_redacted_wherever_they_stand(
    text: str, compact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a value, in a list, as a key, and behind a picture, before quotes and letters are escaped."""
    monkeypatch.setenv("AZURE_CLIENT_SECRET", 'CANARY0123"é')
    picture = "data:image/png;base64,eyJ+a/=="
    for ascii_only in (True, False):
        content = format_json({"a": [1, text, picture], text: {"b": text}}, compact=compact, ascii_only=ascii_only)
        assert "CANARY" not in content
        assert json.loads(content)["a"][0::2] == [1, picture]


def test_files_of_text(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "https://user:CANARY@host/é\n")
    assert (
        (tmp_path / "a.txt").read_bytes()
        == encode_text("https://user:CANARY@host/é\n")
        == "https://***@host/é\n".encode()
    )


class LibraryError(Exception):
    """As an HTTP client raises it: its text is made of what it holds."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def __str__(self) -> str:
        return f"403, url={self.url!r}"


SECRET = "CAN" + "ARY"
"""A traceback shows lines of this file, and none of them may look like a leak."""
ADDRESS = f"/vsicurl/https://host/x?sig={SECRET}"


def fail_in_library(depth: int) -> None:
    try:
        if depth:
            fail_in_library(depth - 1)
        fail_in_client()
    except LibraryError as error:
        raise OSError(2, "no such file", ADDRESS) from error


def fail_in_client() -> None:
    raise LibraryError(ADDRESS)


def refuse() -> None:
    try:
        fail_in_library(2)
    except OSError as error:
        raise InputError("the scene cannot be read", where="scene.tif") from error


def refuse_without_a_cause() -> None:
    try:
        fail_in_library(0)
    except OSError:
        raise InputError("the scene cannot be read") from None


def break_down() -> None:
    raise RuntimeError(f"Authorization: Bearer {SECRET}")


def break_down_in_a_group() -> None:
    raise ExceptionGroup("several", [ValueError(f"https://u:{SECRET}@host")])


def break_down_with_a_note() -> None:
    error = ValueError("wrong")
    error.add_note(f"password={SECRET}")
    raise error


@pytest.mark.parametrize(
    "function", [refuse, refuse_without_a_cause, break_down, break_down_in_a_group, break_down_with_a_note]
)
def test_a_traceback_shows_no_credential(function: object) -> None:
    """Neither of the error itself nor of what led to it; the names of classes and the places stay."""
    with pytest.raises((InputError, RuntimeError)) as caught:
        redact_errors(function)()  # type: ignore[arg-type]
    error: BaseException | None = caught.value
    told = "".join(traceback.format_exception(error))
    assert SECRET not in told
    assert function.__name__ in told  # type: ignore[attr-defined]
    while error is not None:
        assert SECRET not in str(error)
        error = error.__context__


def fail_innocently() -> None:
    try:
        _ = {}["scene"]
    except KeyError as error:
        raise ValueError("wrong") from error


def test_errors_without_credentials_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match="wrong") as caught:
        redact_errors(fail_innocently)()
    assert isinstance(caught.value.__cause__, KeyError)
