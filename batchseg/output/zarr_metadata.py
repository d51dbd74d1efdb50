"""The metadata of a scene's Zarr: its place, its classes and its levels, as the programs of analysts look for them.

    mask.zarr/                     level 0: an array per layer, y, x, spatial_ref
    mask.zarr/1/, mask.zarr/2/ …   each level halves the one before, with the same names

The metadata follow three conventions side by side, because no program reads all of them: CF's grid mapping with pixel
centres in `x` and `y` (xarray, rioxarray), GDAL's `_CRS` (GDAL, QGIS), and GeoZarr's `multiscales` for the levels.
Every group has consolidated metadata of its own, so that a program can open each of them alone and without listing.

GDAL places a Zarr by its axes only. Axes cannot describe a rotated grid, so a rotated grid has pixel numbers and no
`_CRS`: no place is better than a wrong one. rioxarray reads the transform of the grid mapping, which can describe it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.classes import make_distinct
from batchseg.egress import encode_text
from batchseg.layers.layer import Layer
from batchseg.output.stored import ZarrLayout
from batchseg.output.zarr_view import make_zarr_views
from batchseg.scene.georef import Georef
from batchseg.schema import Json, JsonObject
from batchseg.store import Store

ZLIB_LEVEL = 1
_GEOGRAPHIC = ("GEOGCS", "GEOGCRS", "GEODCRS")


def create_zarr(store: Store, layout: ZarrLayout) -> None:
    """Put the metadata of all arrays, the coordinates, and what shows the arrays in QGIS.

    A resume may repeat it, because the bytes are the same.
    """
    for key, content in sorted(make_zarr_metadata(layout).items()):
        is_text = key.rpartition("/")[2].startswith(".z")
        store.put(f"{layout.root}/{key}", encode_text(content.decode()) if is_text else content)
    for key, content in make_zarr_views(layout).items():
        store.put(key, content)


def make_zarr_metadata(layout: ZarrLayout) -> dict[str, bytes]:
    """Make every object of the Zarr except its stored chunks, by key. The zarr package writes them into memory."""
    # Imported here, because workers never call this: it would cost a quarter of a second of their start, and memory.
    import zarr
    from zarr.core.buffer import Buffer
    from zarr.storage import MemoryStore

    memory: dict[str, Buffer] = {}
    root = zarr.open_group(MemoryStore(memory), mode="w", zarr_format=2)
    _add_arrays(root, layout, (layout.georef.height_px, layout.georef.width_px), layout.stored_px, scale=1)
    root.attrs.update({"Conventions": "CF-1.10", "multiscales": _make_multiscales(layout)})
    for level in layout.levels:
        group = root.create_group(str(level.number))
        _add_arrays(group, layout, level.shape_px, level.stored_px, scale=2**level.number)
        zarr.consolidate_metadata(group.store, path=group.path, zarr_format=2)
    zarr.consolidate_metadata(root.store, zarr_format=2)
    return {key: buffer.to_bytes() for key, buffer in memory.items()}


def _add_arrays(group: Any, layout: ZarrLayout, shape_px: tuple[int, int], stored_px: int, *, scale: int) -> None:
    for layer in layout.layers:
        array = group.create_array(
            layer.name,
            shape=shape_px,
            chunks=(stored_px, stored_px),
            dtype=layer.dtype,
            fill_value=layer.nodata,
            compressors=_make_compressor(),
        )
        array.attrs.update(
            {
                "_ARRAY_DIMENSIONS": ["y", "x"],
                **_make_gdal_attributes(layout.georef),
                "grid_mapping": "spatial_ref",
                "coordinates": "spatial_ref",
                **make_layer_attributes(layer),
            }
        )
    for axis, values in _compute_coordinates(layout.georef, shape_px, scale).items():
        array = group.create_array(axis, data=values, chunks=values.shape, compressors=_make_compressor())
        array.attrs.update({"_ARRAY_DIMENSIONS": [axis], **_make_axis_attributes(axis, layout.georef)})
    array = group.create_array("spatial_ref", data=np.array(0, np.int32), compressors=None)
    array.attrs.update({"_ARRAY_DIMENSIONS": [], **_make_grid_mapping(layout.georef, scale)})


def _make_compressor() -> JsonObject:
    return {"id": "zlib", "level": ZLIB_LEVEL}


def _is_along_axes(georef: Georef) -> bool:
    return georef.transform is not None and not georef.transform[1] and not georef.transform[3]


def _make_gdal_attributes(georef: Georef) -> JsonObject:
    return {"_CRS": {"wkt": georef.crs_wkt}} if georef.crs_wkt and _is_along_axes(georef) else {}


def _make_grid_mapping(georef: Georef, scale: int) -> JsonObject:
    mapping: dict[str, Json] = {}
    if georef.crs_wkt:
        mapping |= {"crs_wkt": georef.crs_wkt, "spatial_ref": georef.crs_wkt}
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        terms = (c, a * scale, b * scale, f, d * scale, e * scale)
        mapping["GeoTransform"] = " ".join(repr(float(term)) for term in terms)
    return mapping


def _compute_coordinates(georef: Georef, shape_px: tuple[int, int], scale: int) -> dict[str, NDArray[Any]]:
    """Compute the pixel centres. Without a transform, or with a rotated one, they are in pixels of full resolution."""
    rows, cols = ((np.arange(size_px) + 0.5) * scale for size_px in shape_px)
    if georef.transform is None or not _is_along_axes(georef):
        return {"y": rows, "x": cols}
    a, _, c, _, e, f = georef.transform
    return {"y": f + e * rows, "x": c + a * cols}


def _make_axis_attributes(axis: str, georef: Georef) -> JsonObject:
    if georef.crs_wkt is None or not _is_along_axes(georef):
        return {"long_name": f"{axis} in pixels"}
    if georef.crs_wkt.startswith(_GEOGRAPHIC):
        name, units = ("longitude", "degrees_east") if axis == "x" else ("latitude", "degrees_north")
        return {"standard_name": name, "units": units, "axis": axis.upper()}
    return {"standard_name": f"projection_{axis}_coordinate", "axis": axis.upper()}


def _make_multiscales(layout: ZarrLayout) -> JsonObject:
    """Describe the levels by GeoZarr's convention: each one with the level that it is derived from."""
    entries: list[dict[str, Json]] = [{"asset": "."}]
    for level in layout.levels:
        coarser = {"asset": str(level.number), "derived_from": entries[-1]["asset"]}
        entries.append(coarser | {"transform": {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}})
    return {"layout": entries, "resampling_method": "mode"}


def make_layer_attributes(layer: Layer) -> JsonObject:
    """Name the codes of classes, or scale a measure, by CF's convention."""
    if layer.kind == "measure":
        return {"long_name": layer.title, "scale_factor": 1 / layer.top, "units": "1"}
    ids = [info.id for info in layer.classes]
    meanings = make_distinct(["_".join(info.name.split()) for info in layer.classes], ids)
    return {"long_name": layer.title, "flag_values": ids, "flag_meanings": " ".join(meanings)}
