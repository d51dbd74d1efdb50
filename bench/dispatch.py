"""The cost of assigning a chunk to a worker, and of starting a run of a million chunks.

    python -m bench.dispatch [--chunks 1000000] [--ray-chunks 2000]

Without model and pixels: the worker does nothing, so only the driver is measured. Each part runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from batchseg.ledger.keys import ChunkKey, TaskKey
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Attempt, Measured, Record, StoredObject, TileCounts
from batchseg.ledger.segments import SEGMENT_RECORDS, write_segment
from batchseg.paths import segment_key
from batchseg.recipe import Models, Recipe
from batchseg.resolve.job import Job
from batchseg.resolve.resolve import resolve
from batchseg.runs.backlog import make_backlog
from batchseg.runs.runstate import RunState
from batchseg.seals import compute_digest
from batchseg.store import LocalStore
from batchseg.synth import write_scene
from batchseg.workers.events import Assign, TaskDone, WorkerReady

LIMITS = {"plan_s": 60, "plan_gb": 1.5, "decision_us": 50, "driver_ms_a_chunk": 3, "resume_s": 60}


def make_keys(num: int) -> list[ChunkKey]:
    side = 1000
    return [ChunkKey("scene", number // side, number % side) for number in range(num)]


def make_record(key: ChunkKey, number: int = 1, *, fingerprint: str = "f" * 32) -> Record:
    return Record(
        key=key,
        fingerprint=fingerprint,
        kind="done",
        objects=tuple(
            StoredObject(key=f"{key.scene}/mask.zarr/{layer}/{key.row}.{key.col}", size_bytes=123_456, digest="d" * 32)
            for layer in ("labels", "confidence", "tier")
        ),
        measured=Measured(
            tiles=TileCounts(bulk=60, heavy=4),
            valid_px=1 << 24,
            class_px=(1 << 21,) * 8,
            area_km2=1.5,
            class_area_km2=(0.1875,) * 8,
            confidence_sum=1 << 30,
            agreement=None,
        ),
        attempt=Attempt(
            number=number,
            worker="spot-0123abcd",
            pool="spot",
            device="cuda",
            environment={"device": "cuda", "processor": "a processor", "torch": "2.13.0"},
            usd_per_hour=0.5,
            started_unix_s=1e9,
            ended_unix_s=1e9 + 60,
            seconds={"compute_bulk": 40.0, "read": 5.0, "write": 5.0},
        ),
    )


def make_job(num: int, folder: Path) -> Job:
    """A scene of `num` chunks of 4,096 px: a mosaic of one file, which is stretched over all of it."""
    side_px = math.isqrt(num) * 4096
    write_scene(folder, size_px=512, seed=1)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><Description>{name}</Description><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">scene.tif</SourceFilename><SourceBand>{band}</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="512" ySize="512"/>'
        f'<DstRect xOff="0" yOff="0" xSize="{side_px}" ySize="{side_px}"/></SimpleSource></VRTRasterBand>'
        for band, name in ((1, "red"), (2, "green"), (3, "blue"))
    )
    vrt = folder / "mosaic.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="{side_px}" rasterYSize="{side_px}"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>400000, 0.5, 0, 5400000, 0, -0.5</GeoTransform>{bands}</VRTDataset>"
    )
    return resolve(Recipe(scenes=(str(vrt),), output=str(folder / "out"), models=Models(bulk="zoo:synthetic-bulk"))).job


def measure_plan(num: int) -> dict[str, float]:
    """From the recipe to a run state that can assign tasks."""
    with tempfile.TemporaryDirectory() as folder:
        begun_s = time.perf_counter()
        job = make_job(num, Path(folder))
        store = LocalStore(Path(folder) / "out", durable=False)
        todo = make_backlog(job, store, retry_quarantined=False)
        assert len(todo.select(ChunkKey)) == num
        RunState.start(todo.tasks, todo.waits, max_failures=3, max_preemptions=20, depth=2)
        return {"plan_s": time.perf_counter() - begun_s, "plan_gb": measure_peak_gb()}


def measure_decision(num: int) -> dict[str, float]:
    """Time per decision, with eight workers and with a thousand."""
    figures = {}
    for num_workers in (8, 1000):
        state = RunState.start(make_keys(num), {}, max_failures=3, max_preemptions=20, depth=2)
        assigned = [i for w in range(num_workers) for i in state.handle(WorkerReady(f"w{w}", 1.0))]
        held = [i for i in assigned if isinstance(i, Assign)]
        begun_s, decisions = time.perf_counter(), 0
        while held and decisions < 200_000:
            done = held.pop(0) if num_workers < 10 else held[decisions % len(held)]
            new = [i for i in state.handle(TaskDone(done.worker, done.task)) if isinstance(i, Assign)]
            if num_workers < 10:
                held += new
            elif new:
                held[decisions % len(held)] = new[0]
            decisions += 1
        figures[f"decision_us_{num_workers}_workers"] = (time.perf_counter() - begun_s) / decisions * 1e6
    return figures | {"decision_us": max(figures.values())}


def measure_resume(num: int) -> dict[str, float]:
    """From segments of records, as a driver writes them, to the backlog."""
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(num, Path(folder))
        keys = job.list_chunks(job.scenes["mosaic"])
        store = LocalStore(Path(folder) / "out", durable=False)
        begun_s = time.perf_counter()
        first = write_segment(
            store, 0, [make_record(key, fingerprint=job.fingerprint) for key in keys[:SEGMENT_RECORDS]]
        )
        compaction_ms = (time.perf_counter() - begun_s) * 1e3
        briefs, *lines = store.get(first).split(b"\n")[1:]
        for number in range(1, num // SEGMENT_RECORDS):
            # The same thousand records under other names: writing is not measured here.
            moved = b"\n".join(
                [
                    briefs.replace(b'["mosaic",0,', b'["mosaic",%d,' % number),
                    *(line.replace(b'"row":0,', b'"row":%d,' % number) for line in lines),
                ]
            )
            store.put(segment_key(number), compute_digest(moved).encode() + b"\n" + moved)
        del keys
        begun_s = time.perf_counter()
        todo = make_backlog(job, store, retry_quarantined=False)
        assert not todo.select(ChunkKey)
        assert len(todo.committed_chunks) == num
        figures = {"resume_s": time.perf_counter() - begun_s, "resume_gb": measure_peak_gb()}
        del todo
        begun_s = time.perf_counter()
        assert sum(1 for _ in Ledger(store).read_records()) == num
        size = sum(size for _, size in store.names("run/segments"))
        return figures | {
            "records_s": time.perf_counter() - begun_s,
            "records_gb": measure_peak_gb(),
            "compaction_ms": compaction_ms,
            "segments_mb": size / 1e6,
        }


class IdleWorker:
    """A worker that does nothing, with the methods of an actor."""

    def __init__(self, spec: Any, inputs: Any) -> None:
        self._spec = spec

    def place(self) -> str:
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def open(self) -> str:
        return str(self._spec.name)

    def attempt(self, task: TaskKey, number: int) -> Record:
        assert isinstance(task, ChunkKey)
        return make_record(task, number)

    def close(self) -> None: ...


def measure_driver(num: int) -> dict[str, float]:
    """The whole loop on Ray with eight actors: run state, pool, log, progress, ledger."""
    import ray

    import jobs.cluster.pool
    from batchseg.ledger.ledger import Ledger
    from batchseg.recipe import Fleet, Patience, PoolSpec
    from batchseg.runs.drive import Drive, Stop
    from batchseg.runs.log import EventLog, FileLines
    from batchseg.runs.patience import Waits
    from batchseg.runs.progress import Progress
    from batchseg.store import LocalStore

    ray.init(address="local", num_cpus=8, include_dashboard=False, configure_logging=False, log_to_driver=False)
    jobs.cluster.pool.WorkerActor = IdleWorker  # type: ignore[attr-defined, assignment]
    fleet, stop = Fleet(pools=(PoolSpec(workers=8, cpus=1),)), Stop()
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        (Path(folder) / "run").mkdir()
        state = RunState.start(make_keys(num), {}, max_failures=3, max_preemptions=20, depth=2)
        pool = jobs.cluster.pool.RayPool(inputs=None, devices={"local": "cpu"}, fleet=fleet, owns_ray=True)  # type: ignore[arg-type]
        progress = Progress(
            num_chunks=num,
            num_before=0,
            num_sheets=0,
            usd_before=0.0,
            head_usd_per_hour=0.0,
            max_usd=None,
            stop=stop,
            show=lambda _: None,
        )
        waits = Waits(Patience(), lambda _, task: (task.kind,))
        log = EventLog(FileLines(Path(folder) / "run" / "log.jsonl"))
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        Drive(state, pool, Ledger(store), (log, progress), waits, stop).run()
        wall_s, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
        pool.close()
    return {"driver_ms_a_chunk": cpu_s / num * 1e3, "chunks_per_s": num / wall_s}


def measure_peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


PARTS = {"plan": measure_plan, "decision": measure_decision, "resume": measure_resume, "driver": measure_driver}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=1_000_000, help="chunks without Ray")
    parser.add_argument("--ray-chunks", type=int, default=2000, help="chunks on Ray")
    parser.add_argument("--part", choices=PARTS, help="measure one part only, in this process")
    args = parser.parse_args()
    if args.part:
        num = args.ray_chunks if args.part == "driver" else args.chunks
        print(json.dumps(PARTS[args.part](num)))
        return 0
    figures: dict[str, float] = {}
    for part in PARTS:
        command = [sys.executable, __file__, "--part", part, "--chunks", str(args.chunks)]
        out = subprocess.run(
            [*command, "--ray-chunks", str(args.ray_chunks)], check=True, capture_output=True, text=True
        ).stdout
        figures |= json.loads(out.splitlines()[-1])
    for name, value in figures.items():
        limit = LIMITS.get(name)
        verdict = "" if limit is None else f"   at most {limit}: {'ok' if value <= limit else 'MISSED'}"
        print(f"{name:28} {value:10.3f}{verdict}")
    return int(any(figures[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
