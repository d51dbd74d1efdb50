"""Making bundles of models that others have made: SegFormer folders as `transformers` stores them, and ONNX files.

What the files say is taken from them; what they do not say has to be told, and is never guessed. Nothing here opens a
pickle: those run whatever their maker liked as soon as they are read.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.classes import ClassInfo
from batchseg.errors import BundleError
from batchseg.model.architecture import SEGFORMER_KEYS, stride_px
from batchseg.model.bundle import write_bundle
from batchseg.model.contract import Contract, InputType, Numerics
from batchseg.scene.bands import BandWanted
from batchseg.tiers import Tier

PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the user says of a model."""

    name: str
    bands: tuple[BandWanted, ...]
    classes: tuple[ClassInfo, ...] | None
    """None: as the files say."""
    gsd_m: tuple[float, float]
    tier: Tier
    dtype: InputType
    range: tuple[float, float]
    mean: tuple[float, ...] | None
    """In raw values; None: as the files say."""
    std: tuple[float, ...] | None
    halo_px: int
    stride_px: int


def import_model(path: Path, out: Path, told: Told, *, made: str) -> None:
    """Make a bundle in the folder `out`."""
    if path.suffix.lower() in PICKLES or (path.is_dir() and _has_pickles_only(path)):
        raise BundleError(
            "pickles are never loaded, they can run any program",
            where=str(path),
            expected="a transformers folder with model.safetensors, or an ONNX file",
            todo="ask its makers for safetensors, or, where you trust it, load it with transformers and store it again "
            "with `save_pretrained(…, safe_serialization=True)`",
        )
    if path.is_dir():
        contract, weights = _segformer(path, told)
    elif path.suffix.lower() == ".onnx" and path.exists():
        contract, weights = _onnx(path, told)
    else:
        raise BundleError(
            "this is no model that can be imported",
            where=str(path),
            expected="a transformers folder with config.json and model.safetensors, or an ONNX file",
            got="nothing" if not path.exists() else f"a file {path.suffix or 'without a suffix'}",
        )
    write_bundle(out, contract, weights, made=made)


def _has_pickles_only(folder: Path) -> bool:
    suffixes = {path.suffix.lower() for path in folder.iterdir()}
    return ".safetensors" not in suffixes and bool(suffixes & PICKLES)


def _contract(told: Told, **found: Any) -> Contract:
    threads = len(os.sched_getaffinity(0))
    backend: Any = "openvino"
    return Contract(
        name=told.name,
        tier=told.tier,
        bands=told.bands,
        dtype=told.dtype,
        range=told.range,
        gsd_m=told.gsd_m,
        halo_px=told.halo_px,
        # Right everywhere, fast nowhere: `batchseg model tune` finds better.
        numerics={"cpu": Numerics(backend=backend, precision="float32", batch=1, threads=threads)},
        **found,
    )


def _segformer(folder: Path, told: Told) -> tuple[Contract, bytes]:
    from safetensors import SafetensorError
    from safetensors.torch import save
    from transformers import SegformerForSemanticSegmentation

    config = _json(folder / "config.json")
    if config.get("model_type") != "segformer":
        got = str(config.get("model_type"))
        raise BundleError("another kind of model", where=str(folder / "config.json"), expected="segformer", got=got)
    _check_count("bands", config.get("num_channels", 3), [band.name for band in told.bands], folder)
    classes = told.classes or _classes_of(config, folder)
    mean, std = _scaling(folder / "preprocessor_config.json", told)
    try:
        network, report = SegformerForSemanticSegmentation.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise BundleError("the weights cannot be read", where=str(folder), got=str(error).splitlines()[0]) from error
    if report["missing_keys"]:
        got = f"{len(report['missing_keys'])} tensors less, like {min(report['missing_keys'])}"
        todo = "take a model that was trained for segmentation; a backbone alone has no head"
        raise BundleError("weights are missing", where=str(folder), got=got, todo=todo)
    _check_count("classes", network.config.num_labels, [one.name for one in classes], folder)
    state = {f"segformer.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}
    architecture = {"kind": "segformer", "config": {k: getattr(network.config, k) for k in SEGFORMER_KEYS}}
    contract = _contract(
        told,
        classes=classes,
        mean=mean,
        std=std,
        stride_px=stride_px(architecture),
        architecture=architecture,
        lineage={"imported": {"from": folder.name, "format": "transformers", "config": _public(config)}},
    )
    return contract, save(state)


def _public(config: dict[str, Any]) -> dict[str, Any]:
    """Without the place on its maker's machine that `transformers` notes: bundles are given away."""
    return {key: value for key, value in config.items() if key != "_name_or_path"}


def _classes_of(config: dict[str, Any], folder: Path) -> tuple[ClassInfo, ...]:
    """As `id2label` says, unless it says nothing."""
    names = {int(number): str(name) for number, name in config.get("id2label", {}).items()}
    if not names or all(name == f"LABEL_{number}" for number, name in names.items()):
        raise BundleError(
            "the model does not name its classes",
            where=str(folder / "config.json"),
            todo="give them in the order of its outputs: --classes water,forest,…",
        )
    return tuple(ClassInfo(id=i, name=names[i], rgb=colour(i)) for i in sorted(names))


def _scaling(path: Path, told: Told) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and deviations in raw values; the files speak of values that were rescaled first."""
    if told.mean is not None and told.std is not None:
        return told.mean, told.std
    if told.mean is not None or told.std is not None:
        raise BundleError(
            "means and deviations belong together",
            where=str(path.parent),
            expected="--mean and --std, or neither, where its files say both",
            got="--std alone" if told.mean is None else "--mean alone",
        )
    if not path.exists():
        raise BundleError(
            "nothing says how its input is scaled",
            where=str(path),
            todo="give --mean and --std in raw values, a number a band",
        )
    found = _json(path)
    factor = float(found.get("rescale_factor", 1 / 255)) if found.get("do_rescale", True) else 1.0
    num = len(told.bands)
    if not found.get("do_normalize", True):
        return (0.0,) * num, (1 / factor,) * num
    means, stds = found.get("image_mean", []), found.get("image_std", [])
    _check_count("bands", len(means), [band.name for band in told.bands], path)
    return tuple(m / factor for m in means), tuple(s / factor for s in stds)


def _onnx(path: Path, told: Told) -> tuple[Contract, bytes]:
    weights = _one_file(path)
    bands_side, logits = _onnx_shapes(weights, path)
    _check_count("bands", bands_side[0], [band.name for band in told.bands], path)
    if told.classes is None or told.mean is None or told.std is None:
        raise BundleError(
            "an ONNX file does not say what goes in and comes out",
            where=str(path),
            todo="give --classes in the order of its outputs, and --mean and --std in raw values (0 and 1 where the "
            "network scales its input itself)",
        )
    if logits is not None:
        _check_count("classes", logits, [one.name for one in told.classes], path)
    side = bands_side[1]
    if side is not None and side <= 2 * told.halo_px:
        raise BundleError(
            "its tiles have no core",
            where=str(path),
            got=f"tiles of {side} px, of which {told.halo_px} px on each side are context",
            todo=f"give --halo, less than {side // 2}",
        )
    contract = _contract(
        told,
        classes=told.classes,
        mean=told.mean,
        std=told.std,
        stride_px=told.stride_px if side is None else 1,
        tile_px=side,
        architecture={"kind": "onnx"},
        lineage={"imported": {"from": path.name, "format": "ONNX"}},
    )
    return contract, weights


def _one_file(path: Path) -> bytes:
    """With the tensors that large exports keep in files beside it: a bundle's weights are one file with one digest."""
    try:
        import onnx
    except ImportError as error:
        todo = "run `pip install batchseg[onnx]`"
        raise BundleError("the package onnx is not installed", where=str(path), todo=todo) from error
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with onnx

    try:
        content: bytes = onnx.load(str(path)).SerializeToString()
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        got = " ".join(str(error).split())[:200]
        raise BundleError("this ONNX file cannot be read", where=str(path), got=got) from error
    return content


def _onnx_shapes(weights: bytes, path: Path) -> tuple[tuple[int, int | None], int | None]:
    """Bands, the fixed side if there is one, and the number of classes if it is known."""
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
        raise BundleError("the network's input is not square", where=str(path), got=str(shapes[0]))
    return (bands, rows), shapes[1][1]


def _check_count(what: str, found: int, told: list[str], where: Path) -> None:
    if found != len(told):
        raise BundleError(
            f"the model has another number of {what}",
            where=str(where),
            expected=str(found),
            got=f"{len(told)} ({', '.join(told)})",
            todo=f"give --{what} in the model's order",
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError("this file cannot be read", where=str(path), got=str(error)) from error
    return found


def colour(number: int) -> tuple[int, int, int]:
    """Of a class that has none: far from those before it."""
    import colorsys  # noqa: PLC0415

    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.65, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)
