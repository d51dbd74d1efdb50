"""SegFormer folders as `transformers` stores them: their weights, and the facts that their files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchseg.classes import ClassInfo
from batchseg.errors import BundleError
from batchseg.model.architecture import ImportedSegformerSpec, SegformerShape
from batchseg.model.lineage import ImportedModel
from batchseg.model.model_facts import DEFAULT_HALO_PX, ModelFacts, ModelParts, check_count, choose_colour
from batchseg.regular_files import check_file, read_regular
from batchseg.schema import build


def read_segformer(folder: Path, facts: ModelFacts) -> ModelParts:
    from safetensors import SafetensorError
    from safetensors.torch import save
    from transformers import SegformerForSemanticSegmentation

    for file in sorted(folder.iterdir()):
        check_file(file)
    path = folder / "config.json"
    config = _read_json(path)
    kind = config.get("model_type")
    if kind != "segformer":
        raise BundleError("this is another kind of model", where=str(path), expected="segformer", got=str(kind))
    check_count("bands", config.get("num_channels", 3), [band.name for band in facts.bands], folder)
    classes = facts.classes or _read_classes(config, path)
    mean, std = _read_scaling(folder / "preprocessor_config.json", facts)
    try:
        network, report = SegformerForSemanticSegmentation.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise BundleError("the weights cannot be read", where=str(folder), got=str(error).splitlines()[0]) from error
    if report["missing_keys"]:
        got = f"{len(report['missing_keys'])} missing tensors, such as {min(report['missing_keys'])}"
        todo = "take a model that was trained for segmentation; a backbone alone has no head"
        raise BundleError("weights are missing", where=str(folder), got=got, todo=todo)
    check_count("classes", network.config.num_labels, [one.name for one in classes], folder)
    shape = {name: getattr(network.config, name) for name in SegformerShape.__dataclass_fields__}
    spec = ImportedSegformerSpec(config=build(SegformerShape, shape, where=str(path)))
    # `transformers` notes the model's place on its maker's machine. Bundles are given away, so it stays behind.
    public = {key: value for key, value in config.items() if key != "_name_or_path"}
    return ModelParts(
        weights=save({f"segformer.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}),
        architecture=spec,
        classes=classes,
        mean=mean,
        std=std,
        halo_px=DEFAULT_HALO_PX if facts.halo_px is None else facts.halo_px,
        stride_px=spec.stride_px,
        tile_px=None,
        origin=ImportedModel(from_=folder.name, format="transformers", config=public),
    )


def _read_classes(config: dict[str, Any], path: Path) -> tuple[ClassInfo, ...]:
    """The classes that `id2label` names; its default, LABEL_0 and so on, names none."""
    labels = config.get("id2label") or {}
    if not isinstance(labels, dict) or not all(number.isdecimal() and len(number) < 6 for number in labels):
        raise BundleError(
            "the names of classes must stand by number",
            where=f"{path}: id2label",
            expected='a mapping like {"0": "water"}',
            got=repr(labels),
            todo="give them in the order of the outputs: --classes water,forest,…",
        )
    names = {int(number): str(name) for number, name in labels.items()}
    if not names or all(name == f"LABEL_{number}" for number, name in names.items()):
        raise BundleError(
            "the model does not name its classes",
            where=str(path),
            todo="give them in the order of its outputs: --classes water,forest,…",
        )
    return tuple(ClassInfo(id=i, name=names[i], rgb=choose_colour(i)) for i in sorted(names))


def _read_scaling(path: Path, facts: ModelFacts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and deviations in raw values. Those of the files hold for values that were rescaled first."""
    if facts.mean is not None and facts.std is not None:
        return facts.mean, facts.std
    if facts.mean is not None or facts.std is not None:
        raise BundleError(
            "means and deviations belong together",
            where=str(path.parent),
            expected="--mean and --std, or neither if the files hold both",
            got="--std alone" if facts.mean is None else "--mean alone",
        )
    if not path.exists():
        raise BundleError(
            "no file says how the input is scaled",
            where=str(path),
            todo="give --mean and --std in raw values, one number per band",
        )
    scaling = _read_json(path)
    factor = float(scaling.get("rescale_factor", 1 / 255)) if scaling.get("do_rescale", True) else 1.0
    num_bands = len(facts.bands)
    if not scaling.get("do_normalize", True):
        return (0.0,) * num_bands, (1 / factor,) * num_bands
    means, stds = scaling.get("image_mean", []), scaling.get("image_std", [])
    check_count("bands", len(means), [band.name for band in facts.bands], path)
    return tuple(m / factor for m in means), tuple(s / factor for s in stds)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(read_regular(path).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError("this file cannot be read", where=str(path), got=str(error)) from error
    return content
