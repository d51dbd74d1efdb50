"""Parts of VRTs, GDAL's virtual rasters: the place of a grid, and what a band says of its codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from batchseg.layers.layer import Layer
from batchseg.output.sidecars import list_attribute_table, list_category_names
from batchseg.scene.georef import Georef

GDAL_TYPES = {"uint8": "Byte", "uint16": "UInt16"}


def make_vrt_head(georef: Georef) -> str:
    """Make the first line of a VRT."""
    return f'<VRTDataset rasterXSize="{georef.width_px}" rasterYSize="{georef.height_px}">'


def list_place_lines(georef: Georef) -> list[str]:
    """List everything that places a grid on the ground."""
    lines = []
    if georef.crs_wkt is not None:
        lines.append(f"  <SRS>{escape(georef.crs_wkt, quote=False)}</SRS>")
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        lines.append(f"  <GeoTransform>{', '.join(repr(float(term)) for term in (c, a, b, f, d, e))}</GeoTransform>")
    if georef.gcps:
        wkt = escape(georef.gcps_crs_wkt or "")
        lines.append(f'  <GCPList Projection="{wkt}">')
        for number, (row, col, x, y, z) in enumerate(georef.gcps):
            lines.append(f'    <GCP Id="{number}" Pixel="{col!r}" Line="{row!r}" X="{x!r}" Y="{y!r}" Z="{z!r}"/>')
        lines.append("  </GCPList>")
    if georef.rpcs is not None:
        items = [f'    <MDI key="{escape(key)}">{escape(value)}</MDI>' for key, value in georef.rpcs.items()]
        lines += ['  <Metadata domain="RPC">', *items, "  </Metadata>"]
    return lines


def list_band_lines(
    layer: Layer, counts: Sequence[int] | None = None, area_km2: Mapping[int, float] | None = None
) -> list[str]:
    """List name, nodata, colours and names of the codes of a band.

    Args:
        layer: The meaning of the codes.
        counts: Number of pixels per code, for an attribute table; None: the band has no such table.
        area_km2: Ground by class id, where it is known.
    """
    lines = [f"    <Description>{escape(layer.name)}</Description>", f"    <NoDataValue>{layer.nodata}</NoDataValue>"]
    if layer.palette:
        lines += ["    <ColorInterp>Palette</ColorInterp>", *_list_colour_lines(layer)]
    if layer.kind == "classes":
        lines += list_category_names(layer)
        if counts is not None:
            lines += list_attribute_table(layer, counts, area_km2)
    return lines


def _list_colour_lines(layer: Layer) -> Sequence[str]:
    entries = []
    for code in range(layer.highest + 1):
        red, green, blue = layer.palette.get(code, (0, 0, 0))
        alpha = 0 if code == layer.nodata else 255
        entries.append(f'      <Entry c1="{red}" c2="{green}" c3="{blue}" c4="{alpha}"/>')
    return ["    <ColorTable>", *entries, "    </ColorTable>"]
