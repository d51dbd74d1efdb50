"""Curves of a training, as CSV and as TensorBoard event files.

An event file is a TFRecord: a length, its masked CRC-32C, a protobuf message and the CRC of that. Scalars need four
fields of two messages, so TensorBoard is no dependency. Show the curves with `tensorboard --logdir OUT/training`.
"""

from __future__ import annotations

import csv
import io
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from google_crc32c import value as crc32c

from batchseg.atomic import FILE_MODE, make_folder, replace_file
from batchseg.egress import encode_text, write_text
from batchseg.regular_files import read_regular

CURVE_FILES = _STEPS, _WATCHED = "curve.csv", "watched.csv"


class Curve:
    """Figures by step, written to a CSV file and to an event file.

    Lines of steps after `step` are dropped, since an interrupted training does these steps again. So are lines that are
    not whole, which a process that was killed leaves.
    """

    def __init__(
        self, csv_path: Path, events: EventFile, columns: tuple[str, ...], step: int, open_: ExitStack
    ) -> None:
        kept_lines = _read_lines(csv_path, len(columns), step)
        head = io.StringIO()
        csv.writer(head, lineterminator="\n").writerow(("step", *columns))
        with replace_file(csv_path) as unfinished:
            write_text(unfinished, "".join([head.getvalue(), *kept_lines]))
        self._file = open_.enter_context(csv_path.open("a", newline="", encoding="utf-8"))
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._columns, self._events = columns, events

    def add(self, step: int, values: Iterable[float]) -> None:
        """Add the values of all columns."""
        values = list(values)
        self._csv.writerow([step, *(f"{value:.5f}" for value in values)])
        self._file.flush()
        self._events.add(step, dict(zip(self._columns, values, strict=True)))


def _read_lines(csv_path: Path, num_columns: int, step: int) -> list[str]:
    """Read the whole lines of steps up to this one."""
    if not csv_path.exists():
        return []
    whole_line = re.compile(rf"([0-9]{{1,18}})(?:,(?:-?[0-9]+\.[0-9]{{5}}|nan|-?inf)){{{num_columns}}}\n")
    lines = read_regular(csv_path).decode(errors="replace").splitlines(keepends=True)
    matches = (whole_line.fullmatch(line) for line in lines)
    return [match[0] for match in matches if match is not None and int(match[1]) <= step]


@contextmanager
def open_curves(
    folder: Path, step: int, figures: Sequence[str], class_names: Sequence[str]
) -> Iterator[tuple[Curve, Curve]]:
    """Open two curves: the figures of every step, and the IoU per class of every measurement for early stopping."""
    make_folder(folder)
    with ExitStack() as open_:
        path = folder / f"events.out.tfevents.{_choose_number(folder):013}.batchseg"
        events = EventFile(open_.enter_context(open(path, "xb", opener=_open_new)), step)
        steps = Curve(folder / _STEPS, events, tuple(figures), step, open_)
        # TensorBoard has one curve per name, and a class may be called loss.
        taken = {"step", "miou", *figures}
        scores = (f"class {name}" if name in taken else name for name in class_names)
        yield steps, Curve(folder / _WATCHED, events, ("miou", *scores), step, open_)


def _open_new(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def _choose_number(folder: Path) -> int:
    """Milliseconds since 1970, and more than in any earlier file: TensorBoard reads the files in this order."""
    names = (path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*.batchseg"))
    earlier = (int(name) for name in names if name.isdecimal())
    return max(time.time_ns() // 1_000_000, *(number + 1 for number in earlier), 0)


class EventFile:
    """A TensorBoard event file of scalars."""

    def __init__(self, file: BinaryIO, step: int) -> None:
        """Start after `step`: TensorBoard then hides later steps that an interrupted training wrote."""
        self._file = file
        self._put(_encode_double(1, time.time()) + _encode_bytes(3, b"brain.Event:2"))
        self._put(
            _encode_double(1, time.time()) + b"\x10" + _encode_varint(step + 1) + _encode_bytes(7, b"\x08\x01")
        )  # SessionLog.START

    def add(self, step: int, values: Mapping[str, float]) -> None:
        scalars = (_encode_bytes(1, encode_text(name)) + _encode_float(2, value) for name, value in values.items())
        summary = b"".join(_encode_bytes(1, scalar) for scalar in scalars)
        self._put(_encode_double(1, time.time()) + b"\x10" + _encode_varint(step) + _encode_bytes(5, summary))

    def _put(self, message: bytes) -> None:
        length = struct.pack("<Q", len(message))
        self._file.write(length + _mask_crc(length) + message + _mask_crc(message))
        self._file.flush()


def _mask_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _encode_varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _encode_bytes(field: int, value: bytes) -> bytes:
    return _encode_varint(field << 3 | 2) + _encode_varint(len(value)) + value


def _encode_double(field: int, value: float) -> bytes:
    return _encode_varint(field << 3 | 1) + struct.pack("<d", value)


def _encode_float(field: int, value: float) -> bytes:
    return _encode_varint(field << 3 | 5) + struct.pack("<f", value)
