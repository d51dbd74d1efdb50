"""The metadata of a scene's Zarr: what analysts' programs need to find its place, its classes and its levels.

    mask.zarr/                     level 0: labels, confidence, tier, y, x, spatial_ref
    mask.zarr/1/, mask.zarr/2/ …   each level halves the one before, with the same names

Three conventions side by side, because no program reads them all: CF's grid mapping with pixel centres in `x` and `y`
(xarray, rioxarray), GDAL's `_CRS` (GDAL, QGIS), and GeoZarr's `multiscales` (which levels there are). Every group has
consolidated metadata of its own, so that each can be opened alone and without listing.

GDAL places a Zarr by its axes only. Axes cannot say how a rotated grid lies, so those have pixel numbers, and no
`_CRS`: better no place than a wrong one. rioxarray reads the transform of the grid mapping, which can say it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.layers.layer import Layer
from batchseg.output.stored import ZarrLayout
from batchseg.scene.georef import Georef
from batchseg.schema import JsonObject
from batchseg.store import Store

ZLIB_LEVEL = 1
_GEOGRAPHIC = ("GEOGCS", "GEOGCRS", "GEODCRS")


def create_zarr(store: Store, layout: ZarrLayout) -> None:
    """Put the metadata of all arrays and the coordinates; the same bytes each time, so a resume may repeat it."""
    for key, content in sorted(make_zarr_metadata(layout).items()):
        store.put(f"{layout.root}/{key}", content)


def make_zarr_metadata(layout: ZarrLayout) -> dict[str, bytes]:
    """Every object of the Zarr but its stored chunks. zarr writes them into memory; only the bytes matter to us."""
    # Here, because a worker never comes here: a quarter of a second of its start, and memory.
    import zarr
    from zarr.storage import MemoryStore

    memory: dict[str, Any] = {}
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
                **_make_layer_attributes(layer),
            }
        )
    for axis, values in _compute_coordinates(layout.georef, shape_px, scale).items():
        array = group.create_array(axis, data=values, chunks=values.shape, compressors=_make_compressor())
        array.attrs.update({"_ARRAY_DIMENSIONS": [axis], **_make_axis_attributes(axis, layout.georef)})
    array = group.create_array("spatial_ref", data=np.array(0, np.int32), compressors=None)
    array.attrs.update({"_ARRAY_DIMENSIONS": [], **_make_grid_mapping(layout.georef, scale)})


def _make_compressor() -> dict[str, Any]:
    return {"id": "zlib", "level": ZLIB_LEVEL}


def _is_along_axes(georef: Georef) -> bool:
    return georef.transform is not None and not georef.transform[1] and not georef.transform[3]


def _make_gdal_attributes(georef: Georef) -> dict[str, Any]:
    return {"_CRS": {"wkt": georef.crs_wkt}} if georef.crs_wkt and _is_along_axes(georef) else {}


def _make_grid_mapping(georef: Georef, scale: int) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    if georef.crs_wkt:
        mapping |= {"crs_wkt": georef.crs_wkt, "spatial_ref": georef.crs_wkt}
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        terms = (c, a * scale, b * scale, f, d * scale, e * scale)
        mapping["GeoTransform"] = " ".join(repr(float(term)) for term in terms)
    return mapping


def _compute_coordinates(georef: Georef, shape_px: tuple[int, int], scale: int) -> dict[str, NDArray[Any]]:
    """Pixel centres; without a transform, or with a rotated one, in pixels of full resolution."""
    rows, cols = ((np.arange(size_px) + 0.5) * scale for size_px in shape_px)
    if georef.transform is None or not _is_along_axes(georef):
        return {"y": rows, "x": cols}
    a, _, c, _, e, f = georef.transform
    return {"y": f + e * rows, "x": c + a * cols}


def _make_axis_attributes(axis: str, georef: Georef) -> dict[str, Any]:
    if georef.crs_wkt is None or not _is_along_axes(georef):
        return {"long_name": f"{axis} in pixels"}
    if georef.crs_wkt.startswith(_GEOGRAPHIC):
        name, units = ("longitude", "degrees_east") if axis == "x" else ("latitude", "degrees_north")
        return {"standard_name": name, "units": units, "axis": axis.upper()}
    return {"standard_name": f"projection_{axis}_coordinate", "axis": axis.upper()}


def _make_multiscales(layout: ZarrLayout) -> dict[str, Any]:
    """GeoZarr's convention: each level with the one it comes from."""
    entries: list[dict[str, Any]] = [{"asset": "."}]
    for level in layout.levels:
        coarser = {"asset": str(level.number), "derived_from": entries[-1]["asset"]}
        entries.append(coarser | {"transform": {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}})
    return {"layout": entries, "resampling_method": "mode"}


def _make_layer_attributes(layer: Layer) -> JsonObject:
    """CF's way to name the codes of classes, and to scale a measure."""
    if layer.kind == "measure":
        return {"long_name": layer.title, "scale_factor": 1 / layer.top, "units": "1"}
    meanings = " ".join("_".join(info.name.split()) for info in layer.classes)
    ids = [info.id for info in layer.classes]
    return {"long_name": layer.title, "flag_values": ids, "flag_meanings": meanings}
