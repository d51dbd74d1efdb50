"""ONNX networks of one convolution, whose scores can be broken on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from batchseg.classes import ClassInfo
from batchseg.model.architecture import OnnxSpec
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from tests.batchseg.model.model_bundles import MADE, contract, on_cpu


def make_network(num_classes: int, *, stride: int = 1, offsets: dict[int, float] | None = None) -> Any:
    """Scores from the first band; `offsets` are added to the scores of some classes."""
    scores = np.zeros((num_classes, 3, 1, 1), np.float32)
    scores[:, 0] = np.linspace(-1, 1, num_classes)[:, None, None]
    added = np.zeros((1, num_classes, 1, 1), np.float32)
    for number, offset in (offsets or {}).items():
        # A division makes it, so that no weight is broken: 1/0, -1/0 or 0/0.
        added[0, number] = np.sign(offset) if np.isinf(offset) else 0 if np.isnan(offset) else offset
    divisor = np.ones((1, num_classes, 1, 1), np.float32)
    divisor[0, [number for number, offset in (offsets or {}).items() if not np.isfinite(offset)]] = 0
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["tile", "scores"], ["raw"], strides=[stride, stride]),
            helper.make_node("Div", ["added", "divisor"], ["offset"]),
            helper.make_node("Add", ["raw", "offset"], ["logits"]),
        ],
        "network",
        [helper.make_tensor_value_info("tile", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", num_classes, "h", "w"])],
        [
            numpy_helper.from_array(array, name)
            for name, array in (("scores", scores), ("added", added), ("divisor", divisor))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def make_network_with_hidden_nan(num_classes: int) -> Any:
    """A network that takes a ReLU of the square root of a negative number, which OpenVINO gives as 0, others as NaN."""
    model = make_network(num_classes)
    del model.graph.node[1:]
    steps = [
        ("Abs", "raw", "size"),
        ("Neg", "size", "negative"),
        ("Sqrt", "negative", "root"),
        ("Relu", "root", "hidden"),
    ]
    model.graph.node.extend(helper.make_node(kind, [before], [after]) for kind, before, after in steps)
    model.graph.node.append(helper.make_node("Add", ["raw", "hidden"], ["logits"]))
    return model


def write_network(folder: Path, model: onnx.ModelProto | bytes, *, num_classes: int = 4, **changes: Any) -> Bundle:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    classes = tuple(ClassInfo(id=i, name=f"class {i}", rgb=(i, i, i)) for i in range(num_classes))
    values: dict[str, Any] = {
        "architecture": OnnxSpec(), "numerics": on_cpu(precision="float32"), "classes": classes, "halo_px": 8,
    }  # fmt: skip
    write_bundle(folder, contract(**(values | changes)), content, created_at=MADE)
    return open_bundle(str(folder))
