"""Sidecars make QGIS, GDAL and ArcGIS show class names and colours when a user opens a GeoTIFF.

The names and colours are in three places, because no viewer reads all of them:

    palette in the TIFF     colours in every program                (`Layer.palette`)
    FILE.tif.aux.xml        names: GDAL's categories and attribute table (PAM), with pixel counts and km²
    FILE.qml                QGIS: the legend; a measure gets a colour ramp labelled in percent

Pixels of nodata are transparent in all of them. The same input gives the same texts, byte by byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from batchseg.classes import RGB, ClassInfo
from batchseg.layers.layer import Layer
from batchseg.output.cog import CogFile

_INTEGER, _REAL, _STRING = 0, 1, 2
_GENERIC, _PIXEL_COUNT, _NAME, _MIN_MAX, _RED, _GREEN, _BLUE, _ALPHA = 0, 1, 2, 5, 6, 7, 8, 9
_INT32_MAX = 2**31 - 1


def make_sidecars(layer: Layer, file: CogFile, area_km2: Mapping[int, float] | None = None) -> dict[str, str]:
    """Make the texts of the files beside a GeoTIFF, by suffix.

    The suffix `.aux.xml` is added to the name of the GeoTIFF, and `.qml` replaces its `.tif`.

    Args:
        layer: The meaning of the codes.
        file: The GeoTIFF, as it was written.
        area_km2: Ground by class id, for the attribute table; None where it is not known.
    """
    qml = {".qml": make_qml(layer)}
    if layer.kind == "classes":
        return {".aux.xml": make_pam(layer, file.counts, area_km2, srs_xml=file.srs_xml)} | qml
    return qml if file.srs_xml is None else qml | {".aux.xml": _make_pam_document(file.srs_xml, "")}


def make_qml(layer: Layer) -> str:
    """Make QGIS's style of a layer."""
    return _make_classes_qml(layer) if layer.kind == "classes" else _make_measure_qml(layer)


def make_pam(
    layer: Layer, counts: Sequence[int], area_km2: Mapping[int, float] | None, *, srs_xml: str | None = None
) -> str:
    """Make GDAL's sidecar of a layer of classes.

    Args:
        layer: The meaning of the codes.
        counts: Number of pixels per code, as in `CogFile.counts`.
        area_km2: Ground by class id, or None where the raster has no known pixel size.
        srs_xml: A coordinate system that a GeoTIFF cannot hold, as in `CogFile.srs_xml`.
    """
    band = [*list_category_names(layer), *list_attribute_table(layer, counts, area_km2)]
    return _make_pam_document(srs_xml, "\n".join(['  <PAMRasterBand band="1">', *band, "  </PAMRasterBand>\n"]))


def _make_pam_document(srs_xml: str | None, bands_xml: str) -> str:
    srs = "" if srs_xml is None else f"  {srs_xml}\n"
    return f"<PAMDataset>\n{srs}{bands_xml}</PAMDataset>\n"


def list_category_names(layer: Layer) -> list[str]:
    """List GDAL's names of the codes of a band, as lines of XML."""
    names = {info.id: info.name for info in layer.classes}
    categories = [
        f"      <Category>{escape(names.get(code, ''))}</Category>" for code in range(max(names, default=-1) + 1)
    ]
    return ["    <CategoryNames>", *categories, "    </CategoryNames>"]


def list_attribute_table(layer: Layer, counts: Sequence[int], area_km2: Mapping[int, float] | None) -> list[str]:
    """List GDAL's attribute table of the codes of a band, as lines of XML."""
    # GDAL's integer columns have 32 bits.
    count_type = _INTEGER if max(counts, default=0) <= _INT32_MAX else _REAL
    fields = [("Value", _INTEGER, _MIN_MAX), ("Class", _STRING, _NAME), ("Red", _INTEGER, _RED)]
    fields += [("Green", _INTEGER, _GREEN), ("Blue", _INTEGER, _BLUE), ("Alpha", _INTEGER, _ALPHA)]
    fields += [("Count", count_type, _PIXEL_COUNT)]
    if area_km2 is not None:
        fields.append(("Area_km2", _REAL, _GENERIC))
    lines = ['    <GDALRasterAttributeTable tableType="thematic">']
    for index, (name, kind, usage) in enumerate(fields):
        lines.append(f'      <FieldDefn index="{index}">')
        lines.append(f"        <Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage>")
        lines.append("      </FieldDefn>")
    for index, info in enumerate(_sort_classes(layer)):
        cells = [str(info.id), info.name, *map(str, info.rgb), "255", str(counts[info.id])]
        if area_km2 is not None:
            cells.append(repr(float(area_km2[info.id]) if counts[info.id] else 0.0))
        row = "".join(f"<F>{escape(cell)}</F>" for cell in cells)
        lines.append(f'      <Row index="{index}">{row}</Row>')
    return [*lines, "    </GDALRasterAttributeTable>"]


def _make_classes_qml(layer: Layer) -> str:
    """Make the legend of a layer of classes. Codes without an entry are transparent."""
    entries = [
        f'        <paletteEntry value="{info.id}" color="{_hex(info.rgb)}" alpha="255" label="{escape(info.name)}"/>'
        for info in _sort_classes(layer)
    ]
    palette = ["      <colorPalette>", *entries, "      </colorPalette>"]
    return _make_qml_document('type="paletted"', palette)


def _make_measure_qml(layer: Layer) -> str:
    """Make the legend of a measure, in percent."""
    items = [
        f'          <item value="{layer.top * share:g}" color="{_hex(rgb)}" alpha="255" label="{100 * share:.0f} %"/>'
        for share, rgb in layer.ramp
    ]
    least = f"{layer.top * layer.least:g}"
    limits = f'minimumValue="{least}" maximumValue="{layer.top}"'
    shader = [
        "      <rastershader>",
        f'        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" {limits}>',
        *items,
        # Without this QGIS draws one bar with codes at its ends, and not our labels.
        '          <rampLegendSettings useContinuousLegend="0"/>',
        "        </colorrampshader>",
        "      </rastershader>",
    ]
    limits = f'classificationMin="{least}" classificationMax="{layer.top}"'
    return _make_qml_document(f'type="singlebandpseudocolor" {limits}', shader)


def _make_qml_document(renderer: str, body: Sequence[str]) -> str:
    lines = [
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>",
        '<qgis version="3.22.0" styleCategories="Symbology">',
        "  <pipe>",
        f'    <rasterrenderer {renderer} band="1" opacity="1" alphaBand="-1" nodataColor="">',
        "      <rasterTransparency/>",
        *body,
        "    </rasterrenderer>",
        "  </pipe>",
        "  <blendMode>0</blendMode>",
        "</qgis>",
    ]
    return "\n".join(lines) + "\n"


def _sort_classes(layer: Layer) -> list[ClassInfo]:
    """Sort the classes by code, so that texts do not depend on the order of the network's outputs."""
    return sorted(layer.classes, key=lambda info: info.id)


def _hex(rgb: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
