"""Whole runs with everything on servers of the S3 protocol: the same product bytes as on a disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import rasterio
import shapely

from batchseg.errors import RecipeError, SceneError
from batchseg.objectstore import ObjectStore
from batchseg.recipe import Models, NodataPolicy
from batchseg.recipe.heavy_tiles import Priority, Route
from batchseg.scene.header import read_header
from batchseg.scene.source import open_source
from tests.runs import Workplace, fake_pool, noise, product_bytes, write_fake_bundle, write_scene
from tests.servers import BUCKET, moto, radosgw
from tests.store_contract import StoreContract
from tiling.span import Window

from batchseg.runs.session import run  # isort: skip

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=[moto, radosgw], ids=lambda server: server.__name__)
def server(request, tmp_path_factory):
    with request.param(tmp_path_factory.mktemp("server") / "one") as environment:
        yield environment


@pytest.fixture
def s3(server, monkeypatch, tmp_path):
    """The server's environment, and scratch of this test's own."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BATCHSEG_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "scratch" / "cache"))
    fsspec.config.conf.clear()
    return server


@pytest.fixture
def base(request):
    return f"s3://{BUCKET}/{abs(hash(request.node.name)):x}-{time.time_ns()}"


@pytest.mark.usefixtures("s3")
class TestStoreOnServer(StoreContract):
    @pytest.fixture
    def store(self, base) -> ObjectStore:
        return ObjectStore(base)


def upload(folder: Path, url: str) -> None:
    """What a run needs; not what one has made."""
    store = ObjectStore(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).parts[0] != "out":
            store.put(path.relative_to(folder).as_posix(), path.read_bytes())


def product_of(url: str) -> dict[str, str]:
    import hashlib

    store = ObjectStore(url)
    keys = [
        key
        for key, _ in store.names("")
        if not key.startswith("run/") and "/" in key and not key.endswith("/item.json")
    ]
    return {key: hashlib.blake2b(store.get(key), digest_size=16).hexdigest() for key in sorted(keys)}


def place_with_everything(folder: Path, *shapes: tuple[int, int]) -> tuple[Workplace, dict]:
    """Two scenes, two tiers, polygons and an area of interest."""
    pixels = (noise(*shape, seed=seed) for seed, shape in enumerate(shapes or ((150, 90), (40, 70))))
    place = Workplace.of(folder, *pixels)
    ground = shapely.box(500_000, 4_999_900, 500_050, 4_999_960)
    aoi = shapely.box(500_000, 4_999_860, 500_080, 5_000_000)
    for name, shape in (("priority", ground), ("aoi", aoi)):
        feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
        content = {"type": "FeatureCollection", "crs": crs, "features": [feature]}
        (folder / f"{name}.geojson").write_text(json.dumps(content))
    write_fake_bundle(folder / "bulk")
    write_fake_bundle(folder / "heavy", tier="heavy")
    return place, changes_at(str(folder))


def changes_at(base: str) -> dict:
    return {
        "scenes": (f"{base}/scene*.tif",),
        "models": Models(bulk=f"{base}/bulk", heavy=f"{base}/heavy"),
        "route": Route(priority=(Priority(polygons=f"{base}/priority.geojson"),)),
        "aoi": f"{base}/aoi.geojson",
    }


def test_a_run_with_everything_on_the_server_gives_the_bytes_of_a_local_one(s3, base, tmp_path):
    place, changes = place_with_everything(tmp_path / "local" if (tmp_path / "local").mkdir() is None else tmp_path)
    assert place.run(**changes).exit_status == 0
    upload(place.folder, base)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    recipe = place.recipe(**changes_at(base), output=f"{base}/remote")
    outcome = run(recipe, open_pool=fake_pool)
    assert outcome.exit_status == 0
    assert product_of(f"{base}/remote") == product_bytes(place.output)
    cached = {path for path in (tmp_path / "scratch" / "cache").rglob("*") if path.is_file()}
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before - cached == set()
    assert outcome.metrics.tiles.heavy > 0
    store = ObjectStore(f"{base}/remote")
    identity = json.loads(store.get("run/recipe.json"))["resolved"]["scenes"]["scene0"]["identity"]
    assert identity.keys() == {"url", "size_bytes", "etag", "modified"}
    again = run(recipe, open_pool=fake_pool)
    assert again.exit_status == 0


def test_a_bucket_that_is_not_there_is_refused_before_any_work(s3, tmp_path):
    place = Workplace.of(tmp_path, noise(40, 40))
    with pytest.raises(RecipeError, match=r"NoSuchBucket|refuses|no such"):
        run(place.recipe(output="s3://no-such-bucket-here/out"), open_pool=fake_pool)


def test_a_scene_that_is_not_there_is_one_line(s3, base, tmp_path):
    place = Workplace.of(tmp_path, noise(40, 40))
    with pytest.raises(SceneError, match=base.removeprefix("s3://")):
        run(place.recipe(scenes=(f"{base}/none.tif",)), open_pool=fake_pool)


def test_put_new_puts_once(s3, base):
    store = ObjectStore(base)
    assert [store.put_new("claim", b"first"), store.put_new("claim", b"second")] == [True, False]
    assert store.get("claim") == b"first"


def test_operations_of_the_store(s3, base, tmp_path):
    store = ObjectStore(base)
    assert list(store.names("run")) == []
    with pytest.raises(FileNotFoundError):
        store.get("run/none")
    big = np.random.default_rng(0).bytes(40 * 2**20)
    with store.scratch() as folder:
        path = folder / "big"
        path.write_bytes(big)
        store.put_file("a/big.tif", path)
    store.put("a/small", b"")
    store.put("ab", b"x")
    assert not path.exists()
    assert store.get("a/big.tif") == big
    assert dict(store.names("a")) == {"a/big.tif": len(big), "a/small": 0}
    store.delete("a/small")
    store.delete("a/small")
    assert dict(store.names("")) == {"a/big.tif": len(big), "ab": 1}


@pytest.mark.parametrize("server", [moto], indirect=True)
def test_a_run_killed_in_the_middle_goes_on(s3, base, tmp_path):
    (tmp_path / "local").mkdir()
    place, changes = place_with_everything(tmp_path / "local")
    place.run(**changes)
    upload(place.folder, base)
    code = (
        "from tests.jobs.test_s3 import *\n"
        f"place = Workplace(Path({str(place.folder)!r}), ())\n"
        f"run(place.recipe(**changes_at({base!r}), output={base + '/remote'!r}), open_pool=fake_pool)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy())
    store = ObjectStore(f"{base}/remote")
    until_s = time.monotonic() + 60
    while sum(1 for _ in store.names("run/records")) < 2 and time.monotonic() < until_s:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert sum(1 for _ in store.names("run/records")) >= 2
    outcome = run(place.recipe(**changes_at(base), output=f"{base}/remote"), open_pool=fake_pool)
    assert outcome.exit_status == 0
    assert product_of(f"{base}/remote") == product_bytes(place.output)


def test_a_mask_in_a_file_beside_the_scene_counts_on_a_server_too(s3, base, tmp_path):
    path = Path(write_scene(tmp_path / "scene.tif", noise(60, 50)))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.arange(60 * 50).reshape(60, 50) % 3 > 0)
    assert path.with_name("scene.tif.msk").exists()
    upload(tmp_path, base)
    local, remote = (
        open_source(read_header(url).raster, (1, 2, 3), NodataPolicy(from_="auto")).read(Window.of(5, 40, 3, 50))
        for url in (str(path), f"{base}/scene.tif")
    )
    assert not local.valid_HW.all()
    assert np.array_equal(local.valid_HW, remote.valid_HW)
    assert np.array_equal(local.raw_BHW, remote.raw_BHW)
