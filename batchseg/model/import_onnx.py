"""ONNX files: their weights in one piece, and the facts that their graph holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchseg.errors import BundleError
from batchseg.model.architecture import OnnxSpec
from batchseg.model.lineage import ImportedModel
from batchseg.model.model_facts import DEFAULT_HALO_PX, ModelFacts, ModelParts, check_count
from batchseg.model.packages import import_onnx
from batchseg.model.weights_check import check_onnx, read_onnx_facts
from batchseg.regular_files import read_regular

CELL_PX = 4
"""Halos are a multiple of this: then the logits of a halo are cut off before they are upsampled (model/graph.py)."""


def read_onnx(path: Path, facts: ModelFacts) -> ModelParts:
    weights = _read_in_one_piece(path)
    shape = _read_shape(weights, path)
    check_count("bands", shape.bands, [band.name for band in facts.bands], path)
    if facts.classes is None or facts.mean is None or facts.std is None:
        raise BundleError(
            "an ONNX file does not say how its input is scaled and what its outputs are",
            where=str(path),
            todo="give --classes in the order of its outputs, and --mean and --std in raw values (0 and 1 if the "
            "network scales its input itself)",
        )
    if shape.classes is not None:
        check_count("classes", shape.classes, [one.name for one in facts.classes], path)
    halo_px = choose_halo_px(shape.side_px) if facts.halo_px is None else facts.halo_px
    if shape.side_px is not None and shape.side_px <= 2 * halo_px:
        raise BundleError(
            "a tile must be larger than two halos, so that it has a core",
            where=str(path),
            got=f"tiles of {shape.side_px} px with a halo of {halo_px} px on each side",
            todo=f"give a --halo of less than {shape.side_px / 2:g}, or drop it",
        )
    return ModelParts(
        weights=weights,
        architecture=OnnxSpec(),
        classes=facts.classes,
        mean=facts.mean,
        std=facts.std,
        halo_px=halo_px,
        stride_px=facts.stride_px if shape.side_px is None else 1,
        tile_px=shape.side_px,
        origin=ImportedModel(from_=path.name, format="ONNX"),
    )


def choose_halo_px(side_px: int | None) -> int:
    """The halo of a network whose user gives none: an eighth of its side, if it takes tiles of one size only.

    The default halo would leave a network of 256 px a core of a quarter of its tile. An eighth leaves 9/16 of any tile.
    The halo is a multiple of 4, unless the tile is tiny, and so a core is even and fits the stride of a second model.
    """
    if side_px is None:
        return DEFAULT_HALO_PX
    halo_px = side_px // 8
    return halo_px // CELL_PX * CELL_PX or halo_px


def _read_in_one_piece(path: Path) -> bytes:
    """Large exports keep tensors in files beside the graph. A bundle's weights are one file with one digest."""
    onnx = import_onnx(str(path))
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with onnx

    try:
        _check_files_beside(path, read_onnx_facts(read_regular(path), str(path)).external_files)
        content: bytes = onnx.load(str(path)).SerializeToString()
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        got = " ".join(str(error).split())[:200]
        raise BundleError("this ONNX file cannot be read", where=str(path), got=got) from error
    check_onnx(content, str(path))
    return content


def _check_files_beside(path: Path, names: Sequence[str]) -> None:
    """Raise BundleError unless data files lie beside the graph itself: its maker must not choose what is read."""
    for name in names:
        file = path.parent / name
        if Path(name).name != name or "\\" in name or file.is_symlink() or not file.is_file():
            raise BundleError(
                "the data of this ONNX network must lie beside it",
                where=str(path),
                expected=f"a file in {path.parent}",
                got=repr(name),
                todo="export the network again into a folder of its own",
            )


@dataclass(frozen=True, slots=True)
class _Shape:
    bands: int
    side_px: int | None
    """The only side that the network takes, if it is fixed."""
    classes: int | None
    """Number of classes, if the graph says it."""


def _read_shape(weights: bytes, path: Path) -> _Shape:
    import onnx

    graph = onnx.load_from_string(weights).graph
    stored = {one.name for one in graph.initializer}
    inputs, outputs = [one for one in graph.input if one.name not in stored], list(graph.output)
    shapes = [[d.dim_value or None for d in one.type.tensor_type.shape.dim] for one in (*inputs, *outputs)]
    floats = all(one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for one in (*inputs, *outputs))
    if len(inputs) != 1 or len(outputs) != 1 or not floats or any(len(shape) != 4 for shape in shapes):
        raise BundleError(
            "the network has another form",
            where=str(path),
            expected="one float32 input (batch, bands, rows, columns) and one float32 output (batch, classes, …)",
            got=", ".join(f"{one.name} {shape}" for one, shape in zip((*inputs, *outputs), shapes, strict=True)),
            todo="export the logits alone, channels first",
        )
    _, bands, rows, cols = shapes[0]
    if bands is None or rows != cols:
        expected = "a fixed number of bands, and as many rows as columns"
        raise BundleError("the network's input is not square", where=str(path), expected=expected, got=str(shapes[0]))
    return _Shape(bands, rows, shapes[1][1])
