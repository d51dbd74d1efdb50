"""SCENE/item.json: what a run made of a scene, as a STAC item that catalogs and pystac read. Hrefs are relative."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyproj
import shapely
from pyproj.exceptions import CRSError
from shapely import affinity

from batchseg.classes import ClassInfo
from batchseg.layers.layer import Layer
from batchseg.ledger.records import SheetRecord, StoredObject
from batchseg.reports.metrics import Metrics
from batchseg.resolve.plan_file import PlanFile
from batchseg.scene.georef import Georef
from batchseg.scene.outline import outline
from batchseg.schema import plain
from tiling.span import Window

_HOST = "https://stac-extensions.github.io"
EXTENSIONS = (
    f"{_HOST}/projection/v2.0.0/schema.json",
    f"{_HOST}/raster/v2.0.0/schema.json",
    f"{_HOST}/file/v2.1.0/schema.json",
    f"{_HOST}/classification/v2.0.0/schema.json",
    f"{_HOST}/processing/v1.2.0/schema.json",
)
"""Not `mlm`: its schema wants every item that names it to be a model. The links lead to items that are."""
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_TYPES = {".tif": _COG, ".qml": "application/xml", ".aux.xml": "application/xml"}
_BLAKE2B_128 = "90e40210"
"""Multihash: the code of the function as a varint, then the digest's length in bytes."""


def stac_item(plan: PlanFile, scene: str, metrics: Metrics, sheets: Sequence[SheetRecord]) -> dict[str, Any]:
    """The item of one scene; `sheets` are the scene's."""
    georef = plan.scenes[scene].georef
    whole = outline(georef, Window.of(0, georef.height_px, 0, georef.width_px))
    ground = None if whole is None else _within_the_map(whole)
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": scene,
        "geometry": None if ground is None else shapely.geometry.mapping(ground),
        "properties": _properties(plan, scene, metrics, sheets),
        "links": _links(plan, scene),
        "assets": _assets(plan, scene, sheets),
    }
    if whole is not None:
        item["bbox"] = _bbox(whole)
    return item


def _within_the_map(shape: Any) -> Any:
    """A shape that goes on beyond 180 degrees, cut there and moved to where it lies (RFC 7946)."""
    turns = (-720, -360, 0, 360, 720)
    moved = [affinity.translate(shape, xoff=turn) for turn in turns]
    parts = [part.intersection(shapely.box(-180, -90, 180, 90)) for part in moved if part.is_valid]
    return shapely.normalize(shapely.union_all([part for part in parts if part.area > 0]))


def _bbox(shape: Any) -> list[float]:
    """West may be greater than east: then the box crosses the antimeridian."""
    west, south, east, north = shape.bounds
    if east - west >= 360:
        return [-180.0, south, 180.0, north]
    return [_degrees(west, -180.0), south, _degrees(east, 180.0), north]


def _degrees(longitude: float, edge: float) -> float:
    around = (longitude + 180) % 360 - 180
    return edge if abs(around) == 180 else around


def _properties(plan: PlanFile, scene: str, metrics: Metrics, sheets: Sequence[SheetRecord]) -> dict[str, Any]:
    of_scene, georef = metrics.scenes[scene], plan.scenes[scene].georef
    begun, ended = (
        datetime.fromtimestamp(pick(unix), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        for pick, unix in (
            (min, [sheet.attempt.started_unix_s for sheet in sheets]),
            (max, [sheet.attempt.ended_unix_s for sheet in sheets]),
        )
    )
    return {
        # A raster does not say when it was taken; this is when it was segmented.
        "datetime": ended,
        "created": begun,
        "updated": ended,
        "description": "Segmentation of a scene. `datetime` is when it was made, not when the scene was taken.",
        **_projection(georef),
        "processing:datetime": ended,
        "processing:lineage": ", ".join(f"{tier}: {model.name}" for tier, model in sorted(plan.models.items())),
        "processing:software": metrics.versions,
        "batchseg:fingerprint": plan.fingerprint,
        "batchseg:models": {tier: model.digest for tier, model in plan.models.items()},
        "batchseg:iou": of_scene.scores.iou,
        "batchseg:miou": of_scene.scores.miou,
        "batchseg:class_area_km2": of_scene.class_area_km2,
        "batchseg:area_km2": of_scene.area_km2,
        "batchseg:mean_confidence": of_scene.mean_confidence,
        "batchseg:cost_usd": of_scene.cost_usd,
        "batchseg:cost_usd_per_km2": of_scene.cost_usd_per_km2,
        "batchseg:coverage": {
            "chunks": plain(of_scene.chunks),
            "valid_share": round(of_scene.valid_px / (georef.width_px * georef.height_px), 6),
            "missing": sorted(str(key) for sheet in sheets for key in sheet.missing),
        },
    }


def _projection(georef: Georef) -> dict[str, Any]:
    facts: dict[str, Any] = {"proj:shape": [georef.height_px, georef.width_px], "proj:code": None}
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        corners = [(row, col) for row in (0, georef.height_px) for col in (0, georef.width_px)]
        x, y = ([p * col + q * row + r for row, col in corners] for p, q, r in ((a, b, c), (d, e, f)))
        facts |= {"proj:transform": list(georef.transform), "proj:bbox": [min(x), min(y), max(x), max(y)]}
    if georef.crs_wkt:
        try:
            crs = pyproj.CRS(georef.crs_wkt)
        except CRSError:
            return facts
        authority = crs.to_authority(min_confidence=100)
        facts |= {"proj:code": ":".join(authority)} if authority else {"proj:wkt2": crs.to_wkt()}
    return facts


def _links(plan: PlanFile, scene: str) -> list[dict[str, Any]]:
    # What stands behind the question mark may be a signature.
    links = [{"rel": "derived_from", "href": plan.scenes[scene].url.partition("?")[0], "title": "the scene"}]
    for tier, model in sorted(plan.models.items()):
        href = f"{model.ref}/item.json"
        facts = {"type": "application/geo+json", "title": f"{tier}: {model.name}", "mlm:name": model.name}
        links += [{"rel": rel, "href": href, **facts} for rel in ("derived_from", "mlm:model")]
    return links


def _assets(plan: PlanFile, scene: str, sheets: Sequence[SheetRecord]) -> dict[str, Any]:
    layers = {layer.name: layer for layer in plan.zarr_layout(scene).layers}
    assets: dict[str, Any] = {}
    for sheet in sorted(sheets, key=lambda one: one.key):
        cell = f"_{sheet.key.row}_{sheet.key.col}" if _is_cut(plan, scene) else ""
        for stored in sheet.objects:
            name, suffix = _named(stored, scene)
            if name in layers and suffix in _TYPES:
                asset = f"{name}{cell}{'' if suffix == '.tif' else suffix.replace('.', '_')}"
                assets[asset] = _file_asset(scene, layers[name], stored, suffix)
    if _is_cut(plan, scene):
        for name, layer in layers.items():
            vrt = {"href": f"./{name}.vrt", "type": "application/x-gdal-vrt", "title": f"{name}, all sheets"}
            assets[name] = vrt | {"roles": ["data"], "bands": [_band(layer)]}
    assets["mask"] = {
        "href": "./mask.zarr",
        "type": "application/vnd.zarr; version=2",
        "title": "all layers with their levels",
        "roles": ["data"],
        "bands": [_band(layer) for layer in layers.values()],
    }
    return assets


def _is_cut(plan: PlanFile, scene: str) -> bool:
    georef = plan.scenes[scene].georef
    return max(georef.width_px, georef.height_px) > plan.scenes[scene].sheet_px


def _named(stored: StoredObject, scene: str) -> tuple[str, str]:
    """The layer that a file belongs to, and what kind of file it is."""
    name = stored.key.removeprefix(f"{scene}/").removeprefix("sheets/")
    for suffix in (".tif.aux.xml", ".qml", ".tif"):
        if name.endswith(suffix):
            return name.removesuffix(suffix).partition("_")[0], suffix.removeprefix(".tif") or ".tif"
    return "", ""


def _file_asset(scene: str, layer: Layer, stored: StoredObject, suffix: str) -> dict[str, Any]:
    asset: dict[str, Any] = {
        "href": f"./{stored.key.removeprefix(f'{scene}/')}",
        "type": _TYPES[suffix],
        "roles": ["data"] if suffix == ".tif" else ["style" if suffix == ".qml" else "metadata"],
        "file:size": stored.size_bytes,
        "file:checksum": f"{_BLAKE2B_128}{stored.digest}",
    }
    return asset | {"title": layer.name, "bands": [_band(layer)]} if suffix == ".tif" else asset


def _band(layer: Layer) -> dict[str, Any]:
    band: dict[str, Any] = {
        "name": layer.name,
        "data_type": layer.dtype,
        "nodata": layer.nodata,
        "raster:sampling": "area",
    }
    if layer.kind == "measure":
        return band | {"raster:scale": 1 / layer.top, "raster:offset": 0}
    classes = [_class(info) for info in layer.classes]
    return band | ({"classification:classes": classes} if classes else {})


def _class(info: ClassInfo) -> dict[str, Any]:
    return {
        "value": info.id,
        "name": machine_name(info.name, info.id),
        "title": info.name,
        "description": info.name,
        "color_hint": "{:02X}{:02X}{:02X}".format(*info.rgb),
    }


def machine_name(name: str, code: int) -> str:
    """A class's name in the letters that the extension allows; people read its title."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z-]+", "_", plain).strip("_") or f"class_{code}"
