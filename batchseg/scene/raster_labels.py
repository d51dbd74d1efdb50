"""Reference labels as a raster on the scene's own grid, read window by window to score predictions."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.exceptions import CRSError

from batchseg.errors import SceneError
from batchseg.recipe import NO_TRUST, NodataPolicy, Trust
from batchseg.scene.georef import Georef
from batchseg.scene.header import read_header
from batchseg.scene.pixels import describe_window
from batchseg.scene.raster_file import RasterFile
from batchseg.scene.source import open_source
from tiling.span import Window

_TOLERANCE_PX = 0.01
_AUTO = NodataPolicy(from_="auto")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsHeader:
    """A reference raster that lies on its scene's grid."""

    raster: RasterFile
    band: int
    """Number of the band that holds class ids."""
    id: str
    """Identity of this version of the file, for the records: scores against different references are never added."""


@dataclass(frozen=True, slots=True)
class LabelSource:
    """Reads a reference raster. It holds no handle."""

    header: LabelsHeader

    @property
    def id(self) -> str:
        return self.header.id

    def read(self, window: Window) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], NDArray[np.bool_]]:
        """Read class ids, and the mask of labelled pixels.

        Pixels are unlabelled where they hold 255 in bytes or 65535 in wider types, and where they are nodata or masked.
        """
        raster = self.header.raster
        pixels = open_source(raster, (self.header.band,), _AUTO).read(window)
        raw_HW, labelled_HW = pixels.raw_BHW[0], pixels.valid_HW
        if raw_HW.dtype == np.uint8:
            return raw_HW, labelled_HW & (raw_HW != 255)
        wrong_HW = labelled_HW & ((raw_HW < 0) | (raw_HW > 65535))
        if wrong_HW.any():
            raise SceneError(
                "a reference label is no class id",
                where=describe_window(raster.url, window),
                expected="0 to 65535",
                got=str(raw_HW[wrong_HW][0]),
                todo="declare the value as nodata, if it means unlabelled",
            )
        labels_HW = np.where(labelled_HW, raw_HW, 65535).astype(np.uint16)
        return labels_HW, labelled_HW & (labels_HW != 65535)


def read_labels_header(url: str, grid: Georef, scene_url: str, trust: Trust = NO_TRUST) -> LabelsHeader:
    """Read the header of a reference raster; raise SceneError unless it lies on the scene's grid.

    Args:
        url: Address of the reference raster.
        grid: Grid of the scene.
        scene_url: Address of the scene, for messages.
        trust: What the author of the recipe allows the file to refer to.
    """
    header = read_header(url, trust)
    raster = header.raster
    bands = [band for band in raster.bands if band.common != "alpha"]
    if len(bands) != 1 or np.dtype(raster.dtype).kind not in "iu":
        raise SceneError(
            "reference labels are one band of integers",
            where=url,
            got=f"{len(bands)} bands of {raster.dtype}",
            todo="save class ids as bytes",
        )
    _check_grid(url, header.grid, grid, scene_url)
    identity = hashlib.blake2b(repr(sorted(raster.identity.plain().items())).encode(), digest_size=16).hexdigest()
    return LabelsHeader(raster=raster, band=bands[0].index, id=identity)


def _check_grid(url: str, labels: Georef, georef: Georef, scene_url: str) -> None:
    is_same = (
        (labels.width_px, labels.height_px) == (georef.width_px, georef.height_px)
        and _is_same_crs(labels.crs_wkt, georef.crs_wkt)
        and _is_same_transform(labels, georef)
    )
    if not is_same:
        raise SceneError(
            "reference labels must lie on the scene's grid",
            where=url,
            expected=_describe(georef),
            got=_describe(labels),
            todo=_advise_warp(url, georef, scene_url),
        )


def _advise_warp(url: str, georef: Georef, scene_url: str) -> str:
    """The command that brings labels onto the scene's grid; 255 outside of them, which means unlabelled."""
    if georef.transform is None or georef.crs_wkt is None or any(georef.transform[i] for i in (1, 3)):
        return f"warp them onto {scene_url} with nearest neighbour and a nodata value of 255"
    a, _, left, _, e, top = georef.transform
    xs, ys = sorted((left, left + a * georef.width_px)), sorted((top, top + e * georef.height_px))
    extent = " ".join(f"{v!r}" for v in (xs[0], ys[0], xs[1], ys[1]))
    return (
        f"warp them with nearest neighbour, and 255 (unlabelled) where they end: `gdalwarp -r near -dstnodata 255 "
        f"-t_srs {shlex.quote(_name_crs(georef.crs_wkt))} -te {extent} -ts {georef.width_px} {georef.height_px} "
        f"{shlex.quote(url)} on_grid.tif`"
    )


def _is_same_crs(ours: str | None, theirs: str | None) -> bool:
    if ours == theirs or ours is None or theirs is None:
        return ours == theirs
    try:
        return bool(pyproj.CRS(ours).equals(pyproj.CRS(theirs), ignore_axis_order=True))
    except CRSError:
        # PROJ does not know one of them, and they are not written alike.
        return False


def _is_same_transform(ours: Georef, theirs: Georef) -> bool:
    """Test that no corner of the raster is a hundredth of a pixel off."""
    if ours.transform is None or theirs.transform is None:
        return ours.transform == theirs.transform and ours.gcps == theirs.gcps
    corners = np.array([(0, 0, 1), (0, ours.height_px, 1), (ours.width_px, 0, 1), (ours.width_px, ours.height_px, 1)])
    first, second = (np.array(georef.transform).reshape(2, 3) for georef in (ours, theirs))
    pixel = np.hypot(*first[:, :2])
    off = np.abs(corners @ (first - second).T)
    return bool((off <= _TOLERANCE_PX * pixel.min()).all())


def _describe(georef: Georef) -> str:
    place: Any = "no transform" if georef.transform is None else tuple(float(f"{v:.12g}") for v in georef.transform)
    return f"{georef.width_px} x {georef.height_px} px, {place}, {_name_crs(georef.crs_wkt)}"


def _name_crs(crs_wkt: str | None) -> str:
    if crs_wkt is None:
        return "no coordinate system"
    try:
        crs = pyproj.CRS(crs_wkt)
    except CRSError:
        return crs_wkt.split('"')[1] if '"' in crs_wkt else crs_wkt
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else crs.name
