"""Who may read and who pays, and that no credential and no signature is left anywhere that people look."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import rasterio
import s3fs

import batchseg.remote
from batchseg.errors import RecipeError, SceneError
from batchseg.objectstore import ObjectStore
from batchseg.recipe import NodataPolicy
from batchseg.remote import read_facts, read_object
from batchseg.runs.session import run
from batchseg.scene.header import read_header
from batchseg.scene.source import open_source
from tests.jobs.test_s3 import changes_at, place_with_everything, product_of, upload
from tests.proxy import proxy_of
from tests.runs import Workplace, fake_pool, noise, product_bytes, write_scene
from tests.servers import BUCKET, client, moto, radosgw
from tiling.span import Window

pytestmark = pytest.mark.real

KEY_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module", params=[moto, radosgw], ids=lambda server: server.__name__)
def server(request, tmp_path_factory):
    with (
        request.param(tmp_path_factory.mktemp("server") / "one") as environment,
        proxy_of(environment) as proxy,
    ):
        yield proxy, environment | {"AWS_ENDPOINT_URL": proxy.endpoint}


@pytest.fixture
def s3(server, monkeypatch, tmp_path):
    proxy, environment = server
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BATCHSEG_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("BATCHSEG_CACHE", str(tmp_path / "scratch" / "cache"))
    monkeypatch.setattr(batchseg.remote, "PAUSE_S", 0.02)
    fsspec.config.conf.clear()
    proxy.strike()
    return proxy, environment


@pytest.fixture
def base(request):
    return f"s3://{BUCKET}/{abs(hash(request.node.name)):x}-{os.getpid()}"


def all_texts(url: str) -> dict[str, str]:
    """Every object of a run, pictures and rasters too: a secret in a tag would be found."""
    store = ObjectStore(url)
    return {key: store.get(key).decode("latin-1") for key, _ in store.names("")}


def read_all(url: str) -> None:
    read_facts(url)
    read_object(url)
    header = read_header(url)
    open_source(header.raster, (1, 2, 3), NodataPolicy(from_="none")).read(Window.of(0, 30, 0, 30))


@pytest.mark.parametrize("server", [radosgw], indirect=True)
def test_a_run_leaves_no_credential_anywhere(s3, base, tmp_path, caplog, capfd):
    _, environment = s3
    (tmp_path / "local").mkdir()
    place, _ = place_with_everything(tmp_path / "local")
    upload(place.folder, base)
    caplog.set_level("INFO")
    outcome = run(place.recipe(**changes_at(base), output=f"{base}/remote"), open_pool=fake_pool)
    assert outcome.exit_status == 0
    said = capfd.readouterr()
    texts = all_texts(f"{base}/remote") | {"stdout": said.out, "stderr": said.err, "log": caplog.text}
    assert {"report.html", "metrics.json", "scene0/item.json"} <= texts.keys()
    for name in KEY_NAMES:
        assert [key for key, text in texts.items() if environment[name] in text] == []


@pytest.mark.parametrize("server", [radosgw], indirect=True)
def test_a_signed_address_leaves_no_signature(s3, base, tmp_path, capfd):
    proxy, environment = s3
    place = Workplace.of(tmp_path, noise(60, 50))
    upload(place.folder, base)
    bucket, _, prefix = base.removeprefix("s3://").partition("/")
    owner = client(proxy.endpoint, *(environment[name] for name in KEY_NAMES))
    addresses = [
        owner.generate_presigned_url("get_object", {"Bucket": bucket, "Key": f"{prefix}/{name}"}, ExpiresIn=seconds)
        for name, seconds in (("scene0.tif", 3600), ("none.tif", 3600))
    ]
    secrets = [address.rpartition("ignature=")[2].partition("&")[0] for address in addresses]
    assert run(place.recipe(scenes=addresses[:1], output=f"{base}/remote"), open_pool=fake_pool).exit_status == 0
    with pytest.raises(SceneError) as caught:
        run(place.recipe(scenes=addresses[1:], output=f"{base}/remote"), open_pool=fake_pool)
    said = capfd.readouterr()
    texts = all_texts(f"{base}/remote") | {"stdout": said.out, "stderr": said.err, "error": repr(caught.value)}
    secrets += [environment[name] for name in KEY_NAMES]
    assert [key for key, text in texts.items() if any(secret in text for secret in secrets)] == []


def test_a_wrong_secret_is_refused_and_not_told(s3, base, tmp_path, monkeypatch):
    place = Workplace.of(tmp_path, noise(40, 40))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anotherSecretOfSomebody")
    fsspec.config.conf.clear()

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RecipeError, match=r"SignatureDoesNotMatch|403|AccessDenied") as caught:
        run(place.recipe(output=f"{base}/remote"), open_pool=fake_pool)
    assert "anotherSecretOfSomebody" not in str(caught.value)
    s3fs.S3FileSystem.clear_instance_cache()


def test_whoever_reads_pays(s3, base, tmp_path, monkeypatch):
    proxy, _ = s3
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    ObjectStore(base).put("scene.tif", _raster(tmp_path))
    proxy.strike()
    read_all(f"{base}/scene.tif")
    asked = [one for one in proxy.seen() if one.place.endswith("scene.tif")]
    assert {one.operation for one in asked} >= {"head", "get", "range"}
    assert [one for one in asked if "x-amz-request-payer" not in one.headers] == []


@pytest.mark.parametrize("server", [radosgw], indirect=True)  # moto answers 500 to whoever does not sign
def test_public_objects_are_read_without_credentials(s3, base, tmp_path, monkeypatch):
    proxy, environment = s3
    ObjectStore(base).put("scene.tif", _raster(tmp_path))
    bucket, _, prefix = base.removeprefix("s3://").partition("/")
    owner = client(environment["AWS_ENDPOINT_URL"], *(environment[name] for name in KEY_NAMES))
    owner.put_object_acl(Bucket=bucket, Key=f"{prefix}/scene.tif", ACL="public-read")
    for name in KEY_NAMES:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    proxy.strike()
    read_all(f"{base}/scene.tif")
    assert [one for one in proxy.seen() if "authorization" in one.headers] == []


@pytest.mark.parametrize("server", [moto], indirect=True)
def test_a_replaced_object_is_noticed_under_every_name(s3, base, tmp_path):
    path = Path(write_scene(tmp_path / "scene.tif", noise(64, 64)))
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.write(path, "scene.tif")
    (tmp_path / "scene.vrt").write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">scene.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    key = base.removeprefix("s3://")
    names = [f"{base}/scene.tif", f"/vsis3/{key}/scene.tif", f"/vsizip//vsis3/{key}/scene.zip/scene.tif"]
    names += [f"{base}/scene.vrt", f"/vsis3/{key}/scene.vrt", f"GTIFF_DIR:1:/vsis3/{key}/scene.tif"]
    store, versions = ObjectStore(base), []
    for content in (b"", b"more"):
        for file in tmp_path.glob("scene.*"):
            more = content if file.suffix != ".vrt" else b""
            store.put(file.name, file.read_bytes() + more)
        versions.append([read_header(name).raster.identity for name in names])
    assert [before != after for before, after in zip(*versions, strict=True)] == [True] * len(names)


@pytest.mark.parametrize("server", [radosgw], indirect=True)
def test_the_blocks_of_a_chunk_are_asked_for_in_one_round_and_once(s3, base, tmp_path):
    """More than the 10 MB that GDAL asks for at once by itself, and nothing twice."""
    proxy, _ = s3
    profile = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    pixels_BHW = noise(2048, 2560)
    path = Path(write_scene(tmp_path / "scene.tif", pixels_BHW, **profile))
    ObjectStore(base).put("scene.tif", path.read_bytes())
    source = open_source(read_header(f"{base}/scene.tif").raster, (1, 2, 3), NodataPolicy(from_="none"))
    proxy.strike()
    found = source.read(Window.of(0, 2048, 0, 2048))
    assert np.array_equal(found.raw_BHW, pixels_BHW[:, :, :2048])
    asked = [one for one in proxy.seen() if one.operation == "range"]
    head, *blocks = sorted(one.answer_bytes for one in asked)
    assert head <= 16384
    assert len(blocks) <= 4 + 1, "at most one request a row of blocks, and one more where GDAL cuts what is too long"
    assert 10e6 < 0.8 * path.stat().st_size - 16384 <= sum(blocks) <= 0.81 * path.stat().st_size


def _raster(folder) -> bytes:
    return Path(write_scene(folder / "scene.tif", noise(60, 50))).read_bytes()


def test_ground_without_pixels_costs_no_request_per_stored_chunk(s3, base, tmp_path):
    """The run refuses objects of others at its keys, so it never has to delete what could show in empty ground."""
    pixels = noise(96, 96)
    pixels[:, 32:] = 0
    place = Workplace.of(tmp_path, pixels)
    with rasterio.open(place.scenes[0], "r+") as file:
        file.nodata = 0
    assert place.run().exit_status == 0
    foreign = ObjectStore(f"{base}/out")
    keys = [f"scene0/mask.zarr/labels/{cell}" for cell in ("0.0", "2.1")]
    for key in keys:
        foreign.put(key, b"of another recipe, without its records")
    with pytest.raises(RecipeError, match=f"no run into this folder made them; got {', '.join(keys)}"):
        run(place.recipe(output=f"{base}/out"), open_pool=fake_pool)
    assert foreign.get(keys[0]) == b"of another recipe, without its records"
    for key in keys:
        foreign.delete(key)
    proxy, _ = s3
    proxy.strike()
    assert run(place.recipe(output=f"{base}/out"), open_pool=fake_pool).exit_status == 0
    assert [one.place for one in proxy.seen() if one.operation == "delete" and "/mask.zarr/" in one.place] == []
    assert product_of(f"{base}/out") == product_bytes(place.output)
