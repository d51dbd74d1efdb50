"""run/log.jsonl: half a line, from whatever cause, costs itself and no other line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from batchseg.runs.log import EventLog, FileLines, read_log
from batchseg.store import LocalStore
from batchseg.workers.happenings import RunEnded

TORN = {
    "a key": '{"unix_s": 17',
    "a text": '{"unix_s": 17.5, "event": "task_failed", "error": "no ro',
    "all but the newline": '{"unix_s": 17.5, "event": "ended", "exit_status": 0, "why": "complete"}',
    "one sign": "{",
    "half a letter": b'{"unix_s": 17.5, "event": "ended", "why": "caf\xc3'.decode(errors="surrogateescape"),
    "zeros of a disk that lost power": "\0" * 100,
}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "run").mkdir()
    return LocalStore(tmp_path, durable=False)


def end_session(store: LocalStore, name: str) -> None:
    log = EventLog.open(store, name)
    log.notice(RunEnded(exit_status=0, why=name))
    log.close()


def tear(store: LocalStore, text: str) -> None:
    with (store.root / "run" / "log.jsonl").open("ab") as file:
        file.write(text.encode(errors="surrogateescape"))


def list_whys(store: LocalStore) -> list[object]:
    return [entry.facts["why"] for entry in read_log(store)]


@pytest.mark.parametrize("text", TORN.values(), ids=TORN)
def test_a_torn_line_costs_no_line_of_the_next_session(store: LocalStore, text: str) -> None:
    end_session(store, "first")
    tear(store, text)
    end_session(store, "second")
    is_whole = text.endswith("}")
    assert list_whys(store) == ["first", *(["complete"] if is_whole else []), "second"]
    for events in (None, ("ended",)):
        reader = read_log(store, events=events)
        assert [entry.facts["why"] for entry in reader] == list_whys(store)
        assert reader.num_damaged == (0 if is_whole else 1)


def test_a_line_torn_within_a_session_costs_no_line_of_it(store: LocalStore) -> None:
    """The disk was full for a moment, or the driver that stood still has written its last words."""
    log = EventLog.open(store, "one")
    log.notice(RunEnded(exit_status=0, why="first"))
    tear(store, TORN["a text"])
    log.notice(RunEnded(exit_status=0, why="second"))
    assert list_whys(store) == ["first", "second"]


def test_a_torn_line_at_the_very_begin_and_an_empty_file(store: LocalStore) -> None:
    tear(store, "")
    end_session(store, "first")
    assert (store.root / "run" / "log.jsonl").read_bytes()[:1] == b"{"
    (store.root / "run" / "log.jsonl").write_text("{")
    end_session(store, "second")
    assert list_whys(store) == ["second"]


@pytest.mark.parametrize(
    "line",
    [
        '{"unix_s": 1e999, "event": "ended"}',
        '{"unix_s": NaN, "event": "ended"}',
        '{"unix_s": -1e300, "event": "ended"}',
        f'{{"unix_s": 1{"0" * 400}, "event": "ended"}}',
        f'{{"unix_s": {"9" * 5000}, "event": "ended"}}',
        f'{{"unix_s": 1, "event": "ended", "why": {"[" * 100_000}{"]" * 100_000}}}',
        '{"unix_s": null, "event": "ended"}',
        '{"event": "ended"}',
        '["ended"]',
        '"ended"',
        "17",
    ],
)
def test_a_line_that_no_session_wrote_is_left_out_and_counted(store: LocalStore, line: str) -> None:
    (store.root / "run" / "log.jsonl").write_text(f"{line}\n")
    end_session(store, "ours")
    reader = read_log(store)
    assert [entry.facts["why"] for entry in reader] == ["ours"]
    assert reader.num_damaged == 1


def test_lines_are_appended_in_no_time(tmp_path: Path) -> None:
    lines, started_s = FileLines(tmp_path / "log.jsonl"), time.perf_counter()
    for number in range(2000):
        lines.add(json.dumps({"unix_s": number, "event": "x"}) + "\n")
    assert time.perf_counter() - started_s < 5.0
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2000
