"""A bundle on disk: `item.json`, a STAC item with the Machine Learning Model extension, and its weights.

The weights are `weights.safetensors`, for the networks that we build, or `weights.onnx`, a whole network.

What the extension has a field for stands in that field, and is read from there: bands, value scaling, classes,
architecture. The rest of the contract stands under our own prefix, `batchseg:`. The digest of the weights is in the
item and checked before they are used; no pickle is ever loaded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.classes import ClassInfo
from batchseg.errors import BundleError, InputError
from batchseg.model.contract import Contract, Numerics
from batchseg.model.fetch import cache_folder, fetched
from batchseg.remote import is_remote
from batchseg.scene.bands import BandWanted
from batchseg.schema import build, plain

ITEM, WEIGHTS, ONNX_WEIGHTS = "item.json", "weights.safetensors", "weights.onnx"
ZOO = Path(__file__).resolve().parent.parent / "zoo"
MLM = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    contract: Contract
    folder: Path
    weights_sha256: str

    @property
    def weights(self) -> Path:
        return self.folder / weights_name(self.contract)

    @property
    def digest(self) -> str:
        """Of all that decides output bytes: contract with numerics, and weights; not of quality or lineage."""
        numerics = {kind: found.runs_alike() for kind, found in self.contract.numerics.items()}
        return self._digest_of(_deciding(self.contract) | {"numerics": numerics})

    @property
    def graph_digest(self) -> str:
        """Of the graph alone, however it is run."""
        return self._digest_of(_deciding(self.contract))

    def _digest_of(self, content: dict[str, Any]) -> str:
        text = json.dumps([content, self.weights_sha256], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _deciding(contract: Contract) -> dict[str, Any]:
    content: dict[str, Any] = plain(contract)
    for free in ("numerics", "quality", "lineage"):
        content.pop(free)
    if content["tile_px"] is None:
        content.pop("tile_px")  # a bundle's digest must not change because a contract can say more
    return content


def weights_name(contract: Contract) -> str:
    return ONNX_WEIGHTS if contract.is_onnx else WEIGHTS


def zoo_names() -> list[str]:
    return sorted(folder.name for folder in ZOO.iterdir() if (folder / ITEM).exists()) if ZOO.exists() else []


def bundle_folder(ref: str) -> Path:
    """`zoo:NAME` is one that we ship, a URL is fetched; anything else is a folder."""
    if is_remote(ref):
        return fetched(ref, cache_folder())
    if not ref.startswith("zoo:"):
        return Path(ref)
    name, known = ref.removeprefix("zoo:"), zoo_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        todo = f"did you mean zoo:{near[0]}?" if near else f"shipped: {', '.join(f'zoo:{k}' for k in known)}"
        raise BundleError("no such bundle is shipped", where=ref, todo=todo)
    return ZOO / name


def open_bundle(ref: str, *, check_weights: bool = True) -> Bundle:
    """Open a bundle, and check its contract and its weights.

    Args:
        ref: `zoo:NAME` for a shipped bundle, the path of a folder, or a URL.
        check_weights: Whether to compare the weights with the digest in the contract. A caller that runs the weights
            at once may skip this: `read_weights` compares them anyway.

    Returns:
        The bundle. Its contract is consistent, and its weights are those that the contract names.

    Raises:
        BundleError: There is no bundle at `ref`, its contract is broken, or its weights are missing or damaged.

    Example:
        >>> from batchseg import open_bundle
        >>> [one.name for one in open_bundle("zoo:synthetic-bulk").contract.bands]
        ['red', 'green', 'blue']
    """
    folder = bundle_folder(ref)
    try:
        item = json.loads((folder / ITEM).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            "this is not a bundle",
            where=ref,
            expected=f"a folder with {ITEM} and {WEIGHTS}",
            got=str(error),
            todo="check the path, or take one that is shipped: " + ", ".join(f"zoo:{name}" for name in zoo_names()),
        ) from error
    try:
        bundle = Bundle(_contract(item), folder, _weights_sha256(item))
        _check_weights_name(str(item["assets"]["weights"]["href"]), bundle)
    except BundleError:
        raise
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, InputError) as error:
        raise BundleError(
            "the contract cannot be understood", where=str(folder / ITEM), got=f"{type(error).__name__}: {error}"
        ) from error
    if not bundle.weights.exists():
        raise BundleError("the weights are missing", where=str(bundle.weights), todo="fetch the bundle again")
    if check_weights:
        read_weights(bundle)
    return bundle


def _check_weights_name(href: str, bundle: Bundle) -> None:
    """A file of another kind could be a pickle, which runs whatever its maker liked as soon as it is opened."""
    if href.removeprefix("./") != weights_name(bundle.contract):
        raise BundleError(
            "these weights are never loaded",
            where=str(bundle.folder / ITEM),
            expected=f"{weights_name(bundle.contract)} for architecture {bundle.contract.architecture.get('kind')}",
            got=href,
            todo="make a bundle of safetensors or ONNX with `batchseg model import`",
        )


def read_weights(bundle: Bundle) -> bytes:
    """The weights, checked against the digest in the item."""
    content = bundle.weights.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != bundle.weights_sha256:
        raise BundleError(
            "the weights are not those of the contract",
            where=str(bundle.weights),
            expected=bundle.weights_sha256,
            got=found,
            todo="fetch the bundle again",
        )
    return content


def write_bundle(folder: Path, contract: Contract, weights: bytes, *, made: str) -> None:
    """Write a bundle; `made` is its date and time, as STAC wants it (2026-01-31T00:00:00Z).

    The item comes last, at once: what is killed before leaves no bundle, never one of another's weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ITEM).unlink(missing_ok=True)
    (folder / weights_name(contract)).write_bytes(weights)
    item = _item(contract, hashlib.sha256(weights).hexdigest(), len(weights), made)
    unfinished = folder / f"{ITEM}.unfinished"
    unfinished.write_text(json.dumps(item, indent=1) + "\n", "utf-8")
    unfinished.replace(folder / ITEM)


def _weights_sha256(item: dict[str, Any]) -> str:
    """From a multihash: 0x12 is sha2-256, 0x20 its length in bytes."""
    checksum = str(item["assets"]["weights"]["file:checksum"])
    if not re.fullmatch("1220[0-9a-f]{64}", checksum):
        raise ValueError(f"file:checksum {checksum!r} is not a SHA-256 multihash, 1220 and 64 hexadecimal digits")
    return checksum.removeprefix("1220")


def _contract(item: dict[str, Any]) -> Contract:
    properties = item["properties"]
    model_input, output = properties["mlm:input"][0], properties["mlm:output"][0]
    scaling = model_input["value_scaling"]
    ours = {key.removeprefix("batchseg:"): value for key, value in properties.items() if key.startswith("batchseg:")}
    return Contract(
        name=properties["mlm:name"],
        tier=ours["tier"],
        bands=tuple(
            build(BandWanted, {"name": band["name"], "common": band.get("eo:common_name")}, where="bands")
            for band in item["assets"]["weights"]["bands"]
        ),
        dtype=model_input["input"]["data_type"],
        range=tuple(ours["range"]),
        mean=tuple(band["mean"] for band in scaling),
        std=tuple(band["stddev"] for band in scaling),
        gsd_m=tuple(ours["gsd_m"]),
        classes=tuple(_class(found) for found in output["classification:classes"]),
        halo_px=ours["halo_px"],
        stride_px=ours["stride_px"],
        architecture=ours["architecture"],
        numerics={kind: build(Numerics, found, where=f"numerics: {kind}") for kind, found in ours["numerics"].items()},
        tile_px=ours.get("tile_px"),
        quality=ours["quality"],
        lineage=ours["lineage"],
    )


def _class(found: dict[str, Any]) -> ClassInfo:
    colour = int(found["color_hint"], 16)
    return ClassInfo(id=found["value"], name=found["name"], rgb=(colour >> 16, colour >> 8 & 255, colour & 255))


def _item(contract: Contract, sha256: str, size_bytes: int, made: str) -> dict[str, Any]:
    kinds = sorted(contract.numerics)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, FILE],
        "id": contract.name,
        "geometry": None,
        "properties": {
            "datetime": made,
            # The extension wants the bands here; STAC itself allows them here only if an asset has them too.
            "bands": [_band(band) for band in contract.bands],
            "mlm:name": contract.name,
            "mlm:architecture": contract.architecture["kind"],
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:framework": "ONNX" if contract.is_onnx else "pytorch",
            "mlm:accelerator": "cuda" if "cuda" in kinds else None,
            "mlm:accelerator_constrained": False,
            "mlm:input": [_input(contract)],
            "mlm:output": [_output(contract)],
            **{f"batchseg:{key}": value for key, value in _ours(contract).items()},
        },
        "links": [],
        "assets": {
            "weights": {
                "href": weights_name(contract),
                "title": "weights",
                "type": "application/octet-stream" if contract.is_onnx else "application/vnd.safetensors",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "onnx" if contract.is_onnx else "safetensors",
                "bands": [_band(band) for band in contract.bands],
                "file:checksum": f"1220{sha256}",
                "file:size": size_bytes,
            }
        },
    }


def _band(band: BandWanted) -> dict[str, Any]:
    return {"name": band.name} | ({"eo:common_name": band.common} if band.common else {})


def _input(contract: Contract) -> dict[str, Any]:
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


def _output(contract: Contract) -> dict[str, Any]:
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
                "description": c.name,  # the schema wants one
                "color_hint": "{:02X}{:02X}{:02X}".format(*c.rgb),
            }
            for c in contract.classes
        ],
    }


def _ours(contract: Contract) -> dict[str, Any]:
    content = plain(contract)
    keys = ("tier", "range", "gsd_m", "halo_px", "stride_px", "architecture", "numerics", "quality", "lineage")
    return {key: content[key] for key in keys} | ({"tile_px": contract.tile_px} if contract.tile_px else {})
