"""zlib streams that are a function of their input alone (invariant I2).

ISA-L packs ten times as fast as zlib, but called plainly its bytes are not reproducible. At levels 1 and 2 the assembly
that encodes the very first byte of a stream takes the hash of the third byte from a register that holds an address. The
table of earlier positions then has one entry in a place that depends on where the compressor's state happens to lie
(stack of the thread, random layout of the process), and about one stream in three thousand comes out with another,
equally correct, choice of matches. Levels 0 and 3 do not have the fault; 0 packs a quarter less, 3 takes many times as
long.

So the first bytes are flushed alone. So few never reach the faulty routine: another one encodes them, and all that
follows has a history. This costs an extra block header, some bytes a stream, and no time that can be measured.
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
"""Enough for the other routine to encode one byte (it leaves the last three aside), too few for the faulty one (16)."""


def deflate(array: NDArray[Any]) -> tuple[bytes, int]:
    """The zlib stream of an array's bytes, and their adler32, which was compared with the one in the stream."""
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    packer = isal_zlib.compressobj(_LEVEL)
    pieces = [packer.compress(raw[:_ALONE_BYTES]), packer.flush(isal_zlib.Z_SYNC_FLUSH)]
    pieces += [packer.compress(raw[_ALONE_BYTES:]), packer.flush()]
    stream = b"".join(pieces)
    adler32 = isal_zlib.adler32(raw)
    if stream[-4:] != adler32.to_bytes(4, "big"):
        raise WriteError("bytes were not compressed whole", expected=f"{adler32:08x}", got=stream[-4:].hex())
    return stream, adler32


def inflate(stream: bytes, size_bytes: int) -> bytes:
    """The bytes of a stream, which must be `size_bytes`."""
    try:
        raw = isal_zlib.decompress(stream, bufsize=size_bytes)
    except IsalError as error:  # type: ignore[misc]  # its stub declares an instance, not a class
        raise DamagedError("a stream does not decode", got=str(error)) from error
    if len(raw) != size_bytes:
        raise DamagedError("a stream has another length", expected=f"{size_bytes} bytes", got=f"{len(raw)}")
    return bytes(raw)
