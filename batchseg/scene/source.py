"""Reads windows of a raster file: all bands in one read, and which pixels are valid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as GdalWindow

from batchseg.recipe import NodataPolicy
from batchseg.scene.dataset import retry_if_remote, use_handle
from batchseg.scene.empty import EmptyIndex
from batchseg.scene.identity import check_parts_unchanged, check_unchanged
from batchseg.scene.limited_source import LimitedSource
from batchseg.scene.nodata import ValidityRule, find_valid, resolve_policy
from batchseg.scene.pixels import Pixels, Source, describe_window
from batchseg.scene.raster_file import RasterFile
from tiling.span import Window

STRIPE_PX = 64
"""Number of rows whose validity is computed at once."""


@dataclass(frozen=True, slots=True)
class RasterSource:
    """One raster file, with the bands and the nodata policy of a run. It holds no handle."""

    raster: RasterFile
    bands: tuple[int, ...]
    policy: NodataPolicy

    def read(self, window: Window) -> Pixels:
        if window.clip(self.raster.shape_px) != window:
            raise ValueError(f"{window} reaches out of a scene of {self.raster.shape_px}")
        return retry_if_remote(self.raster.url, lambda: self.read_once(window))

    def read_once(self, window: Window) -> Pixels:
        """Read a window, without a second try where a server fails."""
        validity = resolve_policy(self.raster, self.policy, self.bands)
        # Before GDAL opens another file of a VRT, which could lead anywhere.
        check_parts_unchanged(self.raster.parts, window)
        with use_handle(self.raster, describe_window(self.raster.url, window)) as dataset:
            pixels = self._pixels(dataset, window, validity)
        # A handle lives long. The pixels are of the version that it was opened for only if the file has not changed.
        check_unchanged(self.raster.url, self.raster.identity)
        check_parts_unchanged(self.raster.parts, window)
        return pixels

    def read_small(self, shape_px: tuple[int, int]) -> Pixels:
        """Read the whole scene at a smaller size, from its overview of that size."""
        validity, whole = (
            resolve_policy(self.raster, self.policy, self.bands),
            Window.of(0, shape_px[0], 0, shape_px[1]),
        )
        bands = [*self.bands, *(() if validity.alpha is None else (validity.alpha,))]
        with use_handle(self.raster, self.raster.url) as dataset:
            read_DHW = np.stack([dataset.read(band, out_shape=shape_px) for band in bands]).astype(self.raster.dtype)
            masks_MHW = read_DHW[len(self.bands) :] if validity.alpha is not None else None
            if validity.kind in ("mask", "band_masks"):
                masks_MHW = np.stack([dataset.read_masks(band, out_shape=shape_px) for band in self.bands])
        raw_BHW = read_DHW[: len(self.bands)]
        return Pixels(whole, raw_BHW, _find_valid_in_stripes(raw_BHW, validity, masks_MHW))

    def _pixels(self, dataset: Any, window: Window, validity: ValidityRule) -> Pixels:
        masks_MHW = self._read_masks(dataset, self._distinct, window, validity)
        if self._is_empty(dataset, window, validity, masks_MHW):
            # Pages of zeros take neither time nor memory until they are written to.
            raw_BHW = np.zeros((len(self.bands), *window.shape), self.raster.dtype)
            return Pixels(window, raw_BHW, np.zeros(window.shape, bool))
        raw_DHW, valid_HW = self._read_distinct(dataset, window, validity, masks_MHW)
        if self._distinct != self.bands:
            raw_DHW = raw_DHW[[self._distinct.index(band) for band in self.bands]]
        return Pixels(window, raw_DHW, valid_HW)

    @property
    def _distinct(self) -> tuple[int, ...]:
        """Bands without repetition. All of them, and alpha, are read at once, so that GDAL decodes each block once."""
        return tuple(dict.fromkeys(self.bands))

    def _is_empty(
        self, dataset: Any, window: Window, validity: ValidityRule, masks_MHW: NDArray[np.uint8] | None
    ) -> bool:
        """Test if a window is known to hold no valid pixel without reading it."""
        if masks_MHW is not None:
            return not masks_MHW.any()
        index = EmptyIndex(self.raster, self.bands, self.policy)
        if index.holds_nothing(dataset, window):
            return True
        block = index.find_alike_block(dataset, window)
        return block is not None and not self._read_distinct(dataset, block, validity, None)[1].any()

    def _read_distinct(
        self, dataset: Any, window: Window, validity: ValidityRule, masks_MHW: NDArray[np.uint8] | None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read the distinct bands, and find where they are valid."""
        distinct, alpha = self._distinct, () if validity.alpha is None else (validity.alpha,)
        read_DHW = self._read(dataset, [*distinct, *alpha], window)
        if alpha:
            masks_MHW = read_DHW[len(distinct) :]
        raw_DHW = read_DHW[: len(distinct)]
        values = tuple(validity.values[self.bands.index(band)] for band in distinct) if validity.values else ()
        return raw_DHW, _find_valid_in_stripes(raw_DHW, _replace_values(validity, values), masks_MHW)

    def _read(self, dataset: Any, bands: list[int], window: Window) -> NDArray[Any]:
        """Read all bands in one call, or each in its own where their data types differ, as rasterio requires."""
        dtype = self.raster.dtype
        types = {self.raster.bands[band - 1].dtype for band in bands}
        runs = [bands] if len(types) == 1 else [[band] for band in bands]
        read_DHW = np.empty((len(bands), *window.shape), dtype)
        for start, run in zip((bands.index(run[0]) for run in runs), runs, strict=True):
            dataset.read(run, window=make_gdal_window(window), out=read_DHW[start : start + len(run)])
        return read_DHW

    def _read_masks(
        self, dataset: Any, bands: tuple[int, ...], window: Window, validity: ValidityRule
    ) -> NDArray[np.uint8] | None:
        if validity.kind == "mask":
            return np.asarray(dataset.read_masks([bands[0]], window=make_gdal_window(window)))
        if validity.kind == "band_masks":
            return np.asarray(dataset.read_masks(list(bands), window=make_gdal_window(window)))
        return None


def open_source(raster: RasterFile, bands: tuple[int, ...], policy: NodataPolicy) -> Source:
    """Make the source of a scene's pixels. It opens nothing until the first read."""
    return LimitedSource(RasterSource(raster, bands, policy), raster.url)


def _find_valid_in_stripes(
    raw_DHW: NDArray[Any], validity: ValidityRule, masks_MHW: NDArray[np.uint8] | None
) -> NDArray[np.bool_]:
    """Find the valid pixels some rows at a time, so that intermediate arrays stay in the cache."""
    valid_HW = np.empty(raw_DHW.shape[1:], bool)
    for start in range(0, len(valid_HW), STRIPE_PX):
        rows = slice(start, start + STRIPE_PX)
        valid_HW[rows] = find_valid(raw_DHW[:, rows], validity, None if masks_MHW is None else masks_MHW[:, rows])
    return valid_HW


def _replace_values(validity: ValidityRule, values: tuple[float | None, ...]) -> ValidityRule:
    return replace(validity, values=values)


def make_gdal_window(window: Window) -> GdalWindow:
    return GdalWindow(window.cols.start, window.rows.start, len(window.cols), len(window.rows))
