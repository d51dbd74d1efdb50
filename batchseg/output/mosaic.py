"""Mosaics join the sheets of a scene: one VRT and one tile index (GTI) per layer, texts and small files only.

Every program can open the VRT; QGIS shows it with names, colours and overviews. The index is for scenes with very many
sheets: GDAL (3.9 and later) finds the few sheets that it needs in the index, without a list of all of them. An index
cannot hold a grid that is rotated, south-up or without a place. Such scenes have the VRT alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import shapely

from batchseg.layers.layer import Layer
from batchseg.output.vrt import GDAL_TYPES, list_band_lines, list_place_lines, make_vrt_head
from batchseg.scene.georef import Georef
from tiling.span import Window

_WRITTEN = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class MosaicSheet:
    """One sheet of a layer."""

    file: str
    """Path of its GeoTIFF, relative to the mosaic."""
    window: Window
    """Window of the scene that it covers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mosaic:
    georef: Georef
    layer: Layer
    counts: tuple[int, ...] | None
    """Number of pixels per code over the whole scene, where it is known."""
    area_km2: Mapping[int, float] | None
    """Ground by class id over the whole scene, where it is known."""
    num_levels: int
    """Number of overviews that every sheet has."""
    sheets: tuple[MosaicSheet, ...]

    @property
    def has_index(self) -> bool:
        """Test if an index can hold the grid: it must be north-up and have a coordinate system."""
        if self.georef.transform is None or self.georef.crs_wkt is None:
            return False
        a, b, _, d, e, _ = self.georef.transform
        return not b and not d and a > 0 > e


def make_vrt(mosaic: Mosaic) -> str:
    """Make the text of the VRT."""
    georef, layer = mosaic.georef, mosaic.layer
    factors = " ".join(str(2**level) for level in range(1, mosaic.num_levels + 1))
    lines = [
        make_vrt_head(georef),
        *list_place_lines(georef),
        # Without this list GDAL would compute overviews from full resolution; with it, it reads those of the sheets.
        *([f'  <OverviewList resampling="nearest">{factors}</OverviewList>'] if factors else []),
        f'  <VRTRasterBand dataType="{GDAL_TYPES[layer.dtype]}" band="1" blockXSize="512" blockYSize="512">',
        *list_band_lines(layer, mosaic.counts, mosaic.area_km2),
        *(line for sheet in mosaic.sheets for line in _list_source_lines(sheet, layer)),
        "  </VRTRasterBand>",
        "</VRTDataset>",
    ]
    return "\n".join(lines) + "\n"


def write_index(mosaic: Mosaic, path: Path) -> None:
    """Write the index: a GeoPackage with the footprints of the sheets. GDAL takes everything else from a sheet."""
    import geopandas
    import pyogrio

    assert mosaic.georef.transform is not None, "a scene must have a place to have an index"
    a, _, left, _, e, top = mosaic.georef.transform
    boxes = [
        shapely.box(
            left + a * sheet.window.cols.start,
            top + e * sheet.window.rows.stop,
            left + a * sheet.window.cols.stop,
            top + e * sheet.window.rows.start,
        )
        for sheet in mosaic.sheets
    ]
    frame = geopandas.GeoDataFrame(
        {"location": [sheet.file for sheet in mosaic.sheets]}, geometry=boxes, crs=mosaic.georef.crs_wkt
    )
    # Without these facts GDAL adds up the footprints, and rounding may give one column more.
    facts = {
        "XSIZE": str(mosaic.georef.width_px),
        "YSIZE": str(mosaic.georef.height_px),
        "GEOTRANSFORM": ", ".join(repr(float(term)) for term in (left, a, 0.0, top, 0.0, e)),
    }
    # A GeoPackage holds the time when it was written. A fixed time keeps the bytes reproducible.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _WRITTEN})
    try:
        frame.to_file(path, layer=mosaic.layer.name, driver="GPKG", layer_metadata=facts)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _list_source_lines(sheet: MosaicSheet, layer: Layer) -> list[str]:
    high, wide = sheet.window.shape
    size = f'xSize="{wide}" ySize="{high}"'
    kind, blocks = GDAL_TYPES[layer.dtype], 'BlockXSize="512" BlockYSize="512"'
    return [
        "    <SimpleSource>",
        f'      <SourceFilename relativeToVRT="1">{escape(sheet.file)}</SourceFilename>',
        "      <SourceBand>1</SourceBand>",
        # With these properties, GDAL opens the mosaic without opening a sheet.
        f'      <SourceProperties RasterXSize="{wide}" RasterYSize="{high}" DataType="{kind}" {blocks}/>',
        f'      <SrcRect xOff="0" yOff="0" {size}/>',
        f'      <DstRect xOff="{sheet.window.cols.start}" yOff="{sheet.window.rows.start}" {size}/>',
        "    </SimpleSource>",
    ]
