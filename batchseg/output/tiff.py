"""The container of a TIFF: read the directories (IFDs) of a file, lay out the head of a new one.

This is only what the writer of COGs needs: little-endian files, classic or BigTIFF. A head is

    signature, offset of the first directory | lead (GDAL's note on the structure) | directory 0, its values |
    directory 1, its values | ...

and everything after it is blocks of pixels. A directory is a table of tags sorted by code. A value that fits into its
entry (4 bytes, 8 in a BigTIFF) stays there; a longer one lies behind the table.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import DamagedError

NEW_SUBFILE_TYPE, IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION = 254, 256, 257, 258, 259
PHOTOMETRIC, STRIP_OFFSETS, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_BYTE_COUNTS = 262, 273, 277, 278, 279
PLANAR_CONFIG, PREDICTOR, COLOR_MAP, SAMPLE_FORMAT = 284, 317, 320, 339
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTE_COUNTS, GDAL_NODATA = 322, 323, 324, 325, 42113

SHORT, LONG, LONG8 = 3, 4, 16
ITEM_TYPE = {1: "u1", 2: "S1", 3: "<u2", 4: "<u4", 5: "<u8", 6: "i1", 7: "u1", 8: "<i2", 9: "<i4", 10: "<i8"}
ITEM_TYPE |= {11: "<f4", 12: "<f8", 13: "<u4", 16: "<u8", 17: "<i8", 18: "<u8"}


@dataclass(frozen=True, slots=True)
class Tag:
    """One value of a directory, as the file holds it."""

    kind: int
    payload: bytes

    @property
    def count(self) -> int:
        return len(self.payload) // np.dtype(ITEM_TYPE[self.kind]).itemsize

    @property
    def numbers(self) -> NDArray[Any]:
        return np.frombuffer(self.payload, ITEM_TYPE[self.kind])


Directory = Mapping[int, Tag]
"""Tags of one image of the file, by code."""


def make_tag(kind: int, numbers: int | Sequence[int] | NDArray[Any]) -> Tag:
    """Make a tag from numbers, all of which its type must be able to hold."""
    exact = np.atleast_1d(np.asarray(numbers))
    stored = exact.astype(ITEM_TYPE[kind])
    assert np.array_equal(stored, exact), "a number must fit the type of its tag"
    return Tag(kind, stored.tobytes())


@dataclass(frozen=True, slots=True)
class _Widths:
    """Widths of the numbers of a TIFF, the only difference between a classic one and a BigTIFF."""

    head: struct.Struct
    entries: struct.Struct
    entry: struct.Struct
    pointer: struct.Struct


_CLASSIC = _Widths(struct.Struct("<2sHI"), struct.Struct("<H"), struct.Struct("<HHI4s"), struct.Struct("<I"))
_BIG = _Widths(struct.Struct("<2sHHHQ"), struct.Struct("<Q"), struct.Struct("<HHQ8s"), struct.Struct("<Q"))


def read_directories(file: BinaryIO, where: str) -> list[dict[int, Tag]]:
    """Read every directory of a TIFF, in the order of their chain.

    Raises:
        DamagedError: The file is not a TIFF of ours, or is incomplete.
    """
    start = file.read(16)
    widths, offset = _read_signature(start, where)
    directories: list[dict[int, Tag]] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise DamagedError("the directories of this TIFF widths a loop", where=where)
        seen.add(offset)
        directory, offset = _read_directory(file, widths, offset, where)
        directories.append(directory)
    return directories


def _read_signature(start: bytes, where: str) -> tuple[_Widths, int]:
    if start[:4] == b"II*\0" and len(start) >= _CLASSIC.head.size:
        return _CLASSIC, _CLASSIC.head.unpack_from(start)[2]
    if start[:4] == b"II+\0" and len(start) >= _BIG.head.size:
        return _BIG, _BIG.head.unpack_from(start)[4]
    raise DamagedError(
        "the file must be a TIFF of ours", where=where, expected="a little-endian TIFF", got=start[:4].hex()
    )


def _read_directory(file: BinaryIO, widths: _Widths, offset: int, where: str) -> tuple[dict[int, Tag], int]:
    (num_entries,) = widths.entries.unpack(_read_at(file, offset, widths.entries.size, where))
    table = _read_at(file, offset + widths.entries.size, num_entries * widths.entry.size + widths.pointer.size, where)
    directory = {}
    for index in range(num_entries):
        code, kind, count, field = widths.entry.unpack_from(table, index * widths.entry.size)
        num_bytes = count * _find_item_bytes(kind, where)
        if num_bytes > len(field):
            field = _read_at(file, widths.pointer.unpack(field)[0], num_bytes, where)
        directory[code] = Tag(kind, field[:num_bytes])
    return directory, widths.pointer.unpack_from(table, num_entries * widths.entry.size)[0]


def _find_item_bytes(kind: int, where: str) -> int:
    if kind not in ITEM_TYPE:
        raise DamagedError("each tag of a TIFF must have a type", where=where, expected="1 to 18", got=str(kind))
    return np.dtype(ITEM_TYPE[kind]).itemsize


def _read_at(file: BinaryIO, offset: int, num_bytes: int, where: str) -> bytes:
    file.seek(offset)
    content = file.read(num_bytes)
    if len(content) != num_bytes:
        raise DamagedError(
            "a TIFF must be complete", where=where, expected=f"{num_bytes} bytes at {offset}", got=f"{len(content)}"
        )
    return content


def lay_out_head(directories: Sequence[Directory], *, lead: bytes, big: bool) -> bytes:
    """Lay out the signature, the lead and all directories with their values: everything before the pixels."""
    widths = _BIG if big else _CLASSIC
    first = _round_up_to_even(widths.head.size + len(lead))
    head = widths.head.pack(b"II", 43, 8, 0, first) if big else widths.head.pack(b"II", 42, first)
    out = bytearray(_pad_to_even(head + lead))
    for index, directory in enumerate(directories):
        out += _encode_directory(directory, widths, len(out), is_last=index == len(directories) - 1)
    return bytes(out)


def _encode_directory(directory: Directory, widths: _Widths, offset: int, *, is_last: bool) -> bytes:
    entries, values = bytearray(), bytearray()
    values_at = _round_up_to_even(
        offset + widths.entries.size + len(directory) * widths.entry.size + widths.pointer.size
    )
    for code, entry in sorted(directory.items()):
        field = entry.payload
        if len(field) > widths.pointer.size:
            field = widths.pointer.pack(values_at + len(values))
            values += _pad_to_even(entry.payload)
        entries += widths.entry.pack(code, entry.kind, entry.count, field)
    following = 0 if is_last else values_at + len(values)
    table = widths.entries.pack(len(directory)) + entries + widths.pointer.pack(following)
    return table.ljust(values_at - offset, b"\0") + bytes(values)


def _round_up_to_even(number: int) -> int:
    """Round up to a word boundary, where each directory and its values begin."""
    return number + number % 2


def _pad_to_even(payload: bytes) -> bytes:
    return payload + bytes(len(payload) % 2)
