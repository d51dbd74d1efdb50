"""SCENE/item.json: the output of a scene as a STAC item, for catalogs and pystac. Hrefs are relative."""

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

from batchseg.classes import ClassInfo, make_distinct
from batchseg.layers.layer import Layer
from batchseg.ledger.records import SheetRecord, StoredObject
from batchseg.redact import make_public_url
from batchseg.reports.metrics import Metrics
from batchseg.resolve.plan_file import PlanFile
from batchseg.scene.georef import Georef
from batchseg.scene.outline import make_outline
from batchseg.schema import Json, JsonObject, plain
from tiling.span import Window

_HOST = "https://stac-extensions.github.io"
EXTENSIONS = (
    f"{_HOST}/projection/v2.0.0/schema.json",
    f"{_HOST}/raster/v2.0.0/schema.json",
    f"{_HOST}/file/v2.1.0/schema.json",
    f"{_HOST}/classification/v2.0.0/schema.json",
    f"{_HOST}/processing/v1.2.0/schema.json",
)
"""The extensions of an item. `mlm` is not one, as its schema requires the item to be a model; links lead to models."""
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_TYPES = {".tif": _COG, ".qml": "application/xml", ".aux.xml": "application/xml"}
_BLAKE2B_128 = "90e40210"
"""The prefix of a multihash: the code of the hash function as a varint, and the length of the digest in bytes."""


def make_stac_item(plan: PlanFile, scene: str, metrics: Metrics, sheets: Sequence[SheetRecord]) -> JsonObject:
    """Make the item of one scene.

    Args:
        plan: The plan of the run.
        scene: The name of the scene.
        metrics: The metrics of the run.
        sheets: The published sheets of the scene; at least one.
    """
    georef = plan.scenes[scene].georef
    whole = make_outline(georef, Window.of(0, georef.height_px, 0, georef.width_px))
    geometry = None if whole is None else shapely.geometry.mapping(_wrap_at_antimeridian(whole))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": scene,
        "geometry": geometry,
        "properties": _make_properties(plan, scene, metrics, sheets),
        "links": _make_links(plan, scene),
        "assets": _make_assets(plan, scene, sheets),
        **({} if whole is None else {"bbox": _make_bbox(whole)}),
    }


def _wrap_at_antimeridian(shape: Any) -> Any:
    """Cut a shape that crosses 180 degrees there, and move the parts into the map (RFC 7946)."""
    turns = (-720, -360, 0, 360, 720)
    moved = [affinity.translate(shape, xoff=turn) for turn in turns]
    parts = [part.intersection(shapely.box(-180, -90, 180, 90)) for part in moved if part.is_valid]
    return shapely.normalize(shapely.union_all([part for part in parts if part.area > 0]))


def _make_bbox(shape: Any) -> list[float]:
    """West, south, east and north; west is greater than east where the box crosses the antimeridian."""
    west, south, east, north = shape.bounds
    if east - west >= 360:
        return [-180.0, south, 180.0, north]
    return [_wrap_degrees(west, -180.0), south, _wrap_degrees(east, 180.0), north]


def _wrap_degrees(longitude: float, edge: float) -> float:
    """The longitude within 180 degrees; `edge` decides between -180 and 180, which are the same meridian."""
    around = (longitude + 180) % 360 - 180
    return edge if abs(around) == 180 else around


def _make_properties(plan: PlanFile, scene: str, metrics: Metrics, sheets: Sequence[SheetRecord]) -> JsonObject:
    of_scene, georef = metrics.scenes[scene], plan.scenes[scene].georef
    begun = _format_time(min(sheet.attempt.started_unix_s for sheet in sheets))
    ended = _format_time(max(sheet.attempt.ended_unix_s for sheet in sheets))
    return {
        # A raster does not say when it was taken, so this is the time of the segmentation.
        "datetime": ended,
        "created": begun,
        "updated": ended,
        "description": "Segmentation of a scene. `datetime` is when it was made, not when the scene was taken.",
        **_describe_projection(georef),
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


def _format_time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _describe_projection(georef: Georef) -> JsonObject:
    facts: dict[str, Json] = {"proj:shape": [georef.height_px, georef.width_px], "proj:code": None}
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        corners = [(row, col) for row in (0, georef.height_px) for col in (0, georef.width_px)]
        x, y = ([p * col + q * row + r for row, col in corners] for p, q, r in ((a, b, c), (d, e, f)))
        facts["proj:transform"] = list(georef.transform)
        facts["proj:bbox"] = [min(x), min(y), max(x), max(y)]
    if georef.crs_wkt:
        try:
            crs = pyproj.CRS(georef.crs_wkt)
        except CRSError:
            return facts
        authority = crs.to_authority(min_confidence=100)
        facts |= {"proj:code": ":".join(authority)} if authority else {"proj:wkt2": crs.to_wkt()}
    return facts


def _make_links(plan: PlanFile, scene: str) -> list[JsonObject]:
    href = make_public_url(plan.scenes[scene].url)
    links: list[JsonObject] = [{"rel": "derived_from", "href": href, "title": "the scene"}]
    for tier, model in sorted(plan.models.items()):
        href, title = f"{model.ref}/item.json", f"{tier}: {model.name}"
        links += [
            {"rel": rel, "href": href, "type": "application/geo+json", "title": title, "mlm:name": model.name}
            for rel in ("derived_from", "mlm:model")
        ]
    return links


def _make_assets(plan: PlanFile, scene: str, sheets: Sequence[SheetRecord]) -> JsonObject:
    layers = {layer.name: layer for layer in plan.zarr_layout(scene).layers}
    georef = plan.scenes[scene].georef
    is_cut = max(georef.width_px, georef.height_px) > plan.scenes[scene].sheet_px
    assets: dict[str, JsonObject] = {}
    for sheet in sorted(sheets, key=lambda sheet: sheet.key):
        cell = f"_{sheet.key.row}_{sheet.key.col}" if is_cut else ""
        for stored in sheet.objects:
            name, suffix = _parse_file_name(stored, scene)
            if name in layers and suffix in _TYPES:
                asset = f"{name}{cell}{'' if suffix == '.tif' else suffix.replace('.', '_')}"
                assets[asset] = _describe_file(scene, layers[name], stored, suffix)
    if is_cut:
        for name, layer in layers.items():
            assets[name] = {
                "href": f"./{name}.vrt",
                "type": "application/x-gdal-vrt",
                "title": f"{name}, all sheets",
                "roles": ["data"],
                "bands": [describe_band(layer)],
            }
    assets["mask"] = {
        "href": "./mask.zarr",
        "type": "application/vnd.zarr; version=2",
        "title": "all layers with their levels",
        "roles": ["data"],
        "bands": [describe_band(layer) for layer in layers.values()],
    }
    for name, layer in layers.items():
        assets[f"mask_{name}"] = {
            "href": f"./mask_{name}.vrt",
            "type": "application/x-gdal-vrt",
            "title": f"{name} of mask.zarr, with names and colours",
            "roles": ["data"],
            "bands": [describe_band(layer)],
        }
    return assets


def _parse_file_name(stored: StoredObject, scene: str) -> tuple[str, str]:
    """The layer that a file belongs to, and its suffix; two empty texts for another file."""
    name = stored.key.removeprefix(f"{scene}/").removeprefix("sheets/")
    for suffix in (".tif.aux.xml", ".qml", ".tif"):
        if name.endswith(suffix):
            return name.removesuffix(suffix).partition("_")[0], suffix.removeprefix(".tif") or ".tif"
    return "", ""


def _describe_file(scene: str, layer: Layer, stored: StoredObject, suffix: str) -> JsonObject:
    is_raster = suffix == ".tif"
    return {
        "href": f"./{stored.key.removeprefix(f'{scene}/')}",
        "type": _TYPES[suffix],
        "roles": ["data"] if is_raster else ["style" if suffix == ".qml" else "metadata"],
        "file:size": stored.size_bytes,
        "file:checksum": f"{_BLAKE2B_128}{stored.digest}",
        **({"title": layer.name, "bands": [describe_band(layer)]} if is_raster else {}),
    }


def describe_band(layer: Layer) -> JsonObject:
    band: JsonObject = {
        "name": layer.name,
        "data_type": layer.dtype,
        "nodata": layer.nodata,
        "raster:sampling": "area",
    }
    if layer.kind == "measure":
        return {**band, "raster:scale": 1 / layer.top, "raster:offset": 0}
    if not layer.classes:
        return band
    names = [make_machine_name(info.name, info.id) for info in layer.classes]
    names = make_distinct(names, [info.id for info in layer.classes])
    classes = [_describe_class(info, name) for info, name in zip(layer.classes, names, strict=True)]
    return {**band, "classification:classes": classes}


def _describe_class(info: ClassInfo, machine_name: str) -> JsonObject:
    return {
        "value": info.id,
        "name": machine_name,
        "title": info.name,
        "description": info.name,
        "color_hint": "{:02X}{:02X}{:02X}".format(*info.rgb),
    }


def make_machine_name(name: str, code: int) -> str:
    """Spell the name of a class in the letters that the extension allows; its title keeps the name."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z-]+", "_", ascii_name).strip("_") or f"class_{code}"
