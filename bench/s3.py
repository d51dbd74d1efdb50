"""The time that the engine waits for an object store: readers of one COG, with 50 ms of extra latency per request.

    python -m bench.s3 [--size 8192] [--chunk 2048] [--latency 0.05] [--engines 20 200] [--in-hand 2 4] [--rounds 3]

A real S3 server (Ceph's radosgw) stands behind a proxy that delays each request. The engine is a stub of a given speed
in Mpx/s that computes one chunk at a time. As in the product, a worker has two or more chunks in hand, and each is read
and then computed. Four readers are compared in one run: rasterio on /vsis3 with the product's settings, the same with
GDAL's own limit for parallel requests, async-geotiff on obstore, and a local disk. The best of several rounds counts.
The script needs the development environment.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import async_geotiff
import numpy as np
from obstore.store import S3Store

from batchseg.objectstore import ObjectStore
from batchseg.recipe import NodataPolicy
from batchseg.scene.dataset import SETTINGS
from batchseg.scene.header import read_header
from batchseg.scene.raster_file import RasterFile
from batchseg.scene.source import open_source
from bench.memory import write_raster
from tests.proxy import Proxy, proxy_of
from tests.servers import BUCKET, radosgw
from tiling.grid import Grid
from tiling.span import Window

HALO_PX = 64
LIMIT = "GDAL_MAX_RAW_BLOCK_CACHE_SIZE"
Read = Callable[[Window], Any]


def make_gdal_reader(raster: RasterFile) -> Read:
    return open_source(raster, (1, 2, 3), NodataPolicy(from_="none")).read


def make_obstore_reader(raster: RasterFile) -> Read:
    store = S3Store(
        BUCKET,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
        client_options={"allow_http": True},
    )
    path = raster.url.removeprefix(f"s3://{BUCKET}/")

    async def read(window: Window) -> Any:
        file = await async_geotiff.GeoTIFF.open(path, store=store)
        part = async_geotiff.Window(window.cols.start, window.rows.start, len(window.cols), len(window.rows))
        return (await file.read(window=part)).data

    return lambda window: asyncio.run(read(window))


@contextmanager
def use_gdal_limit() -> Iterator[None]:
    """Run GDAL without our setting."""
    ours = SETTINGS.pop(LIMIT)
    try:
        yield
    finally:
        SETTINGS[LIMIT] = ours


def measure_reader(read: Read, windows: list[Window], *, engine_mpx_s: float, in_hand: int) -> tuple[float, float]:
    """Total seconds, and the seconds that the engine waited."""
    engine = Lock()

    def task(window: Window) -> float:
        read(window)
        compute_s = window.num_px / (engine_mpx_s * 1e6)
        with engine:
            time.sleep(compute_s)
        return compute_s

    begun_s = time.perf_counter()
    with ThreadPoolExecutor(in_hand) as threads:
        busy_s = sum(threads.map(task, windows))
    took_s = time.perf_counter() - begun_s
    return took_s, took_s - busy_s


def compare_readers(proxy: Proxy, local: Path, args: argparse.Namespace) -> None:
    raster, size = read_header(f"s3://{BUCKET}/scene.tif").raster, (args.size, args.size)
    grid = Grid(size, args.chunk)
    windows = [grid.window(row, col).grow(HALO_PX).clip(size) for row, col in grid]
    readers = {
        "local disk, rasterio": make_gdal_reader(read_header(str(local)).raster),
        "/vsis3, as the product": make_gdal_reader(raster),
        "/vsis3, GDAL's limit": make_gdal_reader(raster),
        "async-geotiff": make_obstore_reader(raster),
    }
    first = [np.asarray(getattr(read(windows[0]), "raw_BHW", None)) for read in list(readers.values())[:3]]
    assert all(np.array_equal(raw_BHW, readers["async-geotiff"](windows[0])) for raw_BHW in first)
    print(f"{'engine':>7} {'in hand':>8} {'reader':>23} {'requests':>9} {'bytes/file':>11} {'Mpx/s':>7} {'waits':>6}")
    for engine_mpx_s, in_hand in ((engine, hand) for engine in args.engines for hand in args.in_hand):
        figures: dict[str, list[tuple[float, float, int, float]]] = {name: [] for name in readers}
        for _ in range(args.rounds):
            for name, read in readers.items():
                proxy.strike()
                if name.endswith("limit"):
                    with use_gdal_limit():
                        times_s = measure_reader(read, windows, engine_mpx_s=engine_mpx_s, in_hand=in_hand)
                else:
                    times_s = measure_reader(read, windows, engine_mpx_s=engine_mpx_s, in_hand=in_hand)
                seen = proxy.seen()
                figures[name].append(
                    (*times_s, len(seen), sum(one.answer_bytes for one in seen) / local.stat().st_size)
                )
        for name, rounds in figures.items():
            took_s, waited_s, num, share = min(rounds)
            print(
                f"{engine_mpx_s:>7.0f} {in_hand:>8} {name:>23} {num:>9} {share:>11.2f} "
                f"{args.size**2 / took_s / 1e6:>7.1f} {waited_s / took_s:>6.0%}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192, help="side of the scene in pixels (default 8192)")
    parser.add_argument("--chunk", type=int, default=2048, help="side of a chunk in pixels (default 2048)")
    parser.add_argument("--latency", type=float, default=0.05, help="extra seconds per request (default 0.05)")
    parser.add_argument("--engines", type=float, nargs="+", default=[20.0, 200.0], help="engine speeds in Mpx/s")
    parser.add_argument("--in-hand", type=int, nargs="+", default=[2, 4], help="chunks in hand")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the best counts (default 3)")
    args = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        radosgw(Path(folder) / "server") as environment,
        proxy_of(environment, latency_s=args.latency) as proxy,
    ):
        os.environ |= environment
        local = Path(folder) / "scene.tif"
        write_raster(local, args.size)
        ObjectStore(f"s3://{BUCKET}").put("scene.tif", local.read_bytes())
        os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
        compare_readers(proxy, local, args)


if __name__ == "__main__":
    main()
