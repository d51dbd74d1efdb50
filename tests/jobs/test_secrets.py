"""Nothing that a run writes or says shows a credential, wherever one was planted, and it works and resumes with it."""

from __future__ import annotations

import json
import traceback
from functools import partial
from pathlib import Path

import pytest

from batchseg.errors import BatchsegError, ReadError
from batchseg.recipe import Fleet
from batchseg.resolve.job import Job
from batchseg.runs.session import run
from batchseg.scene.pixels import Pixels
from batchseg.store import Store
from batchseg.workers.pool import DEPTH, LocalPool, Pool
from batchseg.workers.worker import Worker, WorkerSpec
from jobs.cli import main
from tests.jobs.command_line import alone, use
from tests.jobs.planted_secrets import (
    ENVIRONMENT,
    QUERY,
    SIGNATURE,
    WORD,
    check,
    host,
    list_addresses,
    place,
    plant,
    write_recipe,
)
from tests.leaks import find_leaks
from tests.runs import fake_models, fake_pool, noise, write_scene
from tiling.span import Window

__all__ = ["alone", "host", "place", "plant"]
pytestmark = pytest.mark.timeout(120)


def test_everything_that_a_run_writes_and_says(place: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    scenes = list_addresses(host)
    recipe = write_recipe(
        place,
        scenes,
        labels=[f"http://{host}/labels.tif?{QUERY}", None, None],
        aoi=f"http://{host}/town.geojson?{QUERY}",
        route={
            "priority": [{"polygons": f"http://user:{WORD}Password02@{host}/town.geojson", "where": "kind = 'town'"}]
        },
    )
    output = str(place / "out")
    assert main(["plan", recipe]) == 0
    assert main(["plan", recipe, "--json"]) == 0
    assert main(["run", recipe]) == 0
    assert main(["run", recipe, "--quiet"]) == 0, "the same command resumes"
    assert main(["status", output]) == 0
    assert main(["inspect", output, "scene0/0_0"]) == 0
    assert main(["report", output]) == 0
    labels = f"scene0=http://{host}/labels.tif?{QUERY}"
    assert main(["evaluate", output, "--labels", labels, f"scene2=http://user:{WORD}P3@{host}/labels.tif"]) == 0
    assert main(["compare", output, output, "--labels", labels, "--to", str(place / "compared")]) == 0
    told = check(place, capfd)
    assert all(f"scene{number}: " in told for number in range(3)), "each scene has the name of its file"
    plan = json.loads((place / "out" / "run" / "plan.json").read_text())
    assert [scene["url"] for scene in plan["scenes"].values()] == [
        f"http://{host}/scene0.tif",
        f"/vsicurl/http://{host}/scene1.tif",
        f"/vsicurl/http://{host}/scene2.tif",
    ]


def test_a_run_resumes_with_another_signature(place: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    scenes = list_addresses(host)
    assert main(["run", write_recipe(place, scenes), "--sample", "3", "--quiet"]) == 0
    before = {path: path.stat().st_mtime_ns for path in (place / "out" / "run" / "records").rglob("*.json")}
    assert len(before) == 3
    again = [scene.replace("Signature0123", "Another9876").replace("Password01", "Password02") for scene in scenes]
    assert main(["run", write_recipe(place, again), "--quiet"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    check(place, capfd)


def make_library_errors() -> dict[str, Exception]:
    import aiohttp
    import botocore.exceptions
    import multidict
    import rasterio.errors
    import yarl

    url = f"https://host/x.tif?sig={SIGNATURE}"
    asked = aiohttp.RequestInfo(
        yarl.URL(url), "GET", multidict.CIMultiDictProxy(multidict.CIMultiDict()), yarl.URL(url)
    )
    refusal = {"Error": {"Code": "InvalidAccessKeyId", "Message": f"{WORD}KeyOfAws01 does not exist"}}
    return {
        "aiohttp": aiohttp.ClientResponseError(asked, (), status=500, message=f"Authorization: Bearer {SIGNATURE}"),
        "botocore, answer": botocore.exceptions.ClientError(refusal, "GetObject"),
        "botocore, connection": botocore.exceptions.EndpointConnectionError(endpoint_url=url),
        "GDAL": rasterio.errors.RasterioIOError(f"/vsicurl/{url}: HTTP 500"),
        "GDAL, option": rasterio.errors.RasterioIOError(
            f"/vsicurl?header.Authorization=Bearer%20{SIGNATURE}&url=x: no"
        ),
        "fsspec": FileNotFoundError(2, "no such object", f"s3://KEY:{WORD}Sec/ret01@bucket/x.tif"),
        "urllib3": OSError(f"Max retries exceeded with url: /x.tif?key={SIGNATURE} (Caused by nothing)"),
        "a database": RuntimeError(f"PG:host=h password='{WORD} of PG' dbname=x: refused"),
        "a variable": RuntimeError(f"sent {ENVIRONMENT['AZURE_CLIENT_SECRET']} and {ENVIRONMENT['RAY_AUTH_TOKEN']}"),
        "memory": MemoryError(f"while reading https://user:{WORD}pa#ss@host/x.tif"),
        "ours": ReadError("the raster could not be read", where=url, got=f"X-Amz-Security-Token: {SIGNATURE}"),
        "several lines": ValueError(f"first line\nCookie: a={SIGNATURE}\nlast line"),
    }


def open_failing_pool(job: Job, store: Store, fleet: Fleet, *, error: Exception) -> Pool:
    """A pool whose worker cannot read any scene."""

    class Source:
        def read(self, window: Window) -> Pixels:
            assert window
            raise error from OSError(f"https://host/x.tif?sig={SIGNATURE}")

    spec = WorkerSpec.new(pool=fleet.pools[0].name, device="cpu", usd_per_hour=1.0)
    worker = Worker(spec, job, store, fake_models, open_source=lambda _: Source())
    return LocalPool(worker.open, depth=DEPTH)


@pytest.mark.parametrize("kind", sorted(make_library_errors()))
def test_stories_of_failed_chunks(
    kind: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    error = make_library_errors()[kind]
    use(monkeypatch, partial(open_failing_pool, error=error))
    recipe = write_recipe(place, [str(place.parent / "inputs" / "scene0.tif")])
    assert main(["run", recipe]) == 3
    main(["status", str(place / "out")])
    main(["inspect", str(place / "out"), "scene0/0_0"])
    main(["report", str(place / "out")])
    told = check(place, capfd)
    assert "4 tasks were given up" in told
    assert "***" in told, "the story is told, without its credential"


def test_a_traceback_in_the_program_of_a_user(place: Path, host: str, capfd: pytest.CaptureFixture[str]) -> None:
    """GDAL's and the client's own errors are the causes of ours, and hold whole requests."""
    recipe = write_recipe(place, [f"http://{host}/broken.tif?{QUERY}"])
    with pytest.raises(BatchsegError) as caught:
        run(recipe, open_pool=fake_pool)
    check(place, capfd, traceback="".join(traceback.format_exception(caught.value)))


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    """In each kind of file that a run writes, so that an empty list of leaks means something."""
    import gzip
    import sqlite3
    import zlib

    import numpy as np
    import pyarrow as pa
    import rasterio
    from pyarrow import parquet

    (tmp_path / f"{WORD}.txt").write_text("")
    (tmp_path / "a.txt").write_text(f"x{WORD}x")
    (tmp_path / "a.gz").write_bytes(gzip.compress(f"x{WORD}x".encode()))
    (tmp_path / "0.0").write_bytes(b"head" + zlib.compress(f"x{WORD}x".encode()))
    np.savez_compressed(tmp_path / "a.npz", names=np.array([WORD.encode()]))
    parquet.write_table(pa.table({"story": [f"x{WORD}x"] * 999}), tmp_path / "a.parquet", compression="zstd")
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        database.execute("create table a (b text)")
        database.execute("insert into a values (?)", [WORD])
    with rasterio.open(write_scene(tmp_path / "a.tif", noise(8, 8)), "r+") as raster:
        raster.update_tags(a=WORD)
    texts = {"text": f"sent {WORD}", "nothing": "innocent"}
    leaks = find_leaks(tmp_path, secret=WORD, texts=texts)
    assert {Path(leak).name for leak in leaks} == {
        *("text", f"{WORD}.txt", "a.txt", "a.gz", "0.0", "a.npz", "a.parquet", "a.gpkg", "a.tif")
    }
