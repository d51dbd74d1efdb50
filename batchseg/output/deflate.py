"""zlib streams that are a function of their input alone (invariant I2).

ISA-L compresses ten times as fast as zlib, but a plain call does not give reproducible bytes. At levels 1 and 2, the
assembly that encodes the first byte of a stream takes the hash of the third byte from a register that holds an address.
The table of earlier positions then has one entry in a place that depends on where the compressor's state happens to lie
(stack of the thread, random layout of the process). About one stream in three thousand comes out with another, equally
correct, choice of matches. Levels 0 and 3 do not have the fault. Level 0 makes streams a quarter larger; level 3 takes
many times as long.

So this module flushes the first bytes alone. They are too few to reach the faulty routine: another one encodes them,
and everything after them has a history. This costs an extra block header, a few bytes per stream, and no measurable
time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from batchseg.errors import DamagedError, WriteError

_LEVEL = 1
_ALONE_BYTES = 8
"""Size of the first flush. The good routine needs a few bytes, as it leaves the last three; the faulty one needs 16."""


def deflate(array: NDArray[Any]) -> tuple[bytes, int]:
    """Compress the bytes of an array.

    Returns:
        The zlib stream, and the Adler-32 of the bytes, which was compared with the one at the end of the stream.

    Raises:
        WriteError: The two differ.
    """
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    compressor = isal_zlib.compressobj(_LEVEL)
    pieces = [compressor.compress(raw[:_ALONE_BYTES]), compressor.flush(isal_zlib.Z_SYNC_FLUSH)]
    pieces += [compressor.compress(raw[_ALONE_BYTES:]), compressor.flush()]
    stream = b"".join(pieces)
    adler32 = isal_zlib.adler32(raw)
    if stream[-4:] != adler32.to_bytes(4, "big"):
        raise WriteError(
            "a compressed stream must end with the checksum of its bytes",
            expected=f"{adler32:08x}",
            got=stream[-4:].hex(),
        )
    return stream, adler32


def inflate(stream: bytes, size_bytes: int) -> bytes:
    """Decompress a stream, which must hold `size_bytes` bytes.

    Raises:
        DamagedError: The stream does not decode, or has another length.
    """
    try:
        raw = isal_zlib.decompress(stream, bufsize=size_bytes)
    except IsalError as error:  # type: ignore[misc]  # its stub declares an instance, not a class
        raise DamagedError("a stream does not decode", got=str(error)) from error
    if len(raw) != size_bytes:
        raise DamagedError("a stream has another length", expected=f"{size_bytes} bytes", got=f"{len(raw)}")
    return bytes(raw)
