"""Does the engine wait for an object store? Two readers of one COG, each request 50 ms longer than it takes.

    python -m bench.s3 [--size 8192] [--chunk 2048] [--latency 0.05] [--engine 200]

A real server of the S3 protocol (Ceph's radosgw) behind a proxy that waits before it passes a request on. The engine is
a stub that takes the time of so many Mpx/s; up to `--ahead` chunks are read while it works. In one run: rasterio on
/vsis3, as the product reads, and async-geotiff on obstore. Needs the development environment.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from batchseg.objectstore import ObjectStore
from batchseg.scene.header import SceneHeader, read_header
from batchseg.scene.nodata import NodataPolicy
from batchseg.scene.source import RasterSource
from bench.memory import write_raster
from tests.proxy import proxy_of
from tests.servers import BUCKET, radosgw
from tiling.grid import Grid
from tiling.span import Window

HALO_PX = 64
Read = Callable[[Window], Any]


def gdal_reader(header: SceneHeader) -> Read:
    return RasterSource(header, (1, 2, 3), NodataPolicy(from_="none")).read


def obstore_reader(header: SceneHeader) -> Read:
    import async_geotiff
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
        client_options={"allow_http": True},
    )
    path = header.url.removeprefix(f"s3://{BUCKET}/")

    async def read(window: Window) -> Any:
        file = await async_geotiff.GeoTIFF.open(path, store=store)
        found = async_geotiff.Window(window.cols.start, window.rows.start, len(window.cols), len(window.rows))
        return (await file.read(window=found)).data

    return lambda window: asyncio.run(read(window))


def measure(read: Read, windows: list[Window], *, engine_mpx_s: float, ahead: int) -> tuple[float, float]:
    """Seconds in all, and of these the seconds that the engine stood still."""
    begun_s, waited_s = time.perf_counter(), 0.0
    with ThreadPoolExecutor(ahead) as threads:
        coming = [threads.submit(read, window) for window in windows[:ahead]]
        for number, window in enumerate(windows):
            asked_s = time.perf_counter()
            coming[number].result()
            waited_s += time.perf_counter() - asked_s
            if number + ahead < len(windows):
                coming.append(threads.submit(read, windows[number + ahead]))
            time.sleep(window.num_px / (engine_mpx_s * 1e6))
    return time.perf_counter() - begun_s, waited_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--chunk", type=int, default=2048)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--engine", type=float, default=200.0)
    parser.add_argument("--ahead", type=int, default=2)
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
        header, size = read_header(f"s3://{BUCKET}/scene.tif"), (args.size, args.size)
        grid = Grid(size, args.chunk)
        windows = [grid.window(row, col).grow(HALO_PX).clip(size) for row, col in grid]
        whole = Window.of(0, args.chunk, 0, args.chunk)
        found = gdal_reader(header)(whole).raw_BHW
        assert np.array_equal(found, np.asarray(obstore_reader(header)(whole)))
        readers = {
            "local": gdal_reader(read_header(str(local))),
            "rasterio /vsis3": gdal_reader(header),
            "async-geotiff": obstore_reader(header),
        }
        pixels, stored = args.size**2, local.stat().st_size
        print(f"{'reader':>16} {'requests':>9} {'bytes/file':>11} {'Mpx/s':>7} {'engine waits':>13}")
        for name, read in readers.items():
            proxy.strike()
            took_s, waited_s = measure(read, windows, engine_mpx_s=args.engine, ahead=args.ahead)
            seen = proxy.seen()
            share = sum(one.answer_bytes for one in seen) / stored
            print(f"{name:>16} {len(seen):>9} {share:>11.2f} {pixels / took_s / 1e6:>7.1f} {waited_s / took_s:>13.0%}")


if __name__ == "__main__":
    main()
