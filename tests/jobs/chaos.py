"""A real cluster of several raylets on this machine, a real driver process on it, and the means to hurt both.

`make chaos` (python -m tests.jobs.chaos [--seed S] [--rounds N]) hurts a run at random for as long as it is asked to,
and prints its seed; tests/jobs/test_chaos.py has each injury on its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import yaml

from batchseg.engine.segment import Model
from batchseg.ledger.ledger import Ledger
from batchseg.recipe import load_fleet
from batchseg.resolve.job import Job
from batchseg.runs.session import run
from batchseg.store import LocalStore
from batchseg.tiers import Tier
from batchseg.workers.worker import WorkerSpec
from tests.jobs.ec2 import Ec2
from tests.jobs.test_ray import place_of
from tests.runs import Workplace, fake_models, product_bytes

ROOT = Path(__file__).resolve().parents[2]
QUICK_DEATHS = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3",
}
"""So that a test need not wait a minute for what a cluster should wait a minute for. A raylet that is gone refuses to
be asked, at once; one that only has no processor for a while gets three seconds for its answer.
"""
PATIENCE_S = 240.0
"""Only to end what hangs: a machine that is busy with other things takes four times as long."""
NUM_CHUNKS = 46


@dataclass(frozen=True, slots=True)
class Misdeeds:
    """What the models do besides their work; files in `folder` tell and are told."""

    folder: str
    batch_s: float = 0.3

    @property
    def pids(self) -> Path:
        return Path(self.folder) / "pids"


class EvilSegmenter:
    def __init__(self, inner: Any, misdeeds: Misdeeds) -> None:
        self._inner, self._misdeeds, self.batch = inner, misdeeds, inner.batch

    def __call__(self, x_NBHW: Any, /) -> Any:
        folder = Path(self._misdeeds.folder)
        (self._misdeeds.pids / str(os.getpid())).touch()
        if (x_NBHW == 255).any() and (folder / "poison").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        hang = folder / "hang"
        if hang.exists():
            hang.unlink(missing_ok=True)
            time.sleep(3600)
        time.sleep(self._misdeeds.batch_s)
        return self._inner(x_NBHW)


def evil_models(job: Job, spec: WorkerSpec, misdeeds: Misdeeds) -> tuple[dict[Tier, Model], dict[str, str]]:
    models, environment = fake_models(job, spec)
    evil = {tier: Model(EvilSegmenter(m.segmenter, misdeeds), m.halo_px, m.class_ids) for tier, m in models.items()}
    return evil, environment


def drive(folder: Path, output: Path) -> int:
    """What the driver process does."""
    from batchseg.runs.drive import Stop
    from batchseg.runs.session import Options
    from jobs.cluster.pool import open_ray_pool
    from jobs.terminal.signals import stop_on_signals

    fleet, stop = load_fleet(folder / "fleet.yaml"), Stop()
    models = partial(evil_models, misdeeds=Misdeeds(str(folder)))
    with stop_on_signals(stop):
        recipe = place_of(folder).recipe(output=str(output))
        return run(
            recipe, fleet, open_pool=partial(open_ray_pool, open_models=models), options=Options(stop=stop)
        ).exit_status


@dataclass(slots=True)
class Nodes:
    """A head that does no work, and raylets that do."""

    cluster: Any
    raylets: dict[str, Any] = field(default_factory=dict)

    def add(self) -> str:
        """Returns when the node is known to all, which may be later than its first worker."""
        node = self.cluster.add_node(num_cpus=1, resources={"spot": 1})
        self.raylets[node.node_id] = node
        return str(node.node_id)

    def kill(self, node: str) -> None:
        """SIGKILL of the raylet; its workers follow it by themselves, as they do when a machine is gone."""
        _kill(self.raylets.pop(node).all_processes["raylet"][0].process)

    def kill_head(self) -> None:
        for infos in self.cluster.head_node.all_processes.values():
            for info in infos:
                _kill(info.process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """And take its exit status: workers ask the kernel for their raylet, which counts a zombie as alive."""
    process.kill()
    process.wait()


@contextmanager
def nodes(num: int) -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in (*QUICK_DEATHS, "PYTHONPATH")}
    os.environ.update(QUICK_DEATHS, PYTHONPATH=str(ROOT))
    try:
        made = Nodes(Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}))
        for _ in range(num):
            made.add()
        yield made
    finally:
        made.cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@dataclass(slots=True)
class Trial:
    """One output, and the driver that works on it."""

    folder: Path
    address: str
    driver: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, folder: Path, address: str, **fleet: Any) -> Trial:
        folder.mkdir(exist_ok=True, parents=True)
        (folder / "pids").mkdir(exist_ok=True)
        place_of(folder)
        pool = {"name": "spot", "workers": 3, "cpus": 1, "resources": {"spot": 1}, "usd_per_hour": 1.0}
        (folder / "fleet.yaml").write_text(yaml.safe_dump({"pools": [pool], **fleet}))
        return cls(folder, address)

    @property
    def output(self) -> Path:
        return self.folder / "ray"

    def begin(self) -> None:
        command = [sys.executable, "-m", "tests.jobs.chaos", "--drive", str(self.folder)]
        environment = os.environ | {"RAY_ADDRESS": self.address}
        with (self.folder / "driver.txt").open("ab") as log:
            self.driver = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        assert self.driver is not None
        try:
            return self.driver.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.leave()
            raise AssertionError(f"the driver does not end: {self.said()}") from None

    def leave(self) -> None:
        """No driver outlives the trial, however that ended."""
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()

    def said(self) -> str:
        log = self.output / "run" / "log.jsonl"
        return (self.folder / "driver.txt").read_text()[-3000:] + (log.read_text()[-3000:] if log.exists() else "")

    def events(self, kind: str) -> list[dict[str, Any]]:
        log = self.output / "run" / "log.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def until(self, what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            found = what()
            if found:
                return found
            if self.driver is not None and self.driver.poll() is not None:
                raise AssertionError(f"the driver ended too early: {self.said()}")
            time.sleep(0.1)
        raise AssertionError(f"this never came: {self.said()}")

    def until_committed(self, num: int) -> None:
        self.until(lambda: len(self.events("chunk_committed")) >= num)

    def workers(self) -> list[int]:
        """Processes that work for this run and live."""
        pids = [int(path.name) for path in (self.folder / "pids").iterdir()]
        return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]

    def check(self, clean: Workplace, *, given_up: int = 0) -> None:
        """The bytes of a clean run, every chunk once, and nobody left."""
        assert product_bytes(self.output) == product_bytes(clean.output)
        records = [str(record.key) for record in Ledger(LocalStore(self.output)).read_records()]
        assert len(records) == len(set(records)) == NUM_CHUNKS - given_up
        committed = Counter(event["task"] for event in self.events("chunk_committed"))
        assert set(committed) <= set(records)
        ours, theirs = (json.loads((at / "metrics.json").read_text()) for at in (self.output, clean.output))
        for key in ("valid_px", "class_px", "tiles", "chunks", "area_km2"):
            assert ours[key] == theirs[key], key
        self.until_nobody()

    def until_nobody(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while self.workers() and time.monotonic() < deadline_s:
            time.sleep(0.2)
        assert not self.workers(), f"workers outlive their run: {[_described(pid) for pid in self.workers()]}"


def _described(pid: int) -> str:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return f"{pid} {process.status()} of {process.ppid()}: {' '.join(process.cmdline())[:80]}"
    return f"{pid} ended just now"


def clean_run(folder: Path) -> Workplace:
    folder.mkdir(parents=True, exist_ok=True)
    place = place_of(folder)
    assert place.run().exit_status == 0
    return place


def rampage(seed: int, rounds: int) -> None:
    """Hurt runs at random until each has ended."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as base:
        clean = clean_run(Path(base) / "clean")
        for number in range(rounds):
            print(f"round {number} of seed {seed}", flush=True)
            one_round(dice, Path(base) / f"round{number}", clean)


def one_round(dice: random.Random, folder: Path, clean: Workplace) -> None:
    ec2 = Ec2()
    with nodes(2) as at:
        patience = {"least_s": 5.0, "times_median": 5.0}
        trial = Trial.of(folder, at.cluster.address, patience=patience, ec2_notice=ec2.endpoint)
        trial.begin()
        for _ in range(40):
            time.sleep(dice.uniform(0.5, 4.0))
            if trial.driver is not None and trial.driver.poll() is not None:
                if trial.driver.returncode == 0:
                    break
                trial.begin()
            hurt(dice, trial, at, ec2)
        else:
            while trial.end(300):
                trial.begin()
        trial.check(clean)
    ec2.close()


def hurt(dice: random.Random, trial: Trial, at: Nodes, ec2: Ec2) -> None:
    deed = dice.choice(["actor", "raylet", "driver", "node", "node", "hang", "notice", "nothing"])
    print(f"  {deed}", flush=True)
    if deed == "actor" and trial.workers():
        os.kill(dice.choice(trial.workers()), signal.SIGKILL)
    elif deed == "raylet" and len(at.raylets) > 1:
        at.kill(dice.choice(sorted(at.raylets)))
    elif deed == "driver" and trial.driver is not None:
        trial.driver.kill()
    elif deed == "node" and len(at.raylets) < 3:
        at.add()
    elif deed == "hang":
        (trial.folder / "hang").touch()
    elif deed == "notice":
        ec2.notices_to_give, ec2.notice_s = 1, dice.uniform(1, 30)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drive is not None:
        return drive(args.drive, args.drive / "ray")
    rampage(args.seed, args.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
