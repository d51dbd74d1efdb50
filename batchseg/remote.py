"""Access to servers: filesystems of fsspec for objects, and the same servers for GDAL.

One environment configures both. Its two readers, s3fs (botocore) and GDAL, know different variables; this module
translates between them:

    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL    http://host:port; GDAL's AWS_S3_ENDPOINT with AWS_HTTPS works too
    AWS_REGION, AWS_DEFAULT_REGION
    AWS_NO_SIGN_REQUEST=YES                  no credentials: public buckets
    AWS_REQUEST_PAYER=requester              the reader pays
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, roles of machines: left to the clients

Nothing here is ever written down: workers find the same environment, not a copy of it.
"""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urljoin

import fsspec

from batchseg.errors import BatchsegError, InputError, RefusedError, StorageError
from batchseg.known_secrets import learn_credentials
from batchseg.link_local import is_link_local, split_host
from batchseg.redact import has_credentials

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
"""The silence after which a connection is given up and the request is made again."""
ATTEMPTS = 3
"""Attempts per request within a client, which retries parts of uploads and pages of lists one by one. botocore's
standard mode is not used: it has one budget of retries for all requests together, and once a busy server has used it
up, the next passing fault is final."""
ROUNDS, PAUSE_S = 4, 1.0
"""Attempts per operation, with any client, and the first pause. The pauses are about 1, 4 and 16 s, so a server that
says SlowDown gets about half a minute, and an answer that broke off is requested again."""
MOST_READ_TIMEOUTS = 3
"""The longest operation that is tried again, in read timeouts: after that a silent server counts as down."""

_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs"})
"""Schemes whose clients would take a user with a password for the name of a bucket."""
PART_BYTES, PARTS_AT_ONCE = 16 * 2**20, 4

_REFUSALS = frozenset(
    {
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "NoSuchBucket",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "400",
        "401",
        "403",
    }
)
"""Answers that a retry does not change: credentials, rights, clocks and missing buckets. Answers to HEAD have numbers
only; Amazon answers an expired token with 400 there."""


def is_remote(url: str) -> bool:
    """Test if an address leads to a server; `file://` and GDAL's own names do not."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.isalnum() and scheme != "file"


def find_endpoint_url() -> str | None:
    """The server behind `s3://`; None for Amazon's."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    host = os.environ.get("AWS_S3_ENDPOINT")
    if url or not host:
        return url or None
    if "://" in host:
        return host
    return f"{'http' if _says_no('AWS_HTTPS') else 'https'}://{host}"


def make_gdal_options() -> dict[str, str]:
    """The options that GDAL does not read from the environment itself. They hold no secrets: GDAL finds those."""
    url = find_endpoint_url()
    options: dict[str, str] = {}
    if url is not None:
        scheme, _, host = url.rstrip("/").partition("://")
        # GDAL wants the host without a scheme. Buckets as host names work on Amazon only.
        options |= {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": "YES" if scheme == "https" else "NO"}
        options["AWS_VIRTUAL_HOSTING"] = os.environ.get("AWS_VIRTUAL_HOSTING", "FALSE")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return options | ({"AWS_REGION": region} if region else {})


def open_filesystem(url: str) -> tuple[Any, str]:
    """A filesystem of fsspec and the path in it. A process shares the instances."""
    learn_credentials(url)
    scheme = url.partition("://")[0]
    if scheme in _BUCKETS and has_credentials(url):
        raise InputError(
            "the address of a bucket must not hold credentials",
            where=url,
            todo="set them in the environment (docs/object-storage.md)",
        )
    try:
        files, path = fsspec.url_to_fs(url, **_options(scheme))
    except (ImportError, ValueError) as error:
        raise InputError(
            "this kind of storage needs a package", where=url, got=str(error), todo="install it, or copy the files"
        ) from error
    if scheme == "s3":
        files.retries = 1  # botocore retries failed requests, and `ask_patiently` broken ones
    return files, path.rstrip("/")


def _options(scheme: str) -> dict[str, Any]:
    if scheme in ("http", "https"):
        # No character of a signed URL may change.
        return {"encoded": True, "client_kwargs": {"trace_configs": [_watch_redirects()]}}
    if scheme != "s3":
        return {"use_listings_cache": False}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return {
        "use_listings_cache": False,
        "anon": _says_yes("AWS_NO_SIGN_REQUEST"),
        "requester_pays": os.environ.get("AWS_REQUEST_PAYER") == "requester",
        "endpoint_url": find_endpoint_url(),
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"mode": "legacy", "total_max_attempts": ATTEMPTS},
            "max_pool_connections": 32,
        },
    }


@functools.cache
def _watch_redirects() -> Any:
    """Watch the requests of an HTTP client: a server must not send it to a link-local address."""
    import aiohttp

    async def check(_session: Any, _context: Any, redirect: Any) -> None:
        target = urljoin(str(redirect.url), redirect.response.headers.get("Location", ""))
        if is_link_local(split_host(target)[1], ask_dns=True):
            raise RefusedError("the server leads to a link-local address, which is never read", got=target)

    watch = aiohttp.TraceConfig()
    watch.on_request_redirect.append(check)
    return watch


def _says_yes(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("YES", "TRUE", "ON", "1")


def _says_no(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("NO", "FALSE", "OFF", "0")


def ask_patiently(what: str, where: str, ask: Callable[[], T]) -> T:
    """Make a request that may be made any number of times, again after a passing failure."""

    def ask_once() -> T:
        with translate_errors(what, where):
            return ask()

    return retry(ask_once, StorageError, most_s=MOST_READ_TIMEOUTS * READ_TIMEOUT_S)


def retry(ask: Callable[[], T], passing: type[Exception], *, most_s: float) -> T:
    """Call `ask` again after a passing error, with growing pauses (backoff), for at most `most_s` seconds."""
    begun_s = time.monotonic()
    for number in range(1, ROUNDS):
        try:
            return ask()
        except passing:
            if time.monotonic() - begun_s > most_s:
                raise
        time.sleep(PAUSE_S * 4 ** (number - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
    return ask()


@contextmanager
def translate_errors(what: str, where: str) -> Iterator[None]:
    """Turn the errors of storage clients into RefusedError or StorageError. FileNotFoundError is an answer and passes.

    NoSuchUpload is an error: a server answers it to a client that ends an upload twice because the first answer got
    lost.
    """
    try:
        yield
    except BatchsegError:
        raise
    except Exception as error:
        refusal = error.__cause__ or error.__context__
        if isinstance(refusal, RefusedError):
            raise refusal from None  # fsspec takes any failure for a missing object
        code = find_error_code(error)
        if isinstance(error, FileNotFoundError) and code not in ("NoSuchBucket", "NoSuchUpload"):
            raise
        got = " ".join(f"{type(error).__name__}: {error}".split())
        if code in _REFUSALS or isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
            raise RefusedError(
                f"the server refuses to {what}",
                where=where,
                got=f"{code}: {got}" if code else got,
                todo="check credentials, rights, bucket and endpoint; then run the same command again",
            ) from None
        if isinstance(error, (OSError, TimeoutError)) or code or _is_of_a_client(error):
            # Without the cause, because messages of clients hold whole requests.
            raise StorageError(f"the server failed to {what}", where=where, got=got) from None
        raise


def find_error_code(error: BaseException | None) -> str | None:
    """The error code of the server, from an error or its causes."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return str(response["Error"].get("Code"))
        error = error.__cause__ or error.__context__
    return None


def _is_of_a_client(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("aiobotocore", "aiohttp", "botocore", "gcsfs", "adlfs", "s3fs")


def read_facts(url: str) -> dict[str, Any]:
    """Size, ETag and time of an object, as far as the server knows them; FileNotFoundError where there is none."""
    files, path = open_filesystem(url)
    info = ask_patiently("tell about an object", url, lambda: files.info(path))
    named = {name.lower().replace("-", "_"): value for name, value in info.items()}
    facts = {
        "size_bytes": named.get("size"),
        "etag": named.get("etag"),
        "modified": named.get("lastmodified") or named.get("last_modified"),
    }
    return {name: value if isinstance(value, int) else str(value).strip('"') for name, value in facts.items() if value}


def list_matching(pattern: str) -> list[str]:
    """The objects that match a pattern like s3://bucket/2026/*.tif, sorted."""
    files, path = open_filesystem(pattern)
    return sorted(map(files.unstrip_protocol, ask_patiently("list objects", pattern, lambda: files.glob(path))))


def make_read_options(files: Any) -> dict[str, int]:
    """Options to read an object in one request.

    By default s3fs reads ranges side by side: of two versions, if the object is replaced meanwhile, and with zeros
    where an answer is too short.
    """
    return {"max_concurrency": 1} if _is_s3(files) else {}


def make_upload_options(files: Any) -> dict[str, int]:
    """Options for the upload of a file. By default s3fs holds ten parts of 50 MiB in memory."""
    return {"chunksize": PART_BYTES, "max_concurrency": PARTS_AT_ONCE} if _is_s3(files) else {}


def _is_s3(files: Any) -> bool:
    return "s3" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))


def read_object(url: str) -> bytes:
    files, path = open_filesystem(url)
    content: bytes = ask_patiently("give an object", url, lambda: files.cat_file(path, **make_read_options(files)))
    return content


def list_siblings(url: str) -> list[str]:
    """The objects beside one that share its name up to the suffix, itself included: a shapefile has four or more."""
    files, path = open_filesystem(url)
    folder = str(PurePosixPath(path).parent)
    names = ask_patiently("list objects", url, lambda: files.ls(folder, detail=False))
    stem = PurePosixPath(path).stem
    return [files.unstrip_protocol(name) for name in names if PurePosixPath(name).stem == stem]
