"""Curves of a training, as CSV and as TensorBoard event files.

An event file is a TFRecord: length, its masked CRC-32C, a protobuf message, the CRC of that. Four fields of two
messages are all that scalars need, which is less than a dependency on TensorBoard: `tensorboard --logdir OUT/training`.
"""

from __future__ import annotations

import csv
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from google_crc32c import value as crc32c


class Curve:
    """One CSV and one event file, in step; lines of steps that will be done again are dropped."""

    def __init__(self, csv_path: Path, events: Events, columns: tuple[str, ...], step: int, open_: ExitStack) -> None:
        lines = csv_path.read_text("utf-8").splitlines(keepends=True)[1:] if csv_path.exists() else []
        kept = [line for line in lines if int(line.split(",")[0]) <= step]
        csv_path.write_text("".join([",".join(("step", *columns)) + "\n", *kept]), "utf-8")
        self._file = open_.enter_context(csv_path.open("a", newline="", encoding="utf-8"))
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._events = events

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._csv.writerow([step, *(f"{value:.5f}" for value in values.values())])
        self._file.flush()
        self._events.add(step, values)


@contextmanager
def open_curves(folder: Path, step: int, facts: Sequence[str], watched: Sequence[str]) -> Iterator[tuple[Curve, Curve]]:
    """Of every step, and of every look at ground that is watched."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_:
        path = folder / f"events.out.tfevents.{time.time_ns() // 1_000_000:013}.batchseg"
        events = Events(open_.enter_context(path.open("wb")), step)
        steps = Curve(folder / "curve.csv", events, tuple(facts), step, open_)
        yield steps, Curve(folder / "watched.csv", events, ("miou", *watched), step, open_)


class Events:
    def __init__(self, file: BinaryIO, step: int) -> None:
        """After `step`: what an interrupted training wrote of later steps is done again, and no longer shown."""
        self._file = file
        self._put(_double(1, time.time()) + _bytes(3, b"brain.Event:2"))
        self._put(_double(1, time.time()) + b"\x10" + _varint(step + 1) + _bytes(7, b"\x08\x01"))  # SessionLog.START

    def add(self, step: int, values: Mapping[str, float]) -> None:
        scalars = (_bytes(1, name.encode()) + _float(2, value) for name, value in values.items())
        summary = b"".join(_bytes(1, scalar) for scalar in scalars)
        self._put(_double(1, time.time()) + b"\x10" + _varint(step) + _bytes(5, summary))

    def _put(self, message: bytes) -> None:
        length = struct.pack("<Q", len(message))
        self._file.write(length + _masked_crc(length) + message + _masked_crc(message))
        self._file.flush()


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
