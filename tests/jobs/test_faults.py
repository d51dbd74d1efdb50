"""What networks and busy servers do, at every operation: a repetition that changes nothing, or a clear stop.

Three tables: operations of the store, reads of rasters, and whole runs. A proxy (`tests/proxy.py`) strikes between the
clients and a real server. Pauses and time limits are those of the product, made short.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.retryhandler
import fsspec
import numpy as np
import pytest

import batchseg.remote
import batchseg.scene.dataset
from batchseg.errors import AbsentSceneError, BatchsegError, ReadError, RefusedError, StorageError
from batchseg.objectstore import ObjectStore
from batchseg.paths import OutputKeys
from batchseg.recipe import Fleet, NodataPolicy
from batchseg.recipe.fleet import Retries
from batchseg.remote import read_facts
from batchseg.runs.session import Options, run
from batchseg.scene.dataset import SETTINGS
from batchseg.scene.header import read_header
from batchseg.scene.limited_source import LimitedSource
from batchseg.scene.pixels import Source
from batchseg.scene.source import open_source
from tests.jobs.test_s3 import changes_at, place_with_everything, product_of, upload
from tests.proxy import KINDS, Kind, Operation, Proxy, Strikes, proxy_of
from tests.runs import fake_pool, noise, product_bytes, write_scene
from tests.servers import BUCKET, radosgw
from tiling.span import Window

pytestmark = pytest.mark.real

SILENT: tuple[Kind, ...] = ("silence", "stall")
BIG = np.random.default_rng(0).bytes(10 * 2**20 + 1)
"""The least that s3fs puts in parts of 5 MiB."""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory) -> Iterator[Proxy]:
    """Everything asks through it, with little patience."""
    folder = tmp_path_factory.mktemp("faults")
    with (
        radosgw(folder / "server") as environment,
        proxy_of(environment) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (environment | {"AWS_ENDPOINT_URL": proxy.endpoint}).items():
            patch.setenv(name, value)
        patch.setenv("BATCHSEG_SCRATCH", str(folder / "scratch"))
        patch.setenv("BATCHSEG_CACHE", str(folder / "scratch" / "cache"))
        patch.setattr(batchseg.remote, "READ_TIMEOUT_S", 1.5)
        patch.setattr(batchseg.remote, "ATTEMPTS", 2)
        # botocore waits for up to a second before it asks again.
        patch.setattr(botocore.retryhandler, "delay_exponential", lambda **_: 0.02)
        patch.setattr(batchseg.remote, "ROUNDS", 3)
        patch.setattr(batchseg.remote, "PAUSE_S", 0.02)
        patch.setattr(batchseg.remote, "PART_BYTES", 5 * 2**20)
        patch.setattr(batchseg.scene.dataset, "READ_PATIENCE_S", 3)
        for name, value in {"LOW_SPEED_TIME": "1", "TIMEOUT": "2", "MAX_RETRY": "2", "RETRY_DELAY": "0.05"}.items():
            patch.setitem(SETTINGS, f"GDAL_HTTP_{name}", value)
        fsspec.config.conf.clear()
        yield proxy


@pytest.fixture(autouse=True)
def quiet(proxy):
    proxy.strike()
    yield
    proxy.strike()


# Operations of the store.


def _put_file(store: ObjectStore) -> bool:
    with store.scratch() as folder:
        (folder / "big").write_bytes(BIG)
        store.put_file("big", folder / "big")
    return store.get("big") == BIG


def _put(store: ObjectStore) -> bool:
    store.put("put", b"second" * 50)
    return store.get("put") == b"second" * 50


def _put_new(store: ObjectStore) -> bool:
    return store.put_new("new", b"me") is True and store.put_new("new", b"you") is False and store.get("new") == b"me"


def _delete(store: ObjectStore) -> bool:
    store.delete("there")
    return [key for key, _ in store.names("")] == []


CALLS: dict[Operation, Callable[[ObjectStore], bool]] = {
    "head": lambda store: read_facts(f"{store.url}/there")["size_bytes"] == 500,
    "get": lambda store: store.get("there") == b"first" * 100,
    "list": lambda store: dict(store.names("")) == {"there": 500},
    "put": _put,
    "put_new": _put_new,
    "begin_upload": _put_file,
    "part": _put_file,
    "end_upload": _put_file,
    "delete": _delete,
}
CASES = [(operation, kind, times) for operation in CALLS for kind in KINDS for times in (1, None)]


def _case_name(case: tuple[Operation, Kind, int | None]) -> str:
    operation, kind, times = case
    return f"{operation}-{kind}-{'once' if times else 'always'}"


@pytest.fixture(scope="module")
def outcomes(proxy) -> dict[str, Future[bool]]:
    """All cases side by side, each in a folder of its own: they are mostly silence, and the silent ones go first."""
    stores = {case: ObjectStore(f"s3://{BUCKET}/{_case_name(case)}") for case in CASES}
    for store in stores.values():
        store.put("there", b"first" * 100)
    proxy.strike(*(Strikes(kind, {op: times}, only=_case_name((op, kind, times))) for op, kind, times in CASES))
    with ThreadPoolExecutor(20) as threads:
        in_order = sorted(CASES, key=lambda case: (case[1] not in SILENT, case[2] is not None))
        found = {_case_name(case): threads.submit(CALLS[case[0]], stores[case]) for case in in_order}
    unstruck = [one["only"] for one in proxy.told()["strikes"] if not one["struck"]]
    assert unstruck == []
    proxy.strike()
    return found


@pytest.mark.parametrize("case", CASES, ids=_case_name)
def test_an_operation_is_repeated_or_fails_clearly(outcomes, case):
    _, kind, times = case
    outcome = outcomes[_case_name(case)]
    if kind == "expired_token":
        with pytest.raises(RefusedError, match=r"ExpiredToken|400"):
            outcome.result()
    elif times is None:
        with pytest.raises(StorageError):
            outcome.result()
    else:
        assert outcome.result()


def test_what_failed_left_nothing_half_done(outcomes):
    """A put whose answers were lost may have happened, and nothing else: no object is torn."""
    store = ObjectStore(f"s3://{BUCKET}")
    whole = {"there": 500, "put": 300, "new": 2, "big": len(BIG)}
    for key, size in store.names(""):
        assert size == whole[key.rpartition("/")[2]], key
    for operation, kind, times in CASES:
        if kind in ("error_500", "slow_down", "silence", "reset_request") and times is None and "put" in operation:
            keys = {key for key, _ in ObjectStore(f"s3://{BUCKET}/{_case_name((operation, kind, times))}").names("")}
            assert keys == {"there"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_of_uploads_is_cleared_away_or_left_to_the_bucket(proxy, monkeypatch, kind):
    """The one operation that few have the right to: it may fail, and stops nothing."""
    monkeypatch.setattr(batchseg.remote, "READ_TIMEOUT_S", 0.4)
    store = ObjectStore(f"s3://{BUCKET}/broom-{kind}")
    store.put("there", b"x")
    proxy.strike(Strikes(kind, {"uploads": None}))
    assert store.sweep(OutputKeys(frozenset({"there"}), frozenset())) == 0
    assert proxy.num_struck() > 0
    assert store.get("there") == b"x"


def test_the_fault_of_one_request_does_not_use_up_the_patience_of_others(proxy):
    store = ObjectStore(f"s3://{BUCKET}/patience")
    proxy.strike(Strikes("slow_down", {"put": None}, only="/lost"))

    def lose(number: int) -> None:
        with pytest.raises(StorageError):
            store.put(f"lost/{number}", b"x")

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lose, range(60)))
    proxy.strike(Strikes("error_500", {"put": 1}))
    store.put("kept", b"x")
    assert store.get("kept") == b"x"


# Reads of rasters by GDAL.


@pytest.fixture(scope="module")
def raster(proxy, tmp_path_factory) -> tuple[Source, np.ndarray]:
    proxy.strike()
    pixels_BHW = noise(300, 260)
    profile = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    path = Path(write_scene(tmp_path_factory.mktemp("raster") / "scene.tif", pixels_BHW, **profile))
    ObjectStore(f"s3://{BUCKET}/raster").put("scene.tif", path.read_bytes())
    header = read_header(f"s3://{BUCKET}/raster/scene.tif")
    return open_source(header.raster, (1, 2, 3), NodataPolicy(from_="none")), pixels_BHW


def read_in_new_thread(source: Source, window: Window) -> Any:
    """Handles belong to threads, so nothing is known of the file yet. The threads that limit reads are kept instead."""
    assert isinstance(source, LimitedSource)
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(source.source.read, window).result()


@pytest.mark.parametrize(("kind", "skip"), [*((kind, 0) for kind in KINDS), ("error_500", 1), ("reset_answer", 1)])
def test_a_read_is_repeated(proxy, raster, kind, skip):
    source, pixels_BHW = raster
    proxy.strike(Strikes(kind, {"range": 1}, skip=skip, only="scene.tif$"))
    found = read_in_new_thread(source, Window.of(10, 290, 5, 250))
    assert np.array_equal(found.raw_BHW, pixels_BHW[:, 10:290, 5:250])
    assert proxy.num_struck() == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operations", [("range",), ("range", "get", "head")], ids=["reads", "all"])
def test_a_read_fails_clearly(proxy, raster, monkeypatch, kind, operations):
    """Whether the other client, which is asked why, still gets through or not."""
    monkeypatch.setattr(batchseg.remote, "READ_TIMEOUT_S", 0.7)
    proxy.strike(Strikes(kind, dict.fromkeys(operations), skip=1))
    expected = RefusedError if kind == "expired_token" and "head" in operations else (ReadError, AbsentSceneError)
    with pytest.raises(expected, match=r"scene\.tif"):
        read_in_new_thread(raster[0], Window.of(10, 290, 5, 250))


# Whole runs.


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    place, changes = place_with_everything(folder, (96, 60), (40, 30))
    assert place.run(**changes).exit_status == 0
    return place, product_bytes(place.output)


@pytest.fixture
def base(request, proxy):
    return f"s3://{BUCKET}/{abs(hash(request.node.name)):x}-{os.getpid()}"


@pytest.mark.parametrize("kinds", [("error_500", "slow_down", "reset_request", "reset_answer", "lost_answer"), SILENT])
def test_a_run_over_a_bad_network_gives_the_same_bytes(proxy, place, base, monkeypatch, kinds):
    """Of all requests, whatever they are, about one in six is struck; one in thirty by silence."""
    monkeypatch.setattr(batchseg.remote, "READ_TIMEOUT_S", 0.8)
    workplace, expected = place
    upload(workplace.folder, base)
    nth = 61 if kinds == SILENT else 31
    proxy.strike(*(Strikes(kind, nth=nth, skip=7 * number) for number, kind in enumerate(kinds)))
    outcome = run(workplace.recipe(**changes_at(base), output=f"{base}/remote"), open_pool=fake_pool)
    assert proxy.num_struck() > 5
    proxy.strike()
    assert outcome.exit_status == 0
    assert not outcome.metrics.quarantined
    assert product_of(f"{base}/remote") == expected


@pytest.mark.parametrize(("kind", "at"), [("expired_token", 10), ("expired_token", 150), ("reset_answer", 200)])
def test_a_server_that_fails_for_good_stops_the_run_and_the_same_command_goes_on(proxy, place, base, kind, at):
    workplace, expected = place
    upload(workplace.folder, base)
    recipe = workplace.recipe(**changes_at(base), output=f"{base}/remote")
    proxy.strike(Strikes(kind, skip=at))
    with pytest.raises(BatchsegError) as caught:
        run(recipe, Fleet(retries=Retries(failures=1)), open_pool=fake_pool)
    assert caught.value.exit_status in ((2, 5) if kind == "expired_token" else (1, 2, 5))
    assert "\n" not in str(caught.value)
    proxy.strike()
    # What an expired token stops is given up by nobody; a server that is only bad may cost a chunk its attempts.
    options = Options(retry_quarantined=kind != "expired_token")
    outcome = run(recipe, open_pool=fake_pool, options=options)
    assert outcome.exit_status == 0
    assert not outcome.metrics.quarantined
    assert product_of(f"{base}/remote") == expected
