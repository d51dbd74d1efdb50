"""Opening rasters with GDAL: one place for its settings, its paths, its warnings and its exceptions.

Theory of operation
-------------------
GDAL datasets belong to one thread. Each thread keeps its own few open handles, by file and version of the file, so that
a scene is opened once a thread and a run over thousands of scenes does not run out of file descriptors. A handle whose
read failed is closed: the next try opens the file again.

Decoders differ in how they take damage. Most fail, which rasterio raises. JPEG and PackBits fill what is missing and
only warn; rasterio logs that, so the log of the reading thread is watched during a read. Other warnings may pass.

Settings that belong to the process (the block cache) are made once; all others travel with each call, because another
library in the same process may have its own.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from batchseg.errors import ReadError, StorageError
from batchseg.remote import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, T, is_remote, make_gdal_options, read_facts, retry
from batchseg.scene.identity import FileIdentity, check_unchanged
from batchseg.scene.names import gdal_path

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""All that rasterio raises for what GDAL says."""

BLOCK_CACHE_BYTES = 128 * 2**20
"""GDAL would take 5 % of the memory. Tiled files need next to none, as chunks are read once. In a striped file the next
chunk to the right lies in the same strips: 8192 px wide, it reads twice as fast with this as with half of it."""

RAW_BLOCKS_BYTES = 128 * 2**20
"""Of one read on a server: so many bytes of stored blocks are asked for at once, neighbours in the file as one request.
What lies beyond is asked for bit by bit, one request after another, and GDAL's own limit of 10 MB is less than a chunk.
In memory there is never more than the blocks of one read take in the file."""

GDAL_RETRIES = 5
REQUEST_S, READ_PATIENCE_S = 120, 300
"""One request of GDAL, which does not always see that an answer stands still; and one read with its repetitions."""

SETTINGS: dict[str, Any] = {
    # Sidecars (.msk, .aux.xml, world files) are asked for one by one: a folder of a million files is never listed.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    # Decoding with several threads is up to 1.7 times faster and takes a fifth more of the processor in all, which is
    # worth it only where cores are left over beside the model.
    "GDAL_NUM_THREADS": str(max(1, min(4, (os.cpu_count() or 1) // 4))),
    # A JPEG file that is cut short would otherwise be filled with grey.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": str(RAW_BLOCKS_BYTES),
    # Remote files: a request that fails in passing is made again, a silent server is given up, and what was learnt of
    # a file (that it is not there, say) is forgotten when it is closed, so that a second try is one.
    "GDAL_HTTP_CONNECTTIMEOUT": str(CONNECT_TIMEOUT_S),
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": str(READ_TIMEOUT_S),
    "GDAL_HTTP_TIMEOUT": str(REQUEST_S),
    "GDAL_HTTP_MAX_RETRY": str(GDAL_RETRIES),
    "GDAL_HTTP_RETRY_DELAY": "0.3",
    # An address is often signed for one method only.
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    "CPL_VSIL_CURL_NON_CACHED": "/vsis3/:/vsigs/:/vsiaz/:/vsicurl/",
}

OPEN_PER_THREAD = 16
_warnings_lock = threading.Lock()


_DAMAGE = re.compile(r"Corrupt JPEG|Premature end of JPEG|Invalid JPEG|PackBitsDecode")


class _Handles(threading.local):
    def __init__(self) -> None:
        self.by_key: OrderedDict[tuple[str, FileIdentity], Any] = OrderedDict()


_handles = _Handles()


class _DamageLog(logging.Handler):
    """Keeps what GDAL says of damaged blocks, a thread at a time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._heard = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if _DAMAGE.search(text):
            self._heard.text = text

    def take(self) -> str | None:
        text: str | None = self._heard.__dict__.pop("text", None)
        return text


@contextmanager
def gdal() -> Iterator[None]:
    """Our settings, in this thread, for as long as the block runs."""
    _bound_block_cache()
    with rasterio.Env(**SETTINGS, **make_gdal_options()):
        yield


@functools.cache
def _bound_block_cache() -> None:
    set_gdal_config("GDAL_CACHEMAX", BLOCK_CACHE_BYTES)


@functools.cache
def _damage_log() -> _DamageLog:
    log = _DamageLog()
    logging.getLogger("rasterio").addHandler(log)
    return log


@contextmanager
def ignore_missing_georeference() -> Iterator[None]:
    """Where rasters without a place on the ground are no surprise; one thread at a time, as filters belong to all."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_raster(url: str) -> Any:
    """A dataset to be closed by the caller, inside `gdal()`."""
    with ignore_missing_georeference():
        return rasterio.open(gdal_path(url))


@contextmanager
def use_handle(url: str, identity: FileIdentity, where: str) -> Iterator[Any]:
    """A handle of this thread only. What GDAL raises inside the block becomes a ReadError that says `where`."""
    key = (url, identity)
    with gdal():
        _damage_log().take()
        try:
            yield _handle(key)
        except GDAL_ERRORS as error:
            _close(key)
            with suppress(FileNotFoundError):
                check_rights(url)
            raise ReadError("the raster could not be read", where=where, got=find_reason(error)) from error
        damage = _damage_log().take()
        if damage is not None:
            # The handle's cache holds the patched-up block.
            _close(key)
            raise ReadError("the raster is damaged", where=where, got=damage)


def _handle(key: tuple[str, FileIdentity]) -> Any:
    handles = _handles.by_key
    if key in handles:
        handles.move_to_end(key)
        return handles[key]
    check_unchanged(*key)
    while len(handles) >= OPEN_PER_THREAD:
        handles.popitem(last=False)[1].close()
    # Whose header named no other file with pixels needs none now: GDAL would ask for some twenty, one after another.
    alone = is_remote(key[0]) and key[1].remote_parts is None
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR") if alone else nullcontext():
        handles[key] = open_raster(key[0])
    return handles[key]


def _close(key: tuple[str, FileIdentity]) -> None:
    dataset = _handles.by_key.pop(key, None)
    if dataset is not None:
        dataset.close()


def check_rights(url: str) -> None:
    """GDAL does not say why a server gives nothing; the other client raises where asking again is of no use."""
    if is_remote(url):
        with suppress(StorageError):
            read_facts(url)


def retry_if_remote(url: str, read: Callable[[], T]) -> T:
    """GDAL repeats requests that a server refuses in passing, but not those whose answers stall or break off."""
    return retry(read, ReadError, most_s=READ_PATIENCE_S) if is_remote(url) else read()


def find_reason(error: BaseException) -> str:
    """GDAL's own words: the deepest cause, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = getattr(error, "errmsg", None) or str(error)
    return " ".join(str(text).split())
