"""The contract in `item.json`, read strictly: networks, quality and lineage are values, and come back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchseg.errors import BundleError
from batchseg.model.architecture import (
    PUBLISHED_SHAPES,
    Architecture,
    BulkNetSpec,
    ImportedSegformerSpec,
    OnnxSpec,
    SegformerSpec,
    UNetSpec,
)
from batchseg.model.bundle import open_bundle, write_bundle
from batchseg.model.item import make_item, read_item
from batchseg.model.lineage import (
    AdjustedLineage,
    ImportedLineage,
    ImportedModel,
    Lineage,
    MixingRecord,
    QuantizedLineage,
    TrainedLineage,
    UnknownLineage,
    find_training,
)
from batchseg.model.quality import (
    AdjustedQuality,
    GroundRecord,
    JudgedPixels,
    JudgedTiles,
    Quality,
    QuantizedQuality,
    RasterRecord,
    TrainedQuality,
    UnknownQuality,
)
from batchseg.schema import plain
from tests.batchseg.model.model_bundles import MADE, contract, on_cpu
from tests.runs import WEIGHTS_OF_NOBODY

B0 = plain(PUBLISHED_SHAPES["b0"])
ARCHITECTURES: list[tuple[Architecture, dict[str, Any]]] = [
    (BulkNetSpec(), {"kind": "bulknet"}),
    (BulkNetSpec(width=16), {"kind": "bulknet", "width": 16}),
    (UNetSpec(width=8), {"kind": "unet", "width": 8}),
    (SegformerSpec(size="b2"), {"kind": "segformer", "size": "b2"}),
    (SegformerSpec(size="b0", decoder=8, detail=4), {"kind": "segformer", "size": "b0", "decoder": 8, "detail": 4}),
    (ImportedSegformerSpec(config=PUBLISHED_SHAPES["b0"]), {"kind": "segformer", "config": B0}),
    (OnnxSpec(), {"kind": "onnx"}),
    (
        OnnxSpec(quantized="int8", of=BulkNetSpec(width=32)),
        {"kind": "onnx", "quantized": "int8", "of": {"kind": "bulknet", "width": 32}},
    ),
]
GROUND = GroundRecord(
    seeds=None, size_px=1, rasters=(RasterRecord(image="a.tif", labels=None),), windows=3, window_px=8
)
QUALITIES: list[tuple[Quality, list[str]]] = [
    (UnknownQuality(), []),
    (TrainedQuality(iou={"a": 0.5}, miou=0.5, on=GROUND), ["iou", "miou", "on"]),
    (
        AdjustedQuality(
            iou={"a": 0.5}, miou=0.5, miou_of_original=0.4, judged_on=JudgedPixels(on="a", tiles=1, pixels=2)
        ),
        ["iou", "miou", "miou_of_original", "judged_on"],
    ),
    (
        QuantizedQuality(agreement_with_original=0.9, judged_on=JudgedTiles(on="a", tiles=1)),
        ["agreement_with_original", "judged_on"],
    ),
    (
        QuantizedQuality(
            agreement_with_original=0.9,
            judged_on=JudgedTiles(on="a", tiles=1),
            iou={"a": 0.5},
            miou=0.5,
            miou_of_original=0.5,
        ),
        ["agreement_with_original", "judged_on", "iou", "miou", "miou_of_original"],
    ),
]
TRAINED = TrainedLineage(recipe={"name": "n"}, data={"train": "1"}, commit=None, start="2", steps=3)
IMPORTED = ImportedLineage(imported=ImportedModel(from_="net", format="transformers", config={"depths": [1, 2]}))
LINEAGES: list[tuple[Lineage, list[str]]] = [
    (UnknownLineage(), []),
    (TRAINED, ["recipe", "data", "commit", "start", "steps"]),
    (IMPORTED, ["imported"]),
    (ImportedLineage(imported=ImportedModel(from_="net.onnx", format="ONNX")), ["imported"]),
    (QuantizedLineage(quantized_from="n", original=TRAINED), ["quantized_from", "original"]),
    (
        AdjustedLineage(
            adjusted_from="n",
            mixing=MixingRecord(weights=((1.0, 0.0), (0.0, 1.0)), offsets=(0.0, 0.5)),
            original=QuantizedLineage(quantized_from="m", original=IMPORTED),
        ),
        ["adjusted_from", "mixing", "original"],
    ),
]


def make_json(**changes: Any) -> Any:
    item = make_item(contract(numerics=on_cpu(), **changes), weights_sha256="0" * 64, weights_bytes=1, created_at=MADE)
    return json.loads(json.dumps(item))


@pytest.mark.parametrize(("architecture", "content"), ARCHITECTURES)
def test_a_network_is_written_with_the_keys_that_it_has(architecture: Architecture, content: dict[str, Any]) -> None:
    item = make_json(architecture=architecture)
    assert item["properties"]["batchseg:architecture"] == content
    assert item["properties"]["mlm:architecture"] == content["kind"]
    assert read_item(item).contract.architecture == architecture


@pytest.mark.parametrize(("quality", "keys"), QUALITIES)
def test_a_quality_comes_back(quality: Quality, keys: list[str]) -> None:
    item = make_json(quality=quality)
    assert list(item["properties"]["batchseg:quality"]) == keys
    assert read_item(item).contract.quality == quality


@pytest.mark.parametrize(("lineage", "keys"), LINEAGES)
def test_a_lineage_comes_back(lineage: Lineage, keys: list[str]) -> None:
    item = make_json(lineage=lineage)
    assert list(item["properties"]["batchseg:lineage"]) == keys
    assert read_item(item).contract.lineage == lineage


def test_the_training_is_found_behind_every_change() -> None:
    lineage = QuantizedLineage(quantized_from="b", original=QuantizedLineage(quantized_from="a", original=TRAINED))
    assert find_training(lineage) is TRAINED
    assert find_training(IMPORTED) is None
    assert find_training(UnknownLineage()) is None


@pytest.mark.parametrize(
    ("architecture", "match"),
    [
        ({}, "architecture: kind: .*expected bulknet or unet or segformer or onnx"),
        ({"kind": "vgg"}, "architecture: kind: .*expected bulknet or unet or segformer or onnx, got 'vgg'"),
        ({"kind": "bulknett"}, "Did you mean `bulknet`"),
        ({"kind": "segformer"}, "`size` is missing"),
        ({"kind": "segformer", "size": 0}, "architecture: size"),
        ({"kind": "segformer", "size": "b0", "width": 8}, "unknown key `width`"),
        ({"kind": "bulknet", "width": 0}, "`width` must be 1 or more; got 0"),
        ({"kind": "bulknet", "width": "wide"}, "architecture: width.*a whole number"),
        ({"kind": "segformer", "config": {"depths": [1]}}, "is missing"),
        ({"kind": "segformer", "config": None}, "architecture: config"),
        ({"kind": "segformer", "size": "b0", "detail": 0}, "`detail` must be 1 or more"),
        ({"kind": "segformer", "config": B0, "detail": 64}, "unknown key `config`"),
        ({"kind": "onnx", "opset": 17}, "unknown key `opset`"),
    ],
)
def test_an_unknown_network_is_refused(architecture: dict[str, Any], match: str, tmp_path: Path) -> None:
    write_bundle(tmp_path, contract(), WEIGHTS_OF_NOBODY, created_at=MADE)
    item = json.loads((tmp_path / "item.json").read_text())
    item["properties"]["batchseg:architecture"] = architecture
    (tmp_path / "item.json").write_text(json.dumps(item))
    with pytest.raises(BundleError, match=match):
        open_bundle(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quality", {"miou": 0.5}),
        ("quality", {"iou": {"a": 0.5}, "miou": "good", "on": plain(GROUND)}),
        ("quality", []),
        ("lineage", {"by": "somebody"}),
        ("lineage", {"quantized_from": "n"}),
        ("notes", "a key of nobody"),
    ],
)
def test_what_is_not_known_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    write_bundle(tmp_path, contract(), WEIGHTS_OF_NOBODY, created_at=MADE)
    item = json.loads((tmp_path / "item.json").read_text())
    item["properties"][f"batchseg:{key}"] = value
    (tmp_path / "item.json").write_text(json.dumps(item))
    with pytest.raises(BundleError, match="contract cannot be understood"):
        open_bundle(str(tmp_path))


def test_numbers_keep_their_type_because_the_digest_is_made_of_them() -> None:
    item = make_json()
    item["properties"]["batchseg:range"] = [0, 255.0]
    low, high = read_item(item).contract.range
    assert (type(low), type(high)) == (int, float)
