"""One driver a run, whoever dies and whoever comes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from batchseg.errors import BusyError, DamagedError
from batchseg.json_values import put_value, to_json
from batchseg.ledger.lease import PATIENCE_S, SETTLE_S, Lease
from batchseg.ledger.sessions import count_wall_s, read_holder, read_sessions
from batchseg.paths import LEASE_KEY
from batchseg.store import LocalStore
from batchseg.workers.heartbeat import Heartbeat
from tests.batchseg.ledger.ledger_records import session_of
from tests.sealed_files import change_sealed, read_sealed


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "out")


@dataclass(slots=True)
class Sleep:
    """Sleeps no second, and lets something happen in each sleep."""

    happens: Callable[[], None] = lambda: None
    slept_s: float = 0.0
    calls: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.slept_s += seconds
        self.calls.append(seconds)
        self.happens()


def holder(store: LocalStore) -> dict[str, Any]:
    return read_sealed(store.root, LEASE_KEY)


def rewrite(store: LocalStore, **facts: object) -> None:
    change_sealed(store.root, LEASE_KEY, **facts)


def claimed(store: LocalStore, name: str, sleep: Sleep | None = None) -> Lease:
    lease = Lease(store, name=name)
    lease.acquire(sleep=sleep or Sleep())
    return lease


def test_the_first_one_holds_at_once(store: LocalStore) -> None:
    sleep = Sleep()
    lease = claimed(store, "one", sleep)
    assert (lease.took_over, sleep.calls) == (None, [SETTLE_S])
    found = holder(store)
    assert (found["name"], found["pid"], found["host"], found["ended"]) == ("one", os.getpid(), platform.node(), False)


def test_after_a_release_nobody_has_to_wait(store: LocalStore) -> None:
    claimed(store, "one").release()
    assert holder(store)["ended"]
    sleep = Sleep()
    assert claimed(store, "two", sleep).took_over is None
    assert sleep.calls == [SETTLE_S]


def test_of_many_newcomers_at_once_one_holds(store: LocalStore) -> None:
    claimed(store, "before").release()
    start = threading.Barrier(8)

    def come(number: int) -> str | None:
        lease = Lease(store, name=f"newcomer {number}")
        start.wait()
        try:
            lease.acquire()
        except BusyError:
            return None
        return lease.name

    with ThreadPoolExecutor(8) as threads:
        held = [name for name in threads.map(come, range(8)) if name is not None]
    assert held == [holder(store)["name"]]


def test_a_newcomer_that_died_between_claim_and_word_is_passed_by(store: LocalStore) -> None:
    claimed(store, "one").release()
    store.put("run/claims/one.json", b"{}")
    sleep = Sleep()
    claimed(store, "two", sleep)
    assert sleep.slept_s >= PATIENCE_S
    assert holder(store)["name"] == "two"


def test_a_dead_process_of_this_host_is_replaced_at_once(store: LocalStore) -> None:
    claimed(store, "one")
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    begun_unix_s = psutil.Process(process.pid).create_time()
    process.wait()
    rewrite(store, pid=process.pid, process_begun_unix_s=begun_unix_s)
    sleep = Sleep()
    assert claimed(store, "two", sleep).took_over == f"process {process.pid} on {platform.node()}"
    assert sleep.calls == [SETTLE_S]
    assert holder(store)["name"] == "two"


def test_a_process_that_ended_but_was_not_waited_for_is_dead(store: LocalStore) -> None:
    claimed(store, "one")
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    zombie = psutil.Process(process.pid)
    rewrite(store, pid=process.pid, process_begun_unix_s=zombie.create_time())
    while zombie.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    sleep = Sleep()
    assert claimed(store, "two", sleep).took_over is not None
    assert sleep.calls == [SETTLE_S]
    process.wait()


def test_a_number_that_was_given_to_another_process_is_not_the_old_one(store: LocalStore) -> None:
    claimed(store, "one")
    rewrite(store, process_begun_unix_s=psutil.Process().create_time() - 3600)
    sleep = Sleep()
    assert claimed(store, "two", sleep).took_over == f"process {os.getpid()} on {platform.node()}"
    assert sleep.calls == [SETTLE_S]


@pytest.mark.parametrize("where", ["another host", "this host"])
def test_a_holder_that_stands_still_is_replaced_after_the_patience(store: LocalStore, where: str) -> None:
    claimed(store, "one")
    host = platform.node() if where == "this host" else "far-away"
    rewrite(store, host=host, pid=os.getpid() if where == "this host" else 999_999_999)
    sleep = Sleep()
    lease = claimed(store, "two", sleep)
    assert lease.took_over == f"process {holder(store)['pid'] if where == 'this host' else 999_999_999} on {host}"
    assert sleep.slept_s == pytest.approx(12.0 + SETTLE_S)


@pytest.mark.parametrize("host", [platform.node(), "far-away"])
def test_a_holder_that_beats_is_left_alone(store: LocalStore, host: str) -> None:
    first = claimed(store, "one")
    rewrite(store, host=host)
    sleep = Sleep(happens=lambda: rewrite(store, beat_unix_s=holder(store)["beat_unix_s"] + 5))
    with pytest.raises(BusyError, match=f"process {os.getpid()} on {host} is running") as caught:
        Lease(store, name="two").acquire(sleep=sleep)
    assert caught.value.exit_status == 2
    assert sleep.slept_s <= 1.0
    assert holder(store)["name"] == "one"
    first.renew()


def test_a_holder_that_ends_while_it_is_watched_is_not_taken_over(store: LocalStore) -> None:
    first = claimed(store, "one")
    assert claimed(store, "two", Sleep(happens=first.release)).took_over is None
    assert holder(store)["name"] == "two"


def test_another_newcomer_who_takes_over_first_is_left_alone(store: LocalStore) -> None:
    claimed(store, "one")
    sleep = Sleep(happens=lambda: rewrite(store, name="three", beat_unix_s=time.time()))
    with pytest.raises(BusyError):
        Lease(store, name="two").acquire(sleep=sleep)


def test_of_two_who_claim_at_the_same_moment_one_stays(store: LocalStore) -> None:
    """Two nightly jobs that begin in the same second: both find no holder, and the second writes over the first."""
    second = Lease(store, name="two")

    def claims_too() -> None:
        second._write(ended=False)

    with pytest.raises(BusyError, match="another driver has taken this run over"):
        Lease(store, name="one").acquire(sleep=Sleep(happens=claims_too))
    second.renew()


def test_a_holder_that_was_replaced_while_it_stood_still_stops_and_leaves_the_new_one_alone(store: LocalStore) -> None:
    first = claimed(store, "one")
    rewrite(store, host="far-away")
    second = claimed(store, "two")
    with pytest.raises(BusyError, match="another driver has taken this run over"):
        first.renew()
    first.release()
    assert (holder(store)["name"], holder(store)["ended"]) == ("two", False)
    second.renew()


def test_a_folder_that_is_gone_has_no_holder(store: LocalStore) -> None:
    lease = claimed(store, "one")
    store.delete(LEASE_KEY)
    with pytest.raises(BusyError):
        lease.renew()
    lease.release()
    with pytest.raises(FileNotFoundError):
        store.get(LEASE_KEY)


def test_a_torn_file_is_no_free_folder(store: LocalStore) -> None:
    store.put(LEASE_KEY, b"")
    with pytest.raises(DamagedError, match=r"run/driver\.json"):
        Lease(store).acquire(sleep=Sleep())


def test_the_wall_time_of_a_run_is_that_of_all_its_drivers(store: LocalStore) -> None:
    assert count_wall_s(store) == 0
    for name, begun, beat in (("one", 100.0, 160.0), ("two", 500.0, 507.5)):
        put_value(store, f"run/sessions/{name}.json", session_of(name, begun, beat))
    assert count_wall_s(store) == 67.5


def test_a_beat_moves_the_wall_time_on(store: LocalStore) -> None:
    lease = claimed(store, "one")
    lease.begun = replace(lease.begun, unix_s=lease.begun.unix_s - 1000, steady_s=lease.begun.steady_s - 1000)
    lease.renew()
    assert count_wall_s(store) == pytest.approx(1000, abs=5)


def test_a_session_keeps_the_price_that_its_head_node_had(store: LocalStore) -> None:
    for name, price in (("one", 2.0), ("two", 0.0)):
        lease = Lease(store, head_usd_per_hour=price, name=name)
        lease.acquire(sleep=Sleep())
        lease.release()
    assert [session.head_usd_per_hour for session in read_sessions(store)] == [2.0, 0.0]
    holder = read_holder(store)
    assert holder is not None
    assert (holder.name, holder.ended) == ("two", True)


def test_a_session_of_an_earlier_version_has_no_price(store: LocalStore) -> None:
    content = json.loads(to_json(session_of("old", 0.0, 3.5)))
    del content["head_usd_per_hour"]
    store.put("run/sessions/old.json", json.dumps(content).encode())
    (session,) = read_sessions(store)
    assert (session.head_usd_per_hour, session.seconds) == (None, 3.5)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no JSON"),
        (b"[]", "mapping"),
        (b'{"name": 3}', "wrong value"),
        (b'{"nam": 3}', "unknown key"),
    ],
)
def test_a_damaged_session_is_an_error_with_a_remedy(store: LocalStore, content: bytes, problem: str) -> None:
    store.put("run/sessions/one.json", content)
    with pytest.raises(DamagedError, match=r"run/sessions/one\.json.*Remove it") as caught:
        read_sessions(store)
    assert problem in str(caught.value)


def test_a_heartbeat_beats_until_its_end() -> None:
    beats: list[float] = []
    with Heartbeat(lambda: beats.append(time.monotonic()), every_s=0.01) as heartbeat:
        while len(beats) < 3:
            time.sleep(0.005)
        heartbeat.check()
    num_beats = len(beats)
    time.sleep(0.05)
    assert len(beats) == num_beats


def test_a_beat_that_has_begun_ends_before_its_heartbeat_does() -> None:
    begun, ended = threading.Event(), threading.Event()

    def beat() -> None:
        begun.set()
        time.sleep(0.05)
        ended.set()

    with Heartbeat(beat, every_s=0.001):
        assert begun.wait(10)
    assert ended.is_set()


def test_what_a_beat_raises_comes_out_in_the_thread_that_asked_for_it() -> None:
    failed = threading.Event()

    def beat() -> None:
        failed.set()
        raise BusyError("replaced")

    with pytest.raises(BusyError), Heartbeat(beat, every_s=0.001):
        assert failed.wait(10)
    failed.clear()
    with pytest.raises(BusyError), Heartbeat(beat, every_s=0.001) as heartbeat:
        check_often(heartbeat)
    failed.clear()
    with pytest.raises(ZeroDivisionError), Heartbeat(beat, every_s=0.001):
        assert 1 / (not failed.wait(10))  # the error of the work itself goes first


def check_often(heartbeat: Heartbeat) -> None:
    for _ in range(5000):
        heartbeat.check()
        time.sleep(0.001)
