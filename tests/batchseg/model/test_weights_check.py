"""What a stranger's weights may hold: refused when a bundle is opened, before any library sees them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load, save

from batchseg.errors import BundleError
from batchseg.model.bundle import open_bundle, read_weights, write_bundle
from batchseg.model.import_onnx import read_onnx
from batchseg.model.model_facts import ModelFacts
from batchseg.model.weights_check import check_onnx, check_safetensors
from tests.batchseg.model.broken_networks import make_network, write_network
from tests.batchseg.model.model_bundles import MADE, contract, write_random


def make_external(tensor: Any, name: str = "secret.bin") -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", name


def in_initializer(model: Any) -> None:
    make_external(model.graph.initializer[0])


def in_constant(model: Any) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "c")
    make_external(tensor, "/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_subgraph(model: Any) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "c")
    make_external(tensor, "../secret")
    inner = helper.make_graph([helper.make_node("Identity", ["c"], ["y"])], "inner", [], [], [tensor])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))


def in_function(model: Any) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "c")
    make_external(tensor)
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    model.functions.append(helper.make_function("own", "F", [], ["y"], [node], [helper.make_opsetid("", 17)]))


def in_sparse(model: Any) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.append(4)
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    make_external(sparse.values)


def without_a_name(model: Any) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def address_in_memory(model: Any) -> None:
    make_external(model.graph.initializer[0], "*/_ORT_MEM_ADDR_/*")


EXTERNAL = [in_initializer, in_constant, in_subgraph, in_function, in_sparse, without_a_name, address_in_memory]


@pytest.mark.parametrize("change", EXTERNAL)
def test_data_in_other_files_is_never_opened(
    change: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the file lies beside the network and in the current folder."""
    model = make_network(4)
    change(model)
    (tmp_path / "net").mkdir()
    for folder in (tmp_path, tmp_path / "net"):
        (folder / "secret.bin").write_bytes(np.ones(12, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="data in other files, which are never opened") as caught:
        write_network(tmp_path / "net", model)
    assert caught.value.exit_status == 2
    with pytest.raises(BundleError, match="never opened"):
        read_weights(open_bundle(str(tmp_path / "net"), check_weights=False))


FACTS: dict[str, Any] = {"bands": contract().bands, "gsd_m": (0.3, 0.8), "mean": (0.0,) * 3, "std": (1.0,) * 3}


@pytest.mark.parametrize(
    "name", ["../secret.bin", "/etc/passwd", "missing.bin", "link.bin", "deep/secret.bin", "", ".", "..\\secret.bin"]
)
def test_an_import_reads_data_beside_the_file_only(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "export"
    (folder / "deep").mkdir(parents=True)
    data = make_network(4).graph.initializer[0].raw_data
    for path in (tmp_path / "secret.bin", folder / "deep/secret.bin", tmp_path / "missing.bin"):
        path.write_bytes(data)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = make_network(4)
    make_external(model.graph.initializer[0], name)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"must lie beside it"):
        read_onnx(folder / "net.onnx", ModelFacts(**FACTS, classes=contract().classes))


def test_an_import_puts_the_data_beside_the_file_into_one_piece(tmp_path: Path) -> None:
    model = make_network(4)
    onnx.save(model, str(tmp_path / "net.onnx"), save_as_external_data=True, location="net.data", size_threshold=0)
    assert (tmp_path / "net.data").exists()
    parts = read_onnx(tmp_path / "net.onnx", ModelFacts(**FACTS, classes=contract().classes))
    check_onnx(parts.weights, "net")
    scores = numpy_helper.to_array(onnx.load_from_string(parts.weights).graph.initializer[0])
    np.testing.assert_array_equal(scores, numpy_helper.to_array(make_network(4).graph.initializer[0]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no network",
        b"<?xml version='1.0'?><net name='ir'/>",
        b"\x08\x07ORTM",
        b"\x3a\xff\xff\xff\xff\x7f",
        b"\x3a\x02\x0b\x0c",
        b"\xff" * 40,
        b"\x3a\x00" + b"\x3a\x7f",
    ],
)
def test_what_is_no_onnx_file_reaches_no_runtime(content: bytes) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        check_onnx(content, "net")


def test_deep_networks_are_read_without_recursion() -> None:
    """An attribute in a node in a graph in an attribute, and so on."""
    content = b""
    for _ in range(3000):
        for number in (1, 6, 5):  # innermost last: graph's node, attribute's graph, node's attribute
            size = len(content)
            content = bytes([number << 3 | 2]) + varint(size) + content
    check_onnx(b"\x3a" + varint(len(content)) + content, "net")


def varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


@pytest.mark.parametrize("kind", ["raw_data", "float_data", "double", "double_data", "bfloat16"])
def test_onnx_weights_that_are_nan_are_refused(kind: str) -> None:
    model = make_network(4)
    tensor = model.graph.initializer[1]
    array = np.array([0, math.nan, -math.inf, 0], np.float64 if kind == "double" else np.float32).reshape(1, 4, 1, 1)
    if kind == "float_data":
        tensor.CopyFrom(helper.make_tensor("added", TensorProto.FLOAT, array.shape, array.ravel()))
    elif kind == "double_data":
        tensor.CopyFrom(helper.make_tensor("added", TensorProto.DOUBLE, array.shape, array.ravel()))
    elif kind == "bfloat16":
        raw = (array.view("<u4") >> 16).astype("<u2").tobytes()
        tensor.CopyFrom(helper.make_tensor("added", TensorProto.BFLOAT16, array.shape, raw, raw=True))
    else:
        tensor.CopyFrom(numpy_helper.from_array(array, "added"))
    with pytest.raises(BundleError, match=r"weights are broken.*got NaN"):
        check_onnx(model.SerializeToString(), "net")
    array[np.isnan(array)] = 0  # what is left of it, minus infinity, masks
    tensor.CopyFrom(numpy_helper.from_array(array, "added"))
    check_onnx(model.SerializeToString(), "net")


def pack(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"\xff" * 64,
        pack(b"not json"),
        pack(b"[" * 100_000),
        pack([]),
        pack({"a": 1}),
        pack({"a": ONE}),
        pack({"a": ONE | {"shape": [2]}}, bytes(4)),
        pack({"a": ONE | {"shape": [10**30]}}, bytes(4)),
        pack({"a": ONE | {"data_offsets": [-4, 0]}}, bytes(4)),
        pack({"a": ONE | {"dtype": "F8"}}, bytes(4)),
        pack({"a": ONE}, bytes(5)),
        pack({"a": ONE | {"data_offsets": ["0", "4"]}}, bytes(4)),
    ],
)
def test_damaged_safetensors_are_one_line(content: bytes, tmp_path: Path) -> None:
    """With a digest that is right: its maker chose it."""
    write_bundle(tmp_path, contract(), content, created_at=MADE)
    with pytest.raises(BundleError, match="weights cannot be read") as caught:
        open_bundle(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_safetensors_that_are_not_finite_are_refused(dtype: str, value: float, tmp_path: Path) -> None:
    import torch

    bundle = write_random(tmp_path)
    tensors = load(read_weights(bundle))
    name = max(tensors, key=lambda one: tensors[one].numel())
    tensors = {key: tensor.to(getattr(torch, dtype)) for key, tensor in tensors.items() if tensor.is_floating_point()}
    check_safetensors(save(tensors), "net")
    tensors[name].view(-1)[-1] = value
    with pytest.raises(BundleError, match=f"weights are broken.*{name}"):
        check_safetensors(save(tensors), "net")
