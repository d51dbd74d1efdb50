"""Bundles made of models of others: SegFormer folders as `transformers` stores them, and ONNX files.

The facts that the files hold are taken from them. The user gives the others; none is guessed. No pickle is opened here:
it could run any program as soon as it is read.
"""

from __future__ import annotations

import os
from pathlib import Path

from batchseg.egress import redact_errors
from batchseg.errors import BundleError
from batchseg.model.bundle import Bundle, open_bundle, write_bundle
from batchseg.model.contract import Contract, Numerics
from batchseg.model.import_onnx import read_onnx
from batchseg.model.import_segformer import read_segformer
from batchseg.model.lineage import ImportedLineage
from batchseg.model.model_facts import ModelFacts, ModelParts
from batchseg.model.publish import publish_folder, read_clock

PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})


@redact_errors
def import_bundle(path: str | Path, folder: str | Path, facts: ModelFacts) -> Bundle:
    """Make a bundle of a model that was trained elsewhere.

    Args:
        path: A folder with `config.json` and `model.safetensors` of a SegFormer from `transformers`, or an ONNX file.
        folder: The folder of the bundle. It must not exist yet.
        facts: The facts about the model that its files do not hold.

    Returns:
        The new bundle. Its numerics are safe everywhere and fast nowhere: `tune_bundle` finds better ones.

    Raises:
        BundleError: The model cannot be imported, a fact is missing, or the folder cannot be written.
        InputError: The range of the raw values is missing.

    Example:
        >>> from batchseg import ModelFacts, import_bundle
        >>> from batchseg.scene.bands import BandWanted
        >>> bands = tuple(BandWanted(name=name, common=name) for name in ("red", "green", "blue"))
        >>> bundle = import_bundle("segformer-b0-finetuned", "my-bundle", ModelFacts(bands=bands, gsd_m=(0.3, 0.8)))
        >>> bundle.contract.name
        'my-bundle'
    """
    path, folder = Path(path), Path(folder)
    with publish_folder(folder) as unfinished:
        parts = _read_model(path, facts)
        contract = _make_contract(facts, parts, facts.name or folder.name)
        write_bundle(unfinished, contract, parts.weights, created_at=read_clock())
    return open_bundle(str(folder))


def _read_model(path: Path, facts: ModelFacts) -> ModelParts:
    if path.suffix.lower() in PICKLES or (path.is_dir() and _has_pickles_only(path)):
        raise BundleError(
            "pickles are never loaded, they can run any program",
            where=str(path),
            expected="a transformers folder with model.safetensors, or an ONNX file",
            todo="ask its makers for safetensors, or, if you trust it, load it with transformers and store it again "
            "with `save_pretrained(…, safe_serialization=True)`",
        )
    if path.is_dir():
        return read_segformer(path, facts)
    if path.suffix.lower() == ".onnx" and path.exists():
        return read_onnx(path, facts)
    raise BundleError(
        "this is not a model that can be imported",
        where=str(path),
        expected="a transformers folder with config.json and model.safetensors, or an ONNX file",
        got="nothing" if not path.exists() else f"a file {path.suffix or 'without a suffix'}",
    )


def _has_pickles_only(folder: Path) -> bool:
    suffixes = {path.suffix.lower() for path in folder.iterdir()}
    return ".safetensors" not in suffixes and bool(suffixes & PICKLES)


def _make_contract(facts: ModelFacts, parts: ModelParts, name: str) -> Contract:
    threads = len(os.sched_getaffinity(0))
    return Contract(
        name=name,
        tier=facts.tier,
        bands=facts.bands,
        dtype=facts.dtype,
        range=facts.range or (0.0, 255.0),
        mean=parts.mean,
        std=parts.std,
        gsd_m=facts.gsd_m,
        classes=parts.classes,
        halo_px=parts.halo_px,
        stride_px=parts.stride_px,
        architecture=parts.architecture,
        numerics={"cpu": Numerics(backend="openvino", precision="float32", batch=1, threads=threads)},
        tile_px=parts.tile_px,
        lineage=ImportedLineage(imported=parts.origin),
    )
