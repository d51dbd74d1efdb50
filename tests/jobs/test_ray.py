"""A real Ray on this machine: the same bytes from any number of workers, killed or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from batchseg.engine.segment import Model
from batchseg.errors import RecipeError
from batchseg.ledger.ledger import Ledger
from batchseg.recipe import Budget, Fleet, Models, PoolSpec, Priority, Recipe, Route
from batchseg.resolve.job import Job
from batchseg.runs.session import Options, Outcome, run
from batchseg.store import LocalStore
from batchseg.tiers import BULK, HEAVY_BY_POLYGONS, HEAVY_BY_UNCERTAINTY, Tier
from batchseg.workers.worker import WorkerSpec
from tests.batchseg.engine.test_route import uncertain
from tests.runs import Workplace, fake_models, noise, product_bytes, write_fake_bundle

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("default")]


class SlowSegmenter:
    """Long enough in hand to be killed there; writes down in whose process it runs."""

    def __init__(self, inner: Any, pids: str) -> None:
        self._inner, self._pids = inner, Path(pids)
        self.batch = inner.batch

    def __call__(self, x_NBHW: Any, /) -> Any:
        (self._pids / str(os.getpid())).touch()
        time.sleep(0.05)
        return self._inner(x_NBHW)


def slow_models(job: Job, spec: WorkerSpec, pids: str) -> tuple[dict[Tier, Model], dict[str, str]]:
    models, environment = fake_models(job, spec)
    slow = {tier: Model(SlowSegmenter(m.segmenter, pids), m.halo_px, m.class_ids) for tier, m in models.items()}
    return slow, environment


@pytest.fixture(scope="module")
def cluster():
    import ray

    ray.init(num_cpus=4, include_dashboard=False, configure_logging=False, log_to_driver=False)
    yield
    ray.shutdown()


def place_of(folder: Path) -> Workplace:
    """Two scenes, two tiers, a priority polygon, some nodata; what is there already is left as it is."""
    first, second = noise(150, 130), noise(70, 200, seed=1)
    first[:, :40, :50] = 0
    if (folder / "priority.geojson").exists():
        return _workplace(folder)
    Workplace.of(folder, first, second)
    ring = [(500_020.0, 4_999_990.0), (500_090.0, 4_999_980.0), (500_060.0, 4_999_930.0), (500_020.0, 4_999_990.0)]
    lons, lats = rasterio.warp.transform("EPSG:32633", "EPSG:4326", *map(list, zip(*ring, strict=True)))
    coordinates = [[list(pair) for pair in zip(lons, lats, strict=True)]]
    polygon = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": coordinates}}
    (folder / "priority.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [polygon]}))
    write_fake_bundle(folder / "bulk")
    write_fake_bundle(folder / "heavy", tier="heavy")
    return _workplace(folder)


def _workplace(folder: Path) -> Workplace:
    models = Models(bulk=str(folder / "bulk"), heavy=str(folder / "heavy"))
    route = Route(priority=(Priority(polygons=str(folder / "priority.geojson")),))
    scenes = (str(folder / "scene0.tif"), str(folder / "scene1.tif"))
    return Workplace(folder, scenes, {"models": models, "route": route})


def run_on_ray(recipe: Recipe, workers: int, open_models: Any, options: Options | None = None) -> Outcome:
    from jobs.cluster.pool import open_ray_pool

    fleet = Fleet(pools=(PoolSpec(workers=workers, cpus=0.5),))
    return run(recipe, fleet, open_pool=partial(open_ray_pool, open_models=open_models), options=options)


def test_one_two_and_three_workers_give_the_bytes_of_the_run_in_process(cluster, tmp_path):
    place = place_of(tmp_path)
    outcome = place.run()
    assert outcome.exit_status == 0
    assert outcome.metrics.tiles.heavy > 0
    clean = product_bytes(place.output)
    for workers in (1, 2, 3):
        output = tmp_path / f"ray{workers}"
        assert run_on_ray(place.recipe(output=str(output)), workers, fake_models).exit_status == 0
        assert product_bytes(output) == clean


def test_routes_by_uncertainty_do_not_depend_on_the_number_of_workers(cluster, tmp_path):
    place = place_of(tmp_path)
    place.changes["route"] = Route(priority=(*place.changes["route"].priority, uncertain()), audit=0.2)
    outcome = place.run()
    codes = {code for r in Ledger(LocalStore(place.output)).read_records() for code in r.measured.tile_codes}
    assert {BULK, HEAVY_BY_POLYGONS, HEAVY_BY_UNCERTAINTY} <= codes
    assert outcome.metrics.audit.tiles > 0
    clean = product_bytes(place.output)
    for workers in (1, 2, 3):
        output = tmp_path / f"ray{workers}"
        found = run_on_ray(place.recipe(output=str(output)), workers, fake_models)
        assert found.exit_status == 0
        assert product_bytes(output) == clean
        assert found.metrics.audit == outcome.metrics.audit


def test_a_pilot_runs_where_the_workers_do_and_gives_the_same_route(cluster, tmp_path):
    """And is done again where its process dies; only what can be said in a line ends it."""
    from jobs.cluster.pilot import send_pilot

    place = place_of(tmp_path)
    place.changes["route"] = Route(priority=(*place.changes["route"].priority, uncertain(None)))
    place.changes["budget"] = Budget(heavy_share=0.6)
    assert place.run().exit_status == 0
    pids = tmp_path / "pids"
    pids.mkdir()
    options = Options(open_models=partial(dying_models, pids=str(pids)), send_pilot=send_pilot, one_machine=False)
    output = tmp_path / "ray"
    assert run_on_ray(place.recipe(output=str(output)), 2, fake_models, options).exit_status == 0
    assert product_bytes(output) == product_bytes(place.output)
    assert len(list(pids.iterdir())) == 2
    assert not (pids / str(os.getpid())).exists()
    dollars = place.recipe(output=str(tmp_path / "dollars"), budget=Budget(usd=1000.0))
    assert run_on_ray(dollars, 2, fake_models, options).exit_status == 0
    pilot = json.loads((tmp_path / "dollars" / "run" / "pilot.json").read_text())
    assert pilot["expected_heavy_share"] == 1.0
    assert pilot["pace"]["tile_s"] > 0
    poor = place.recipe(output=str(tmp_path / "poor"), budget=Budget(usd=1e-12))
    with pytest.raises(RecipeError, match="the budget must pay"):
        run_on_ray(poor, 2, fake_models, options)
    assert not (tmp_path / "poor").exists()


def dying_models(job: Job, spec: WorkerSpec, pids: str) -> tuple[dict[Tier, Model], dict[str, str]]:
    """The first process to open them is killed, as if its node were lost."""
    is_first = not any(Path(pids).iterdir())
    (Path(pids) / str(os.getpid())).touch()
    if is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    return fake_models(job, spec)


def test_killed_workers_cost_only_the_chunks_in_hand(cluster, tmp_path):
    place = place_of(tmp_path)
    place.run()
    pids = tmp_path / "pids"
    pids.mkdir()
    killed: list[int] = []

    def kill_two() -> None:
        deadline_s = time.monotonic() + 120
        while len(killed) < 2 and time.monotonic() < deadline_s:
            alive = [int(path.name) for path in pids.iterdir() if int(path.name) not in killed]
            if alive:
                os.kill(alive[0], signal.SIGKILL)
                killed.append(alive[0])
            time.sleep(0.7)

    killer = threading.Thread(target=kill_two)
    killer.start()
    output = tmp_path / "ray"
    outcome = run_on_ray(place.recipe(output=str(output)), 2, partial(slow_models, pids=str(pids)))
    killer.join()
    assert len(killed) == 2
    assert outcome.exit_status == 0
    assert product_bytes(output) == product_bytes(place.output)
    log = (output / "run" / "log.jsonl").read_text()
    assert log.count('"worker_lost"') == 2
    committed = [json.loads(line)["task"] for line in log.splitlines() if '"chunk_committed"' in line]
    assert len(committed) == len(set(committed)) == sum(1 for _ in Ledger(LocalStore(output)).read_records())
    assert outcome.metrics.cost.waste >= 0


def poison_models(job: Job, spec: WorkerSpec) -> tuple[dict[Tier, Model], dict[str, str]]:
    models, environment = fake_models(job, spec)
    return {
        tier: Model(PoisonSegmenter(m.segmenter), m.halo_px, m.class_ids) for tier, m in models.items()
    }, environment


class PoisonSegmenter:
    """Fails on the brightest tiles."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.batch = inner, inner.batch

    def __call__(self, x_NBHW: Any, /) -> Any:
        if (x_NBHW == 255).any():
            raise RuntimeError("a tile that no model can take")
        return self._inner(x_NBHW)


def test_a_poison_chunk_is_given_up_and_the_rest_is_done(cluster, tmp_path):
    pixels = noise(100, 100)
    pixels[:, 50, 50] = 255
    place = Workplace.of(tmp_path, pixels)
    outcome = run_on_ray(place.recipe(), 2, poison_models)
    assert outcome.exit_status == 3
    assert list(outcome.metrics.quarantined) == ["scene0/1_1"]
    assert len(outcome.metrics.quarantined["scene0/1_1"]) == 3
    with rasterio.open(place.output / "scene0" / "labels.tif") as labels:
        missing = labels.read(1) == 255
    expected = np.zeros((100, 100), bool)
    expected[32:64, 32:64] = True
    assert (missing == expected).all()


def test_a_killed_driver_is_resumed_by_the_same_command(tmp_path):
    """SIGKILL of the whole process group, Ray and all, at random moments."""
    place = place_of(tmp_path)
    place.run()
    script = tmp_path / "drive.py"
    script.write_text(
        "import sys; from pathlib import Path; from tests.jobs.test_ray import *\n"
        f"place = place_of(Path({str(tmp_path)!r}))\n"
        f"sys.exit(run_on_ray(place.recipe(output={str(tmp_path / 'ray')!r}), 2, "
        f"partial(slow_models, pids={str(tmp_path)!r})).exit_status)\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    for after_s in (6.0, 9.0):
        child = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=root, start_new_session=True)
        time.sleep(after_s)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    last = subprocess.run([sys.executable, str(script)], env=environment, cwd=root, check=False, timeout=300)
    assert last.returncode == 0
    assert product_bytes(tmp_path / "ray") == product_bytes(place.output)
