"""A VRT per layer beside a scene's Zarr: programs that open it show names, colours, place and coarser levels.

A Zarr holds no colours, and GDAL cannot place a rotated one. The VRT refers to the arrays by relative paths, so that
the folder of a scene can be copied as a whole. Its text depends on the layout alone; the driver writes it with the
metadata of the Zarr, before any chunk is there.
"""

from __future__ import annotations

from batchseg.egress import encode_text
from batchseg.layers.layer import Layer
from batchseg.output.sidecars import make_qml
from batchseg.output.stored import ZarrLayout
from batchseg.output.vrt import GDAL_TYPES, list_band_lines, list_place_lines, make_vrt_head
from batchseg.paths import zarr_view_key


def make_zarr_views(layout: ZarrLayout) -> dict[str, bytes]:
    """Make the VRT and QGIS's style of each layer, by key."""
    views = {}
    for layer in layout.layers:
        views[zarr_view_key(layout.scene, layer.name, ".qml")] = encode_text(make_qml(layer))
        views[zarr_view_key(layout.scene, layer.name, ".vrt")] = encode_text(_make_vrt(layout, layer))
    return views


def _make_vrt(layout: ZarrLayout, layer: Layer) -> str:
    georef, kind = layout.georef, GDAL_TYPES[layer.dtype]
    size = f'xOff="0" yOff="0" xSize="{georef.width_px}" ySize="{georef.height_px}"'
    properties = (
        f'RasterXSize="{georef.width_px}" RasterYSize="{georef.height_px}" DataType="{kind}" '
        f'BlockXSize="{layout.stored_px}" BlockYSize="{layout.stored_px}"'
    )
    block = f'blockXSize="{layout.stored_px}" blockYSize="{layout.stored_px}"'
    lines = [
        make_vrt_head(georef),
        *list_place_lines(georef),
        f'  <VRTRasterBand dataType="{kind}" band="1" {block}>',
        *list_band_lines(layer),
        "    <SimpleSource>",
        *_list_file_lines(f"{layout.root}/{layer.name}", layout.scene),
        f"      <SourceProperties {properties}/>",
        f"      <SrcRect {size}/>",
        f"      <DstRect {size}/>",
        "    </SimpleSource>",
    ]
    for level in layout.levels:
        file = _list_file_lines(f"{layout.root}/{level.number}/{layer.name}", layout.scene)
        lines += ["    <Overview>", *file, "    </Overview>"]
    return "\n".join([*lines, "  </VRTRasterBand>", "</VRTDataset>"]) + "\n"


def _list_file_lines(array_key: str, scene: str) -> list[str]:
    file = array_key.removeprefix(f"{scene}/")
    return [f'      <SourceFilename relativeToVRT="1">{file}</SourceFilename>', "      <SourceBand>1</SourceBand>"]
