"""Locates pixels of a scene on the Earth: pixel corners to points on the ellipsoid, for any kind of georeference.

Points are given in earth-centred coordinates (metres), which have no seam at the antimeridian and no hole at the poles.
Latitude and longitude are taken on the ellipsoid of the scene's own coordinate system. A system that is defined on a
sphere (MODIS) means the same latitudes on the real Earth, so the WGS 84 ellipsoid is used for it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.exceptions import CRSError, ProjError

from batchseg.scene.georef import Georef

_EARTH_RADIUS_M = 6_378_137.0
_EARTH_FLATTENING = 1 / 298.257223563
_SAME_BODY = 0.01
"""Share of the radius by which ellipsoids of the Earth differ at most; every other planet differs by more."""

NDArrayF = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EllipsoidTransform:
    """Conversion of a scene's coordinates into points on the ellipsoid."""

    to_lonlat: pyproj.Transformer
    """Transformer from the scene's coordinates to degrees on its own datum; any thread may use it."""
    is_geographic: bool
    """True if the scene's coordinates are longitudes and latitudes already."""
    unit_degrees: float
    """Size of one unit of the geographic system, in degrees."""
    radius_m: float
    flattening: float


def explain_missing_area(georef: Georef) -> str | None:
    """Explain why a scene has no ground area; None when it has one."""
    _, reason = _make_ellipsoid_transform(*_find_system(georef))
    if reason is not None:
        return reason
    return _explain_bad_gcps(georef.gcps) if georef.transform is None else None


def _explain_bad_gcps(gcps: tuple[tuple[float, ...], ...]) -> str | None:
    if len(gcps) < 3:
        return f"{len(gcps)} ground control points do not place a scene"
    points = np.array(gcps)[:, :4]
    for pair in (points[:, :2], points[:, 2:]):
        if np.linalg.matrix_rank(pair - pair.mean(axis=0), tol=1e-6 * np.ptp(pair)) < 2:
            return "the ground control points lie on one line"
    return None


def _find_system(georef: Georef) -> tuple[str | None, str | None]:
    """Find the coordinate system that a scene is placed in, or the reason why there is none."""
    if georef.transform is not None:
        return georef.crs_wkt, None if georef.crs_wkt else "the scene has no coordinate system"
    if georef.gcps:
        return georef.gcps_crs_wkt, None if georef.gcps_crs_wkt else "the control points have no coordinate system"
    if georef.rpcs:
        return None, "the scene is placed by a sensor model (RPCs) only; orthorectify it first"
    return None, "the scene is not georeferenced"


@functools.lru_cache(maxsize=64)
def _make_ellipsoid_transform(crs_wkt: str | None, reason: str | None) -> tuple[EllipsoidTransform | None, str | None]:
    """Make the way from a coordinate system to the ellipsoid, or find the reason why there is none."""
    if crs_wkt is None or reason is not None:
        return None, reason
    try:
        crs = _flatten(pyproj.CRS(crs_wkt))
        geodetic = crs.geodetic_crs
        if geodetic is None or geodetic.ellipsoid is None or crs.is_geocentric:
            return None, "the coordinate system is not a map of the Earth"
        if geodetic.is_derived:
            # Latitudes around a shifted pole are no latitudes.
            geodetic = geodetic.source_crs
        ellipsoid = geodetic.ellipsoid
        if abs(ellipsoid.semi_major_metre / _EARTH_RADIUS_M - 1) > _SAME_BODY:
            return None, f"the scene is not on the Earth ({ellipsoid.name})"
        to_lonlat = pyproj.Transformer.from_crs(crs, _flatten(geodetic), always_xy=True)
    except (CRSError, ProjError) as error:
        return None, f"the coordinate system cannot be used: {' '.join(str(error).split())}"
    flattening = 1 / ellipsoid.inverse_flattening if ellipsoid.inverse_flattening else 0.0
    is_sphere = flattening == 0.0
    transform = EllipsoidTransform(
        to_lonlat=to_lonlat,
        is_geographic=crs.is_geographic and not crs.is_derived,
        unit_degrees=math.degrees(geodetic.axis_info[0].unit_conversion_factor),
        radius_m=_EARTH_RADIUS_M if is_sphere else ellipsoid.semi_major_metre,
        flattening=_EARTH_FLATTENING if is_sphere else flattening,
    )
    return transform, None


def _flatten(crs: pyproj.CRS) -> pyproj.CRS:
    """Drop heights, and the shift to WGS 84 that old systems carry."""
    bare = crs.source_crs if crs.is_bound else crs
    assert bare is not None
    return bare.to_2d()


def locate_corners_m(georef: Georef, rows_px: NDArrayF, cols_px: NDArrayF) -> NDArrayF:
    """Locate the pixel corners rows x cols in earth-centred coordinates, shape (R, C, 3); NaN off the Earth."""
    ellipsoid, reason = _make_ellipsoid_transform(*_find_system(georef))
    if ellipsoid is None:
        raise ValueError(reason)
    rows_RC, cols_RC = np.meshgrid(rows_px, cols_px, indexing="ij")
    x_RC, y_RC = transform_to_crs(georef, rows_RC, cols_RC)
    if ellipsoid.is_geographic:
        lon_RC, lat_RC = x_RC * ellipsoid.unit_degrees, y_RC * ellipsoid.unit_degrees
        # A global grid whose first pixel is centred on the pole reaches half a pixel beyond it, where no ground is.
        lat_RC = np.clip(lat_RC, -90.0, 90.0)
    else:
        lon_RC, lat_RC = ellipsoid.to_lonlat.transform(x_RC, y_RC)
        lon_RC, lat_RC = lon_RC * ellipsoid.unit_degrees, lat_RC * ellipsoid.unit_degrees
    return _centre_on_earth(np.radians(lon_RC), np.radians(lat_RC), ellipsoid)


def _centre_on_earth(lon_RC: NDArrayF, lat_RC: NDArrayF, ellipsoid: EllipsoidTransform) -> NDArrayF:
    eccentricity2 = ellipsoid.flattening * (2 - ellipsoid.flattening)
    with np.errstate(invalid="ignore"):
        sin_RC, cos_RC = np.sin(lat_RC), np.cos(lat_RC)
        normal_RC = ellipsoid.radius_m / np.sqrt(1 - eccentricity2 * sin_RC**2)
        return np.stack(
            [
                normal_RC * cos_RC * np.cos(lon_RC),
                normal_RC * cos_RC * np.sin(lon_RC),
                normal_RC * (1 - eccentricity2) * sin_RC,
            ],
            axis=-1,
        )


def transform_to_crs(georef: Georef, rows_px: NDArrayF, cols_px: NDArrayF) -> tuple[NDArrayF, NDArrayF]:
    """Transform pixel corners to coordinates of the scene's system, or of its control points."""
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        return a * cols_px + b * rows_px + c, d * cols_px + e * rows_px + f
    to_x, to_y, centre, span, order = _fit_gcps(georef.gcps)
    terms = _make_terms((rows_px - centre[0]) / span, (cols_px - centre[1]) / span, order)
    return terms @ to_x, terms @ to_y


@functools.lru_cache(maxsize=64)
def _fit_gcps(gcps: tuple[tuple[float, ...], ...]) -> tuple[Any, Any, Any, float, int]:
    """Fit least-squares polynomials from pixels to the coordinates of control points.

    The polynomials are of the second order where six or more points determine them; points in two columns do not.
    """
    points = np.array(gcps)
    pixels, x, y = points[:, :2], points[:, 2], points[:, 3]
    centre, span = pixels.mean(axis=0), float(np.ptp(pixels, axis=0).max()) or 1.0
    row, col = ((pixels - centre) / span).T
    order = 2 if np.linalg.matrix_rank(_make_terms(row, col, 2)) == 6 else 1
    terms = _make_terms(row, col, order)
    to_x, to_y = (np.linalg.lstsq(terms, values, rcond=None)[0] for values in (x, y))
    return to_x, to_y, centre, span, order


def _make_terms(row: NDArrayF, col: NDArrayF, order: int) -> NDArrayF:
    linear = [np.ones_like(row), row, col]
    return np.stack(linear if order == 1 else [*linear, row * row, row * col, col * col], axis=-1)
