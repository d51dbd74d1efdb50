"""Every injury that a run on a cluster can take, one at a time, on real raylets; the output is that of a clean run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.jobs.chaos import Nodes, Trial, clean_run, nodes
from tests.jobs.ec2 import Ec2
from tests.jobs.test_ray import PoisonSegmenter, place_of
from tests.runs import Workplace, fake_models

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("default")]

Trials = Callable[..., Trial]


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Workplace:
    return clean_run(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def at():
    with nodes(2) as made:
        yield made


@pytest.fixture
def trial_of(tmp_path) -> Iterator[Trials]:
    trials: list[Trial] = []

    def begun_later(address: str, **fleet: Any) -> Trial:
        trials.append(Trial.of(tmp_path, address, **fleet))
        return trials[-1]

    yield begun_later
    for trial in trials:
        trial.leave()


def test_kill_9_of_an_actor_and_of_a_raylet_and_a_node_that_joins_late(at: Nodes, clean: Workplace, trial_of: Trials):
    trial = trial_of(at.cluster.address)
    trial.begin()
    trial.until_committed(3)
    # On a busy machine the two that have a place may not have got to it either when this is first said.
    assert " of pool spot wait for 1 CPU, 1 spot" in trial.until(lambda: trial.events("unplaced"))[0]["why"]
    os.kill(trial.until(trial.workers)[0], signal.SIGKILL)
    dead = {event["worker"] for event in trial.until(lambda: trial.events("worker_lost"))}
    # Where somebody is at work: the place of who has just died may still be free.
    killed = next(event["node"] for event in trial.events("worker_placed") if event["worker"] not in dead)
    at.kill(killed)
    new = at.add()
    trial.until(lambda: [e for e in trial.events("worker_placed") if e["node"] == new])  # while there is work
    assert trial.end() == 0
    trial.check(clean)
    losses = trial.events("worker_lost")
    homes = {event["worker"]: event["node"] for event in trial.events("worker_placed")}
    assert len(losses) >= 2, "the actor's and the raylet's"
    # How many more Ray tries to start on the raylet that is gone, before it knows, is its own affair.
    others = [loss for loss in losses[1:] if homes.get(loss["worker"], killed) != killed]
    assert not others, "but for the actor, only the raylet's and those that were being placed there"
    assert sum(bool(loss["held"]) for loss in losses) <= 2, "those cost nothing"
    assert {loss["what"] for loss in losses} == {"preemption"}
    assert all(len(loss["held"]) <= 2 for loss in losses), "only the chunks in hand"
    metrics = json.loads((trial.output / "metrics.json").read_text())
    assert metrics["cost"]["waste"] >= 0
    assert 1 <= metrics["workers"]["lost"] <= len(losses), "one that died before it was ready has told nobody of itself"


def test_a_notice_stops_feeding_and_lets_the_chunk_in_hand_finish_before_the_node_dies(
    at: Nodes, clean: Workplace, trial_of: Trials
):
    ec2 = Ec2()
    trial = trial_of(at.cluster.address, ec2_notice=ec2.endpoint)
    trial.begin()
    trial.until_committed(3)
    ec2.notices_to_give = 1
    node = trial.until(lambda: trial.events("spot_notice"))[0]["node"]
    draining = trial.until(lambda: trial.events("worker_draining"))
    worker = draining[0]["worker"]
    trial.until(lambda: [e for e in trial.events("worker_retired") if e["worker"] == worker])
    at.kill(node)
    at.add()
    assert trial.end() == 0
    trial.check(clean)
    assert not trial.events("worker_lost"), "it was told in time, so nothing was lost"
    later = [e for e in trial.events("chunk_committed") if e["worker"] == worker]
    assert all(e["unix_s"] < draining[0]["unix_s"] + 10 for e in later)
    ec2.close()


def test_a_worker_that_hangs_is_ended_with_its_story_and_its_chunk_given_away(
    at: Nodes, clean: Workplace, tmp_path: Path, trial_of: Trials
):
    trial = trial_of(at.cluster.address, patience={"least_s": 2.0, "times_median": 3.0})
    trial.begin()
    trial.until_committed(12)
    (tmp_path / "hang").touch()
    assert trial.end() == 0
    trial.check(clean)
    (late,) = trial.events("worker_late")
    assert "where its peers need" in late["why"]
    (loss,) = trial.events("worker_lost")
    assert (loss["worker"], loss["what"], loss["blamed"]) == (late["worker"], "failure", late["task"])


def test_a_worker_that_hangs_before_any_chunk_is_done_is_ended_too(
    at: Nodes, clean: Workplace, tmp_path: Path, trial_of: Trials
):
    """No peer says how long a chunk takes, so the deadline counts."""
    trial = trial_of(at.cluster.address, patience={"most_s": 20.0})
    (tmp_path / "hang").touch()
    trial.begin()
    assert trial.end() == 0
    trial.check(clean)
    assert "the deadline is 20 s (`patience: most_s`)" in trial.events("worker_late")[0]["why"]


def test_one_signal_ends_a_run_although_a_worker_hangs(at: Nodes, clean: Workplace, tmp_path: Path, trial_of: Trials):
    trial = trial_of(at.cluster.address, patience={"stop_s": 2.0})
    trial.begin()
    trial.until_committed(6)
    (tmp_path / "hang").touch()
    trial.until(lambda: not (tmp_path / "hang").exists())
    assert trial.driver is not None
    trial.driver.send_signal(signal.SIGTERM)
    assert trial.end() == 143
    assert "did not end within 2 s" in trial.events("stopping")[1]["why"]
    trial.until_nobody()
    trial.begin()
    assert trial.end() == 0
    trial.check(clean)


def test_kill_9_of_the_driver_and_the_same_command_again(at: Nodes, clean: Workplace, trial_of: Trials):
    trial = trial_of(at.cluster.address)
    trial.begin()
    trial.until_committed(10)
    assert trial.driver is not None
    trial.driver.kill()
    trial.driver.wait()
    trial.begin()
    assert trial.end() == 0
    trial.check(clean)
    assert trial.events("begun")[1]["took_over"]
    committed = [event["task"] for event in trial.events("chunk_committed")]
    assert len(committed) - len(set(committed)) <= 4, "at most the chunks in hand twice"


def test_a_chunk_that_kills_every_worker_is_given_up_alone(at: Nodes, tmp_path: Path, trial_of: Trials):
    trial = trial_of(at.cluster.address, retries={"failures": 3, "preemptions": 3})
    with rasterio.open(tmp_path / "scene0.tif", "r+") as scene:
        scene.write(np.full((3, 1, 1), 255, np.uint8), window=((112, 113), (112, 113)))
    (tmp_path / "poison").touch()
    trial.begin()
    assert trial.end() == 3, trial.said()
    (given_up,) = trial.events("quarantined")
    assert given_up["task"] == "scene0/3_3"
    assert len(given_up["story"]) == 3
    trial.check(poisoned_in_process(tmp_path), given_up=1)


def poisoned_in_process(folder: Path) -> Workplace:
    """The same scenes in this process, where the poison raises instead of killing."""
    from batchseg.engine.segment import Model
    from batchseg.runs.session import run
    from batchseg.workers.pool import DEPTH, LocalPool
    from batchseg.workers.worker import Worker, WorkerSpec

    def models(job, spec):
        quick, environment = fake_models(job, spec)
        return {tier: Model(PoisonSegmenter(m.segmenter), m.halo_px, m.class_ids) for tier, m in quick.items()}, (
            environment
        )

    def pool(job, store, fleet):
        spec = WorkerSpec.new(pool="here", device="cpu", usd_per_hour=0.0)
        return LocalPool(lambda: Worker(spec, job, store, models).open(), depth=DEPTH)

    place = place_of(folder)
    assert run(place.recipe(), open_pool=pool).exit_status == 3
    return place


def test_the_head_dies_and_the_same_command_goes_on_on_another_cluster(clean: Workplace, trial_of: Trials):
    with nodes(1) as first:
        trial = trial_of(first.cluster.address)
        trial.begin()
        trial.until_committed(5)
        first.kill_head()
        assert trial.end() != 0, "without its head a driver cannot go on"
    with nodes(2) as second:
        trial.address = second.cluster.address
        trial.begin()
        assert trial.end() == 0
        trial.check(clean)
    committed = [event["task"] for event in trial.events("chunk_committed")]
    assert len(committed) - len(set(committed)) <= 2
