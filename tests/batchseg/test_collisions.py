"""The names of inputs, on a disk and on servers, and the places that they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchseg.collisions import check_inputs, list_local_paths, normalise_url
from batchseg.errors import RecipeError
from batchseg.objectstore import ObjectStore
from batchseg.paths import OutputKeys

SERVER_KEYS = OutputKeys(frozenset({"metrics.json", "scene/labels.tif"}), frozenset({"run/records", "scene/mask.zarr"}))


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [
        ("s3://bucket/out/scene/labels.tif", True),
        ("s3://bucket/out/scene/labels.tif/", True),
        ("S3://Bucket/out/scene/labels.tif", True),
        ("s3a://bucket/out/metrics.json", True),
        ("/vsis3/bucket/out/scene/labels.tif", True),
        ("/vsizip/vsis3/bucket/out/run/records/a.zip/x.tif", True),
        ("/vsizip//vsis3/bucket/out/run/records/a.zip/x.tif", True),
        ("s3://bucket/out/scene/mask.zarr", True),
        ("s3://bucket/out/metrics.json|layername=a", True),
        ("https://bucket.s3.amazonaws.com/out/scene/labels.tif?X-Amz-Signature=abc", True),
        ("https://s3.eu-central-1.amazonaws.com/bucket/out/scene/labels.tif", True),
        ("/vsicurl/https://bucket.s3.eu-central-1.amazonaws.com/out/scene/labels.tif", True),
        ("s3://bucket/out/scene/other.tif", False),
        ("s3://bucket/out/input/labels.tif", False),
        ("s3://bucket/out2/scene/labels.tif", False),
        ("s3://other/out/scene/labels.tif", False),
        ("s3://bucket/out/Scene/labels.tif", False),
        ("gs://bucket/out/scene/labels.tif", False),
        ("https://example.com/bucket/out/scene/labels.tif", False),
        ("/data/bucket/out/scene/labels.tif", False),
    ],
)
@pytest.mark.parametrize("output", ["s3://bucket/out", "s3://bucket/out/", "s3a://bucket/out"])
def test_inputs_and_outputs_on_a_server(
    name: str, is_refused: bool, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    store = ObjectStore(output)
    if is_refused:
        with pytest.raises(RecipeError, match="the output must not replace an input"):
            check_inputs(store, SERVER_KEYS, [name])
    else:
        check_inputs(store, SERVER_KEYS, [name])


def test_the_server_of_the_environment_has_its_objects_over_http_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    assert normalise_url("http://127.0.0.1:9000/bucket/a%20b.tif?x=1") == "s3://bucket/a b.tif"
    assert normalise_url("http://127.0.0.1:9001/bucket/a.tif") == "http://127.0.0.1:9001/bucket/a.tif"


@pytest.mark.parametrize(
    "name",
    [
        "{}/x.tif",
        "file://{}/x.tif",
        "vrt://{}/x.tif?bands=1",
        'NETCDF:"{}/x.tif":band',
        "GTIFF_DIR:1:{}/x.tif",
        "{}/x.tif|layername=a",
        "/vsizip/{}/x.tif/inner.tif",
        "/vsizip//vsigzip/{}/x.tif/a/b.tif",
        "zip://{}/x.tif!inner.tif",
    ],
)
def test_the_file_behind_a_name_of_gdal(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.tif").write_bytes(b"")
    assert tmp_path / "x.tif" in list(list_local_paths(name.format(tmp_path)))


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\0b", "s3://bucket/x.tif", "<VRTDataset>\n</VRTDataset>"])
def test_names_without_a_file(name: str) -> None:
    assert not list(list_local_paths(name))
