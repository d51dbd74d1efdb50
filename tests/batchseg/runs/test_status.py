"""`batchseg.status`: a value that says how far a run is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from batchseg import status
from batchseg.errors import InputError
from batchseg.ledger.keys import ChunkKey
from batchseg.ledger.ledger import Ledger
from batchseg.runs.status import SceneStatus
from batchseg.store import LocalStore
from tests.runs import Workplace, noise


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setattr("batchseg.ledger.lease.SETTLE_S", 0.0)
    place = Workplace.of(tmp_path, noise(40, 70), noise(20, 20, seed=1))
    assert place.run().exit_status == 0
    return place


def change_driver(place: Workplace, **changes: Any) -> None:
    path = place.output / "run" / "driver.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_finished_run(place: Workplace) -> None:
    run_status = status(place.output)
    assert run_status.scenes == (
        SceneStatus(name="scene0", num_chunks=6, num_committed=6, num_sheets=1),
        SceneStatus(name="scene1", num_chunks=1, num_committed=1, num_sheets=1),
    )
    assert run_status.given_up == {}
    assert run_status.cost_usd > 0
    assert run_status.driver.state == "stopped"


@pytest.mark.parametrize(("silent_s", "state"), [(0.0, "running"), (60.0, "gone")])
def test_a_driver_that_did_not_say_that_it_ended(place: Workplace, silent_s: float, state: str) -> None:
    change_driver(place, ended=False, beat_unix_s=time.time() - silent_s)
    driver = status(place.output).driver
    assert driver.state == state
    assert driver.silent_s == pytest.approx(silent_s, abs=5.0)


def test_tasks_that_were_given_up_come_with_their_story(place: Workplace) -> None:
    task = ChunkKey("scene0", 0, 1)
    Ledger(LocalStore(place.output)).quarantine(task, ("the first attempt failed", "the second failed too"))
    assert status(place.output).given_up == {task: ("the first attempt failed", "the second failed too")}


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the output of a run"):
        status(tmp_path)
