"""Places where a credential is planted, and a look at everything that the commands wrote and said since.

One word is in each credential, with the place where it was planted, so that a leak tells where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
import yaml

import batchseg.remote
from batchseg import known_secrets
from tests.jobs.command_line import use
from tests.leaks import find_leaks
from tests.runs import UTM, fake_pool, noise, write_fake_bundle, write_scene
from tests.signed_server import serve_signed

WORD = "Cn4ryQx7Zp"
SIGNATURE = f"{WORD}Signature0123/+="
QUERY = f"X-Amz-Credential={WORD}Key0123%2F2026&X-Amz-Signature={WORD}Signature0123%2F%2B%3D&X-Amz-Expires=60"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": f"{WORD}KeyOfAws01",
    "AWS_SECRET_ACCESS_KEY": f"{WORD}SecretOf/Aws+01",
    "AWS_SESSION_TOKEN": f"{WORD}SessionOfAws01",
    "AZURE_CLIENT_SECRET": f"{WORD}SecretOfAzure01",
    "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=a;AccountKey={WORD}KeyOfAzure01==;EndpointSuffix=x",
    "GDAL_HTTP_HEADERS": f"X-Extra-Token: {WORD}HeaderOfGdal01",
    "GDAL_HTTP_COOKIE": f"session={WORD}CookieOfGdal01",
    "RAY_AUTH_TOKEN": f"{WORD}TokenOfRay01",
    "MY_API_KEY": f"{WORD}KeyOfService01",
}


@pytest.fixture(autouse=True)
def plant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    for name in ("BATCHSEG_CACHE", "BATCHSEG_SCRATCH", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr(known_secrets, "_learnt", type(known_secrets._learnt)())
    monkeypatch.setattr(batchseg.remote, "PAUSE_S", 0.01)
    monkeypatch.setattr("batchseg.scene.dataset.GDAL_RETRIES", 0)
    monkeypatch.setitem(
        __import__("batchseg.scene.dataset", fromlist=["SETTINGS"]).SETTINGS, "GDAL_HTTP_MAX_RETRY", "0"
    )
    use(monkeypatch, fake_pool)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder `inputs` with scenes, labels and polygons, and one for recipes and outputs."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for number in range(3):
        write_scene(inputs / f"scene{number}.tif", noise(40, 40, seed=number))
    write_scene(inputs / "labels.tif", noise(40, 40, bands=1) % 5)
    polygon = shapely.box(500_000, 4_999_980, 500_020, 5_000_000)
    geopandas.GeoDataFrame({"kind": ["town"]}, geometry=[polygon], crs=UTM).to_file(inputs / "town.geojson")
    (tmp_path / "work").mkdir()
    write_fake_bundle(tmp_path / "work" / "bulk")
    write_fake_bundle(tmp_path / "work" / "heavy", tier="heavy")
    return tmp_path / "work"


@pytest.fixture
def host(place: Path) -> Iterator[str]:
    with serve_signed(place.parent / "inputs", WORD) as address:
        yield address


def list_addresses(host: str) -> list[str]:
    """The three scenes, each with another kind of credential."""
    inner = f"http%3A%2F%2F{host.replace(':', '%3A')}%2Fscene1.tif"
    return [
        f"http://{host}/scene0.tif?{QUERY}",
        f"/vsicurl?cookie=session%3D{WORD}OptionOfGdal01&url={inner}%3Fsig%3D{WORD}Inner01",
        f"/vsicurl/http://user:{WORD}Password01@{host}/scene2.tif",
    ]


def write_recipe(place: Path, local: list[str], **changes: Any) -> str:
    values = {
        "scenes": local,
        "output": str(place / "out"),
        "models": {"bulk": str(place / "bulk"), "heavy": str(place / "heavy")},
        "tiling": {"core": 16, "chunk": 32, "halo": {"bulk": 8, "heavy": 8}},
    }
    (place / "recipe.yaml").write_text(yaml.safe_dump(values | changes))
    return str(place / "recipe.yaml")


def check(place: Path, told: pytest.CaptureFixture[str], **texts: str) -> str:
    """What was printed, after a look at that and at all files but the recipe and the inputs."""
    captured = told.readouterr()
    for path in place.glob("*.yaml"):
        path.rename(path.with_suffix(".hidden"))
    hidden = {path: path.read_bytes() for path in place.glob("*.hidden")}
    for path in hidden:
        path.unlink()
    folders = [place, *(place.parent / name for name in ("BATCHSEG_CACHE", "BATCHSEG_SCRATCH", "TMPDIR"))]
    leaks = find_leaks(*folders, secret=WORD, texts={"stdout": captured.out, "stderr": captured.err} | texts)
    for path, content in hidden.items():
        path.with_suffix(".yaml").write_bytes(content)
    assert leaks == [], captured
    return captured.out + captured.err
