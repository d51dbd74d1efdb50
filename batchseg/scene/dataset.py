"""Opens rasters with GDAL: the one place for its settings, its warnings and its exceptions.

Theory of operation
-------------------
GDAL datasets belong to one thread. Each thread keeps its own few open handles, by file and version of the file, so that
a scene is opened once per thread and a run over thousands of scenes does not run out of file descriptors. A handle
whose read failed is closed, and the next try opens the file again.

Decoders react to damage in different ways. Most fail, and rasterio raises an error. JPEG and PackBits fill the missing
pixels and only warn. Rasterio logs these warnings, so the log of the reading thread is watched during a read; other
warnings are ignored.

The block cache belongs to the process and is limited once. All other settings travel with each call, because another
library in the same process may have settings of its own.
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
from rasterio.io import DatasetReader

from batchseg.errors import AbsentSceneError, ReadError, StorageError
from batchseg.known_secrets import learn_credentials
from batchseg.remote import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, T, is_remote, make_gdal_options, read_facts, retry
from batchseg.scene.identity import FileIdentity, check_unchanged
from batchseg.scene.names import gdal_path
from batchseg.scene.pixel_files import list_pixel_files
from batchseg.scene.raster_file import RasterFile

GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""All errors that rasterio raises for GDAL's errors."""

BLOCK_CACHE_BYTES = 128 * 2**20
"""Size of GDAL's cache of decoded blocks; GDAL's default is 5 % of the memory. Tiled files need next to none, because
chunks are read once. In a striped file the next chunk to the right lies in the same strips: with chunks of 8192 px,
this size reads twice as fast as half of it."""

RAW_BLOCKS_BYTES = 128 * 2**20
"""Number of bytes of stored blocks that one remote read requests at once, with neighbours in the file as one request.
GDAL requests the rest block by block, one request after another; its own limit of 10 MB is less than a chunk. The
memory in use never exceeds the stored size of the blocks of one read."""

GDAL_RETRIES = 5
REQUEST_S = 120
"""Time limit of one request: GDAL does not always notice that an answer has stalled."""
READ_PATIENCE_S = 300
"""Time limit of one read with all its retries."""

SETTINGS: dict[str, str] = {
    # Sidecars (.msk, .aux.xml, world files) are requested one by one: a folder of a million files is never listed.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    # Decoding with several threads is up to 1.7 times faster and takes a fifth more processor time in total, which is
    # worth it only where the model leaves cores free.
    "GDAL_NUM_THREADS": str(max(1, min(4, (os.cpu_count() or 1) // 4))),
    # GDAL would otherwise fill the missing end of a truncated JPEG with grey.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": str(RAW_BLOCKS_BYTES),
    # Remote files: a request that fails temporarily is repeated and a silent server is given up. GDAL forgets what it
    # learnt of a file (for example that it is missing) when the file is closed, so that a retry asks the server again.
    "GDAL_HTTP_CONNECTTIMEOUT": str(CONNECT_TIMEOUT_S),
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": str(READ_TIMEOUT_S),
    "GDAL_HTTP_TIMEOUT": str(REQUEST_S),
    "GDAL_HTTP_MAX_RETRY": str(GDAL_RETRIES),
    "GDAL_HTTP_RETRY_DELAY": "0.3",
    # GDAL would write the size of the content beside a compressed file.
    "CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO",
    # A VRT may hold functions in Python, which its maker wrote.
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # An address is often signed for one HTTP method only.
    "CPL_VSIL_CURL_USE_HEAD": "NO",
    "CPL_VSIL_CURL_NON_CACHED": "/vsis3/:/vsigs/:/vsiaz/:/vsicurl/",
}

OPEN_PER_THREAD = 16
"""Number of files that a thread keeps open."""
_warnings_lock = threading.Lock()
_DAMAGE = re.compile(r"Corrupt JPEG|Premature end of JPEG|Invalid JPEG|PackBitsDecode")


class _Handles(threading.local):
    """Open datasets of one thread, the least recently used first."""

    def __init__(self) -> None:
        self.by_key: OrderedDict[tuple[str, FileIdentity], Any] = OrderedDict()


_handles = _Handles()


class _DamageLog(logging.Handler):
    """Keeps the last warning about a damaged block, per thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if _DAMAGE.search(text):
            self._last.text = text

    def take(self) -> str | None:
        """Return the warning of this thread, and forget it."""
        text: str | None = self._last.__dict__.pop("text", None)
        return text


@contextmanager
def gdal() -> Iterator[None]:
    """Apply these settings in this thread while the block runs."""
    _limit_block_cache()
    with rasterio.Env(**SETTINGS, **make_gdal_options()):
        yield


@functools.cache
def _limit_block_cache() -> None:
    set_gdal_config("GDAL_CACHEMAX", BLOCK_CACHE_BYTES)


@functools.cache
def _get_damage_log() -> _DamageLog:
    log = _DamageLog()
    logging.getLogger("rasterio").addHandler(log)
    return log


@contextmanager
def ignore_missing_georeference() -> Iterator[None]:
    """Ignore warnings about rasters without a place on the ground; one thread at a time, since filters are global."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextmanager
def use_handle(raster: RasterFile, where: str) -> Iterator[Any]:
    """Use this thread's handle of a file.

    Args:
        raster: The file, in the version that the run was planned with.
        where: Place of the read, for messages.

    Raises:
        ReadError: GDAL failed inside the block, or decoded a damaged block.
        AbsentSceneError: The file is gone or of another version, or it cannot be opened any more.
    """
    key = (raster.url, raster.identity)
    with gdal():
        _get_damage_log().take()
        try:
            yield _find_handle(raster, key)
        except GDAL_ERRORS as error:
            _close(key)
            check_unchanged(*key)
            raise ReadError("the raster could not be read", where=where, got=find_reason(error)) from error
        damage = _get_damage_log().take()
        if damage is not None:
            # The handle's cache holds the block with its filled gaps.
            _close(key)
            raise ReadError("the raster is damaged", where=where, got=damage)


def _find_handle(raster: RasterFile, key: tuple[str, FileIdentity]) -> Any:
    handles = _handles.by_key
    if key in handles:
        handles.move_to_end(key)
        return handles[key]
    check_unchanged(*key)
    while len(handles) >= OPEN_PER_THREAD:
        handles.popitem(last=False)[1].close()
    # GDAL would look for some twenty sidecars, one after another; the header has shown that there are none with pixels.
    is_alone = is_remote(key[0]) and key[1].remote_parts is None
    alone = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR") if is_alone else nullcontext()
    with alone, ignore_missing_georeference():
        dataset = _open_again(raster)
    try:
        if not is_alone:
            _check_files(raster, dataset)
    except BaseException:
        dataset.close()
        raise
    handles[key] = dataset
    return dataset


def _check_files(raster: RasterFile, dataset: Any) -> None:
    """Raise AbsentSceneError for a mask, or another file with pixels, that has come since the run was planned."""
    known = {part.url for part in raster.parts} | {raster.url}
    new = [name for name in list_pixel_files(raster.url, dataset.files, {}) if name not in known]
    if new:
        raise AbsentSceneError(
            "a file with pixels of the scene has been added since the run was planned",
            where=raster.url,
            got=new[0],
            todo="remove it, or run the recipe again into another output folder",
        )


def _open_again(raster: RasterFile) -> Any:
    """Open a file whose header was read before. What fails now says nothing of single windows."""
    learn_credentials(raster.url)
    try:
        # The driver that the plan found: another one that also takes the file may read it otherwise.
        return DatasetReader(gdal_path(raster.url), driver=raster.driver)
    except GDAL_ERRORS as error:
        check_unchanged(raster.url, raster.identity)
        if is_remote(raster.url):  # the object is there, so that another try may go through
            raise ReadError("the file could not be opened", where=raster.url, got=find_reason(error)) from error
        raise AbsentSceneError(
            "the file cannot be opened any more", where=raster.url, got=find_reason(error)
        ) from error


def _close(key: tuple[str, FileIdentity]) -> None:
    dataset = _handles.by_key.pop(key, None)
    if dataset is not None:
        dataset.close()


def check_rights(url: str) -> None:
    """Raise RefusedError or FileNotFoundError where a retry is useless; GDAL does not say why a server refuses."""
    if is_remote(url):
        with suppress(StorageError):
            read_facts(url)


def retry_if_remote(url: str, read: Callable[[], T]) -> T:
    """Retry a remote read: GDAL repeats requests that a server refuses, but not answers that stall or break off."""
    return retry(read, ReadError, most_s=READ_PATIENCE_S) if is_remote(url) else read()


def find_reason(error: BaseException) -> str:
    """Find GDAL's own message, the deepest cause, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = getattr(error, "errmsg", None) or str(error)
    return " ".join(str(text).split())
