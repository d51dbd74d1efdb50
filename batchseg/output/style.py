"""What makes QGIS, GDAL and ArcGIS show class names and colours when a file is opened.

Three places, because no viewer reads all of them:

    palette in the TIFF     colours everywhere                      (`Layer.palette`)
    FILE.tif.aux.xml        names: GDAL's categories and attribute table (PAM), with pixel counts and km²
    FILE.qml                QGIS: the legend; measures get a ramp labelled in percent

Pixels of nodata are transparent in all of them. Texts are the same for the same input, byte by byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from batchseg.classes import RGB, ClassInfo
from batchseg.errors import InputError
from batchseg.output.cog import CogFile
from batchseg.output.layer import Layer

CONFIDENCE_TOP = 254
"""The code that means certain: confidence is round(254 p)."""

_RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
_INTEGER, _REAL, _STRING = 0, 1, 2
_GENERIC, _PIXEL_COUNT, _NAME, _MIN_MAX, _RED, _GREEN, _BLUE, _ALPHA = 0, 1, 2, 5, 6, 7, 8, 9
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one layer is shown."""

    classes: tuple[ClassInfo, ...] = ()
    """The legend of a class layer; empty for a measure."""
    area_km2: Mapping[int, float] | None = None
    """Ground by class id, where it is known: of every class that has pixels."""

    @property
    def palette(self) -> dict[int, RGB]:
        return {shown.id: shown.rgb for shown in self.classes}


def sidecars(layer: Layer, style: Style, made: CogFile) -> dict[str, str]:
    """The files beside a layer: texts by suffix. `.aux.xml` is added to the whole name, `.qml` replaces `.tif`."""
    qml = {".qml": layer_qml(layer, style)}
    if layer.kind == "classes":
        pam = pam_xml(style.classes, layer.nodata, made.counts, style.area_km2, srs_xml=made.srs_xml)
        return {".aux.xml": pam} | qml
    return qml if made.srs_xml is None else qml | {".aux.xml": _pam_document(made.srs_xml, "")}


def layer_qml(layer: Layer, style: Style) -> str:
    return classes_qml(style.classes, layer.nodata) if layer.kind == "classes" else confidence_qml()


def pam_xml(
    classes: Sequence[ClassInfo],
    nodata: int,
    counts: Sequence[int],
    area_km2: Mapping[int, float] | None,
    *,
    srs_xml: str | None = None,
) -> str:
    """GDAL's sidecar of a class layer.

    Args:
        classes: The legend.
        nodata: The code that must be none of them.
        counts: Pixels by code, as in `CogFile.counts`.
        area_km2: Ground by class id, or None where the raster has no known pixel size.
        srs_xml: A coordinate system that a GeoTIFF cannot hold, as in `CogFile.srs_xml`.
    """
    band = [*category_names(classes, nodata), *attribute_table(classes, nodata, counts, area_km2)]
    return _pam_document(srs_xml, "\n".join(['  <PAMRasterBand band="1">', *band, "  </PAMRasterBand>\n"]))


def _pam_document(srs_xml: str | None, bands_xml: str) -> str:
    srs = "" if srs_xml is None else f"  {srs_xml}\n"
    return f"<PAMDataset>\n{srs}{bands_xml}</PAMDataset>\n"


def category_names(classes: Sequence[ClassInfo], nodata: int) -> list[str]:
    """GDAL's names of the codes of a band, as lines of XML."""
    names = {one.id: one.name for one in _in_order(classes, nodata)}
    categories = [
        f"      <Category>{escape(names.get(code, ''))}</Category>" for code in range(max(names, default=-1) + 1)
    ]
    return ["    <CategoryNames>", *categories, "    </CategoryNames>"]


def attribute_table(
    classes: Sequence[ClassInfo], nodata: int, counts: Sequence[int], area_km2: Mapping[int, float] | None
) -> list[str]:
    """GDAL's table of the codes of a band, as lines of XML."""
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
    for index, one in enumerate(_in_order(classes, nodata)):
        cells = [str(one.id), one.name, *map(str, one.rgb), "255", str(counts[one.id])]
        if area_km2 is not None:
            cells.append(repr(float(area_km2[one.id]) if counts[one.id] else 0.0))
        row = "".join(f"<F>{escape(cell)}</F>" for cell in cells)
        lines.append(f'      <Row index="{index}">{row}</Row>')
    return [*lines, "    </GDALRasterAttributeTable>"]


def classes_qml(classes: Sequence[ClassInfo], nodata: int) -> str:
    """QGIS's legend of a class layer; codes without an entry are transparent."""
    entries = [
        f'        <paletteEntry value="{one.id}" color="{_hex(one.rgb)}" alpha="255" label="{escape(one.name)}"/>'
        for one in _in_order(classes, nodata)
    ]
    palette = ["      <colorPalette>", *entries, "      </colorPalette>"]
    return _qml('type="paletted"', palette)


def confidence_qml() -> str:
    """QGIS's legend of the confidence, in percent."""
    items = []
    for index, colour in enumerate(_RAMP):
        share = index / (len(_RAMP) - 1)
        label = f"{100 * share:g} %"
        items.append(
            f'          <item value="{CONFIDENCE_TOP * share:g}" color="{colour}" alpha="255" label="{label}"/>'
        )
    limits = f'minimumValue="0" maximumValue="{CONFIDENCE_TOP}"'
    shader = [
        "      <rastershader>",
        f'        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" {limits}>',
        *items,
        # Else QGIS draws one bar with codes at its ends in place of our labels.
        '          <rampLegendSettings useContinuousLegend="0"/>',
        "        </colorrampshader>",
        "      </rastershader>",
    ]
    limits = f'classificationMin="0" classificationMax="{CONFIDENCE_TOP}"'
    return _qml(f'type="singlebandpseudocolor" {limits}', shader)


def _qml(renderer: str, body: Sequence[str]) -> str:
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


def _in_order(classes: Sequence[ClassInfo], nodata: int) -> list[ClassInfo]:
    ids = [one.id for one in classes]
    if nodata in ids or len(set(ids)) != len(ids):
        raise InputError(
            "the legend names a code twice, or nodata",
            expected=f"distinct ids other than {nodata}",
            got=", ".join(map(str, ids)),
        )
    return sorted(classes, key=lambda one: one.id)


def _hex(rgb: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)
