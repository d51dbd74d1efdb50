"""Weights as files of bytes: checked before any library opens them.

A bundle's makers are not trusted. An ONNX file may name other files, which runtimes look for in the current folder and
which no digest covers. Weights that are NaN can disappear inside a network: a ReLU in OpenVINO turns them into numbers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from batchseg.errors import BundleError

_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 11: "attribute"},
}
"""The messages of ONNX that can hold tensors, and the numbers of the fields that lead to them."""
_FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 4, 9, 10, 13, 14
_GRAPH = 7
_BFLOAT16 = 16

_FLOATS: dict[str, tuple[str, int]] = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
"""Floating-point types of safetensors: the integer of the same size, and the bits of its exponent."""
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """Contents of an ONNX file that can harm."""

    external_files: tuple[str, ...] = ()
    """Names of other files with data; an empty name if the file gives none."""
    has_nan: bool = False


@dataclass(slots=True)
class _Scan:
    external_files: list[str] = field(default_factory=list)
    has_nan: bool = False


def check_safetensors(content: bytes, where: str) -> None:
    """Raise BundleError unless these are tensors of safetensors whose numbers are all finite."""
    try:
        broken = _find_broken_tensor(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise BundleError(
            "these weights cannot be read",
            where=where,
            expected="a file of safetensors",
            got=f"{type(error).__name__}: {error}",
            todo="fetch the bundle again, or ask its makers for another one",
        ) from error
    if broken is not None:
        raise _refuse_nan(where, f"NaN or infinity in {broken}")


def _find_broken_tensor(content: bytes) -> str | None:
    """The name of the first tensor with a number that is not finite."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length].decode("utf-8"))
    start = 8 + length
    header.pop("__metadata__", None)
    num_bytes = 0
    for name, tensor in header.items():
        first, end = tensor["data_offsets"]
        size = np.prod([int(side) for side in tensor["shape"]], dtype=object) * _BYTES[tensor["dtype"]]
        if not 0 <= first <= end <= len(content) - start or end - first != size:
            raise ValueError(f"tensor {name!r} reaches beyond its data")
        num_bytes += size
        if tensor["dtype"] in _FLOATS:
            kind, exponent = _FLOATS[tensor["dtype"]]
            bits = np.frombuffer(content, kind, (end - first) // np.dtype(kind).itemsize, start + first)
            if (bits & exponent == exponent).any():
                return str(name)
    if num_bytes != len(content) - start:
        raise ValueError(f"its tensors have {num_bytes} bytes, and the file has {len(content) - start}")
    return None


def check_onnx(content: bytes, where: str) -> None:
    """Raise BundleError unless this is an ONNX network that is whole in itself, without a weight that is NaN."""
    facts = read_onnx_facts(content, where)
    if facts.external_files:
        raise BundleError(
            "this ONNX network keeps data in other files, which are never opened",
            where=where,
            expected="one file, whose digest covers all weights",
            got=", ".join(map(repr, facts.external_files[:3])),
            todo="import the export again with `batchseg model import`, which puts the data into one file",
        )
    if facts.has_nan:
        raise _refuse_nan(where, "NaN")


def read_onnx_facts(content: bytes, where: str) -> OnnxFacts:
    """Read an ONNX file without opening anything else.

    Raises:
        BundleError: These bytes are not an ONNX file.
    """
    scan = _Scan()
    try:
        view = memoryview(content)
        has_graph = any(number == _GRAPH for number, _ in _read_fields(view))
        _scan(view, scan)
    except ValueError as error:
        raise _refuse_onnx(where, str(error)) from error
    if not has_graph:
        raise _refuse_onnx(where, "a file without a graph")
    return OnnxFacts(tuple(scan.external_files), scan.has_nan)


def _scan(view: memoryview, scan: _Scan) -> None:
    """Visit every message that can hold a tensor. A list of open messages stands for recursion: files may nest deep."""
    waiting = [("model", view)]
    while waiting:
        kind, message = waiting.pop()
        if kind == "tensor":
            _scan_tensor(message, scan)
            continue
        inner = _FIELDS[kind]
        waiting += [
            (inner[number], value)
            for number, value in _read_fields(message)
            if number in inner and isinstance(value, memoryview)
        ]


def _scan_tensor(message: memoryview, scan: _Scan) -> None:
    data_type, name, is_external, raw = 0, "", False, memoryview(b"")
    for number, value in _read_fields(message):
        if number == 2 and isinstance(value, int):
            data_type = value
        elif number == _DATA_LOCATION and value != 0:
            is_external = True
        elif number == _EXTERNAL_DATA and isinstance(value, memoryview):
            is_external = True
            entry = {key: bytes(text) for key, text in _read_fields(value) if isinstance(text, memoryview)}
            if entry.get(1) == b"location":
                name = entry.get(2, b"").decode("utf-8", "replace")
        elif number == _RAW_DATA and isinstance(value, memoryview):
            raw = value
        elif number in (_FLOAT_DATA, _DOUBLE_DATA) and isinstance(value, memoryview):
            scan.has_nan |= _holds_nan(value, 1 if number == _FLOAT_DATA else 11)
    if is_external:
        scan.external_files.append(name)
    scan.has_nan |= _holds_nan(raw, data_type)


def _holds_nan(raw: memoryview, data_type: int) -> bool:
    """Test for NaN alone: minus infinity is legitimate, since networks mask with it."""
    if data_type == _BFLOAT16 and len(raw) % 2 == 0:
        return bool(((np.frombuffer(raw, "<u2") & 0x7FFF) > 0x7F80).any())
    dtype = {1: "<f4", 10: "<f2", 11: "<f8"}.get(data_type)
    if dtype is None or len(raw) % np.dtype(dtype).itemsize:
        return False
    return bool(np.isnan(np.frombuffer(raw, dtype)).any())


def _read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message of protocol buffers: numbers, and bytes as views."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _read_varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _read_varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError("its fields are damaged")
        if number == 0 or at + size > len(message):
            raise ValueError("it is cut off or damaged")
        yield number, message[at : at + size]
        at += size


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("its numbers are damaged")


def _refuse_onnx(where: str, got: str) -> BundleError:
    return BundleError(
        "this ONNX network cannot be read",
        where=where,
        expected="an ONNX file",
        got=got,
        todo="fetch the bundle again, or import the network again with `batchseg model import`",
    )


def _refuse_nan(where: str, got: str) -> BundleError:
    return BundleError(
        "these weights are broken",
        where=where,
        expected="numbers that are finite",
        got=got,
        todo="ask its makers for another bundle, or train it again",
    )
