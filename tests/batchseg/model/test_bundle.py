from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest
from pystac.extensions.mlm import MLMExtension

from batchseg.classes import ClassInfo
from batchseg.errors import BundleError
from batchseg.model import bundle as bundles
from batchseg.model.architecture import OnnxSpec
from batchseg.model.bundle import open_bundle, read_weights, write_bundle, zoo_names
from batchseg.model.contract import Contract, Numerics
from batchseg.model.lineage import QuantizedLineage, TrainedLineage
from batchseg.model.quality import GroundRecord, TrainedQuality
from tests.batchseg.model.model_bundles import MADE, contract, on_cpu, write_random
from tests.stac import problems_of

WEIGHTS = (2).to_bytes(8, "little") + b"{}"
NO_NETWORK = b"\x3a\x00"
"""An ONNX file whose graph is empty."""
GROUND = GroundRecord(seeds=(1, 3), size_px=512, rasters=(), windows=None, window_px=128)
QUALITY = TrainedQuality(iou={"class 0": 0.25}, miou=0.25, on=GROUND)
LINEAGE = QuantizedLineage(
    quantized_from="another",
    original=TrainedLineage(recipe={"steps": 3}, data={"train": "12ab"}, commit=None, teacher="34cd", steps=3),
)


def write(folder: Path, wanted: Contract, weights: bytes | None = None) -> str:
    weights = weights or (NO_NETWORK if wanted.is_onnx else WEIGHTS)
    write_bundle(folder, wanted, weights, created_at=MADE)
    return str(folder)


def change_item(folder: Path, change: Any) -> None:
    item = json.loads((folder / "item.json").read_text())
    change(item)
    (folder / "item.json").write_text(json.dumps(item))


def test_a_contract_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    wanted = contract(
        dtype="uint16",
        range=(0.0, 10000.0),
        quality=QUALITY,
        lineage=LINEAGE,
        classes=(ClassInfo(id=7, name="snow", rgb=(0, 255, 3)), ClassInfo(id=3, name="rock", rgb=(1, 0, 0))),
    )
    found = open_bundle(write(tmp_path, wanted))
    assert found.contract == wanted
    assert read_weights(found) == WEIGHTS


def test_the_item_is_a_stac_item_that_others_can_read(tmp_path: Path) -> None:
    write(tmp_path, contract())
    content = json.loads((tmp_path / "item.json").read_text())
    assert problems_of(content) == []
    model = MLMExtension.ext(pystac.Item.from_dict(content))
    assert model.mlm_name == "small-net"
    assert [one.bands for one in model.input] == [["red", "green", "blue"]]
    classes = model.output[0].classes
    assert [(c.value, c.name) for c in classes] == [(0, "class 0"), (10, "class 1"), (20, "class 2"), (30, "class 3")]


@pytest.mark.parametrize("break_it", [lambda p: p.pop("mlm:input"), lambda p: p.pop("bands")])
def test_the_schemas_find_what_is_wrong(break_it: Any, tmp_path: Path) -> None:
    write(tmp_path, contract())
    content = json.loads((tmp_path / "item.json").read_text())
    break_it(content["properties"])
    assert problems_of(content) != []


@pytest.mark.parametrize("changes", [{"architecture": OnnxSpec(), "numerics": on_cpu()}, {"tile_px": 512}])
def test_every_form_of_bundle_fits_the_schemas(changes: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, contract(**changes))
    assert problems_of(json.loads((tmp_path / "item.json").read_text())) == []
    assert open_bundle(str(tmp_path)).contract == contract(**changes)


def test_the_digest_is_of_what_decides_output(tmp_path: Path) -> None:
    base = contract()
    cpu = base.numerics["cpu"]
    same = [
        replace(base, quality=QUALITY),
        replace(base, lineage=LINEAGE),
        replace(base, numerics=base.numerics | {"cpu": replace(cpu, seconds_per_tile=0.01, measured_on="a laptop")}),
        replace(base, numerics=base.numerics | {"cpu": replace(cpu, memory_bytes=2**30, agreement=0.99)}),
    ]
    other = [
        replace(base, mean=(90.0, 100.5, 80.5)),
        replace(base, halo_px=56),
        replace(base, tile_px=512),
        replace(base, classes=tuple(reversed(base.classes))),
        replace(base, numerics=base.numerics | {"cpu": replace(cpu, batch=4)}),
        replace(base, numerics=base.numerics | {"cpu": replace(cpu, precision="float32")}),
    ]
    digest = open_bundle(write(tmp_path / "base", base)).digest
    assert {open_bundle(write(tmp_path / f"s{i}", one)).digest for i, one in enumerate(same)} == {digest}
    others = {open_bundle(write(tmp_path / f"o{i}", one)).digest for i, one in enumerate(other)}
    others.add(open_bundle(write(tmp_path / "w", base, (3).to_bytes(8, "little") + b"{} ")).digest)
    assert len(others - {digest}) == len(other) + 1


def test_weights_that_are_not_those_of_the_item_are_refused(tmp_path: Path) -> None:
    found = open_bundle(write(tmp_path, contract()))
    (tmp_path / "weights.safetensors").write_bytes(WEIGHTS[:-1] + b"Y")
    with pytest.raises(BundleError, match="not those of the contract") as caught:
        read_weights(found)
    assert caught.value.expected == found.weights_sha256
    assert caught.value.got
    assert caught.value.todo


def test_missing_weights_are_told_before_anything_runs(tmp_path: Path) -> None:
    write(tmp_path, contract())
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match="weights are missing"):
        open_bundle(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "todo"),
    [(["synthetic-bulk", "synthetic-heavy"], "Did you mean zoo:synthetic-heavy"), (["other"], "Shipped: zoo:other")],
)
def test_an_unknown_name_is_answered_with_the_known_ones(
    names: list[str], todo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        write(tmp_path / name, contract(name=name))
    monkeypatch.setattr(bundles, "ZOO", tmp_path)
    assert zoo_names() == names
    assert open_bundle(f"zoo:{names[0]}").contract.name == names[0]
    with pytest.raises(BundleError, match=todo):
        open_bundle("zoo:synthetic-heavi")


@pytest.mark.parametrize("content", [None, "", "not json", "[]", "{}", '{"properties": {}, "assets": {}}', '"text"'])
def test_what_is_no_bundle_is_an_error_of_ours(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(WEIGHTS)
    if content is not None:
        (tmp_path / "item.json").write_text(content)
    with pytest.raises(BundleError):
        open_bundle(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["properties"].pop("mlm:input"),
        lambda item: item["assets"]["weights"].update({"file:checksum": "md5"}),
        lambda item: item["assets"]["weights"].update({"bands": "red"}),
        lambda item: item["properties"]["mlm:output"][0]["classification:classes"][0].update(color_hint="red"),
        lambda item: item["properties"]["mlm:output"][0]["classification:classes"][0].update(value=-1),
        lambda item: item["properties"]["mlm:output"][0]["classification:classes"][0].update(name="a\0b"),
        lambda item: item["properties"]["mlm:output"][0]["classification:classes"][0].update(color_hint="1FFFFFF"),
        lambda item: item["properties"].update({"batchseg:numerics": []}),
        lambda item: item["properties"]["batchseg:numerics"]["cpu"].update(batch="two"),
        lambda item: item["properties"]["batchseg:numerics"]["cpu"].update(batches=2),
        lambda item: item["properties"].update({"batchseg:halo_px": None}),
        lambda item: item["properties"].update({"batchseg:gsd_m": [0.5]}),
        lambda item: item["properties"].update({"batchseg:tier": "middle"}),
    ],
)
def test_a_damaged_item_is_an_error_of_ours(change: Any, tmp_path: Path) -> None:
    write(tmp_path, contract())
    change_item(tmp_path, change)
    with pytest.raises(BundleError, match=r"contract (cannot be understood|contradicts itself)"):
        open_bundle(str(tmp_path))


def twice(*ids: int) -> tuple[ClassInfo, ...]:
    return tuple(ClassInfo(id=i, name=str(i), rgb=(0, 0, 0)) for i in ids)


def twins(*names: str) -> tuple[ClassInfo, ...]:
    return tuple(ClassInfo(id=i, name=name, rgb=(i, i, i)) for i, name in enumerate(names))


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": (1.0, 2.0)},
        {"std": (1.0, 0.0, 1.0)},
        {"mean": (1.0, math.nan, 1.0)},
        {"bands": (), "mean": (), "std": ()},
        {"classes": ()},
        {"classes": twice(1, 1)},
        {"classes": twice(1, 255)},
        {"classes": twice(1, 65535)},
        {"classes": twice(*range(255), 300)},
        {"tile_px": 96},
        {"tile_px": 250},
        {"range": (255.0, 0.0)},
        {"range": (0.0, math.inf)},
        {"gsd_m": (0.0, 1.0)},
        {"gsd_m": (1.0, 0.5)},
        {"halo_px": -1},
        {"stride_px": 0},
        {"tier": "middle"},
        {"classes": twins("water", "water")},
        {"classes": twins("water", "Water")},
        {"dtype": "int16"},
        {"numerics": {}},
        {"numerics": {"tpu": Numerics(backend="torch", precision="float32", batch=1, threads=1)}},
        {"numerics": {"cuda": Numerics(backend="openvino", precision="float32", batch=1, threads=1)}},
        {"numerics": {"cpu": Numerics(backend="openvino", precision="float32", batch=8, threads=2, streams=3)}},
        {"numerics": {"cpu": Numerics(backend="torch", precision="float32", batch=8, threads=2, streams=2)}},
        {"numerics": on_cpu(batch=0)},
        {"numerics": on_cpu(threads=0)},
        {"numerics": on_cpu(backend="openvino", precision="float16")},
        {"numerics": on_cpu(backend="onnxruntime", precision="bfloat16")},
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="contradicts itself"):
        contract(**changes)


def test_a_device_that_was_never_tuned_is_refused() -> None:
    only_cpu = contract(numerics=on_cpu())
    assert only_cpu.find_numerics("cpu").batch == 2
    with pytest.raises(BundleError, match="never tuned for cuda"):
        only_cpu.find_numerics("cuda")


def test_what_is_shipped_is_whole_and_small() -> None:
    shipped = [open_bundle(f"zoo:{name}") for name in zoo_names()]
    for one in shipped:
        read_weights(one)
        content = json.loads((one.folder / "item.json").read_text())
        assert problems_of(content) == []
        assert one.contract.name == one.folder.name
        eight_bits = isinstance(one.contract.architecture, OnnxSpec)
        assert set(one.contract.numerics) == ({"cpu"} if eight_bits else {"cpu", "cuda"})
        assert (one.folder / "README.md").exists()
    assert sum(path.stat().st_size for one in shipped for path in one.folder.iterdir()) < 30e6


def test_random_weights_make_a_bundle(tmp_path: Path) -> None:
    assert read_weights(write_random(tmp_path))
