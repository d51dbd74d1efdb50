"""The STAC item of a bundle, with the Machine Learning Model extension: a contract as JSON, and back.

A fact that the extension has a field for stands in that field, and is read from there: bands, value scaling, classes,
the kind of network. The rest of the contract stands under our own prefix, `batchseg:`, and is read strictly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from batchseg.classes import ClassInfo
from batchseg.model.architecture import Architecture
from batchseg.model.contract import Contract, Numerics
from batchseg.model.lineage import Lineage
from batchseg.model.quality import Quality
from batchseg.scene.bands import BandWanted
from batchseg.schema import Json, JsonObject, build, optional, plain
from batchseg.tiers import Tier

MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
WEIGHTS, ONNX_WEIGHTS = "weights.safetensors", "weights.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    contract: Contract
    weights_sha256: str
    href: str
    """Name of the weights, beside the item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OwnProperties:
    """The properties under our own prefix. Numbers keep their JSON type, because the digest is made of them."""

    tier: Tier
    range: tuple[int | float, int | float]
    gsd_m: tuple[int | float, int | float]
    halo_px: int
    stride_px: int
    architecture: Architecture
    numerics: dict[str, Numerics]
    quality: Quality
    lineage: Lineage
    tile_px: int | None = optional()


def weights_name(contract: Contract) -> str:
    return ONNX_WEIGHTS if contract.is_onnx else WEIGHTS


def read_item(item: Json) -> Item:
    """Read a contract strictly.

    Raises:
        LookupError, TypeError, ValueError, AttributeError, BatchsegError: The item holds no contract.
    """
    properties = _at(item, "properties")
    model_input, scaling = _at(properties, "mlm:input", 0), _at(properties, "mlm:input", 0, "value_scaling")
    prefixed = {
        key.removeprefix("batchseg:"): value for key, value in properties.items() if key.startswith("batchseg:")
    }
    own = build(_OwnProperties, prefixed, where="batchseg")
    contract = Contract(
        name=properties["mlm:name"],
        tier=own.tier,
        bands=tuple(_read_band(band) for band in _at(item, "assets", "weights", "bands")),
        dtype=_at(model_input, "input", "data_type"),
        range=own.range,
        mean=tuple(band["mean"] for band in scaling),
        std=tuple(band["stddev"] for band in scaling),
        gsd_m=own.gsd_m,
        classes=tuple(_read_class(one) for one in _at(properties, "mlm:output", 0, "classification:classes")),
        halo_px=own.halo_px,
        stride_px=own.stride_px,
        architecture=own.architecture,
        numerics=own.numerics,
        tile_px=own.tile_px,
        quality=own.quality,
        lineage=own.lineage,
    )
    checksum, href = (str(_at(item, "assets", "weights", key)) for key in ("file:checksum", "href"))
    return Item(contract=contract, weights_sha256=_read_sha256(checksum), href=href.removeprefix("./"))


def _at(value: Json, *path: str | int) -> Any:
    """The value at a path of keys and positions."""
    inner: Any = value
    for key in path:
        inner = inner[key]
    return inner


def _read_sha256(checksum: str) -> str:
    """The digest in a multihash: 0x12 stands for sha2-256, 0x20 for its length in bytes."""
    if not re.fullmatch("1220[0-9a-f]{64}", checksum):
        raise ValueError(f"file:checksum must be a SHA-256 multihash, 1220 and 64 hexadecimal digits, got {checksum!r}")
    return checksum.removeprefix("1220")


def _read_band(band: JsonObject) -> BandWanted:
    return build(BandWanted, {"name": band["name"], "common": band.get("eo:common_name")}, where="bands")


def _read_class(one: JsonObject) -> ClassInfo:
    colour = int(str(one["color_hint"]), 16)
    rgb = colour >> 16, colour >> 8 & 255, colour & 255
    return build(ClassInfo, {"id": one["value"], "name": one["name"], "rgb": rgb}, where="classification:classes")


def make_item(contract: Contract, *, weights_sha256: str, weights_bytes: int, created_at: str) -> JsonObject:
    """A contract as a STAC item; `created_at` is the date and time of the bundle."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, FILE],
        "id": contract.name,
        "geometry": None,
        "properties": {
            "datetime": created_at,
            # The extension wants the bands here; STAC itself allows them here only if an asset has them too.
            "bands": [_make_band(band) for band in contract.bands],
            "mlm:name": contract.name,
            "mlm:architecture": contract.architecture.kind,
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:framework": "ONNX" if contract.is_onnx else "pytorch",
            "mlm:accelerator": "cuda" if "cuda" in contract.numerics else None,
            "mlm:accelerator_constrained": False,
            "mlm:input": [_make_input(contract)],
            "mlm:output": [_make_output(contract)],
            **{f"batchseg:{key}": value for key, value in _make_own(contract).items()},
        },
        "links": [],
        "assets": {
            "weights": {
                "href": weights_name(contract),
                "title": "weights",
                "type": "application/octet-stream" if contract.is_onnx else "application/vnd.safetensors",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "onnx" if contract.is_onnx else "safetensors",
                "bands": [_make_band(band) for band in contract.bands],
                "file:checksum": f"1220{weights_sha256}",
                "file:size": weights_bytes,
            }
        },
    }


def _make_band(band: BandWanted) -> JsonObject:
    return {"name": band.name} | ({"eo:common_name": band.common} if band.common else {})


def _make_input(contract: Contract) -> JsonObject:
    scales = zip(contract.mean, contract.std, strict=True)
    return {
        "name": "tile",
        "bands": [band.name for band in contract.bands],
        "input": {
            "shape": [-1, len(contract.bands), *[contract.tile_px or -1] * 2],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": contract.dtype,
        },
        "value_scaling": [{"type": "z-score", "mean": mean, "stddev": std} for mean, std in scales],
    }


def _make_output(contract: Contract) -> JsonObject:
    return {
        "name": "classes",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, len(contract.classes), -1, -1],
            "dim_order": ["batch", "classes", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": [
            {
                "value": c.id,
                "name": c.name,
                "description": c.name,  # required by the schema
                "color_hint": "{:02X}{:02X}{:02X}".format(*c.rgb),
            }
            for c in contract.classes
        ],
    }


def _make_own(contract: Contract) -> JsonObject:
    own = _OwnProperties(
        tier=contract.tier,
        range=contract.range,
        gsd_m=contract.gsd_m,
        halo_px=contract.halo_px,
        stride_px=contract.stride_px,
        architecture=contract.architecture,
        numerics=contract.numerics,
        quality=contract.quality,
        lineage=contract.lineage,
        tile_px=contract.tile_px,
    )
    properties: JsonObject = plain(own)
    return properties
