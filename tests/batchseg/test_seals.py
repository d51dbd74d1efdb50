"""Seals: whatever happens to a sealed file, it is not read as something else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchseg.errors import DamagedError
from batchseg.json_values import parse_value, put_sealed, put_value, read_value, seal_value
from batchseg.seals import is_seal_broken, split_seal
from batchseg.store import LocalStore

KEY = "run/exit.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    exit_status: int
    why: str
    notes: tuple[str, ...] = ()


ENDED = Ended(exit_status=3, why='é "quoted"\n}', notes=("a", "b"))
SEALED = seal_value(KEY, ENDED)


def test_a_sealed_file_is_json_with_one_more_key_at_its_end() -> None:
    content = json.loads(SEALED)
    assert list(content) == ["exit_status", "why", "notes", "digest"]
    assert SEALED.endswith(f' "digest": "{content["digest"]}"\n}}'.encode())
    assert len(content["digest"]) == 32
    assert not is_seal_broken(SEALED, KEY)
    assert split_seal(SEALED)[0] == split_seal(split_seal(SEALED)[0])[0]


def test_what_was_sealed_is_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put_sealed(store, KEY, ENDED)
    assert read_value(store, KEY, Ended) == ENDED


def test_files_of_runs_before_there_were_seals_are_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put_value(store, KEY, ENDED)
    assert split_seal(store.get(KEY))[1] is None
    assert read_value(store, KEY, Ended) == ENDED


@pytest.mark.parametrize("bit", [0, 3, 5])
def test_no_flipped_bit_is_read(bit: int) -> None:
    for place in range(len(SEALED)):
        flipped = bytearray(SEALED)
        flipped[place] ^= 1 << bit
        with pytest.raises(DamagedError, match=r"run/exit\.json: this file does not hold") as caught:
            parse_value(bytes(flipped), Ended, where=KEY)
        assert caught.value.got is not None
        assert "unknown key" not in caught.value.got, "that would mean another version"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        SEALED[: len(SEALED) // 2],
        SEALED[:-1],
        SEALED + b"\n",
        SEALED + SEALED,
        b" " + SEALED,
        json.dumps(json.loads(SEALED)).encode(),
        json.dumps(json.loads(SEALED), indent=1, sort_keys=True).encode(),
        SEALED.replace(b": 3", b": 0"),
        SEALED.replace(b'"digest"', b'"Digest"'),
    ],
)
def test_no_other_change_is_read(content: bytes) -> None:
    with pytest.raises(DamagedError):
        parse_value(content, Ended, where=KEY)


def test_a_file_under_the_name_of_another_is_not_read() -> None:
    other = seal_value("run/exit-of-another.json", ENDED)
    with pytest.raises(DamagedError, match="its digest is not that of its content"):
        parse_value(other, Ended, where=KEY)
