"""Streams decode with any zlib, and are the same wherever the compressor's state lies in memory."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchseg.errors import DamagedError
from batchseg.output.deflate import deflate, inflate


@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(max_dims=2, max_side=60, min_side=0)))
def test_zlib_decodes_every_stream(array):
    stream, adler32 = deflate(array)
    assert zlib.decompress(stream) == array.tobytes() == inflate(stream, array.nbytes)
    assert adler32 == zlib.adler32(array.tobytes())


def make_patches(seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 200, (3, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    return np.diff(codes, axis=1, prepend=np.uint8(0))


def test_a_stream_depends_on_its_input_alone():
    """A plain call of ISA-L gives other bytes for some of these arrays on some of these threads in most runs."""
    arrays = [make_patches(seed) for seed in range(1500)]
    with ThreadPoolExecutor(48) as pool:
        streams = [list(pool.map(lambda array: deflate(array)[0], arrays)) for _ in range(3)]
    assert all(repeated == streams[0] for repeated in streams)


@pytest.mark.parametrize("size_bytes", [575, 577])
def test_a_stream_of_another_length_is_damaged(size_bytes):
    with pytest.raises(DamagedError, match="another length"):
        inflate(deflate(make_patches(0))[0], size_bytes)


def test_a_broken_stream_is_damaged():
    stream = bytearray(deflate(make_patches(0))[0])
    stream[-1] ^= 1
    with pytest.raises(DamagedError, match="does not decode"):
        inflate(bytes(stream), 576)
