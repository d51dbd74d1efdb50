"""Which windows of a sparse GeoTIFF hold nothing, known from its index of blocks alone.

A block that was never written has no place in the file; GDAL reads it as the nodata value, or as zeros. Where the
policy calls such a pixel invalid, a window of absent blocks needs no reading at all. The answer is exact or "not
known": other formats, masks beside the pixels, and windows of very many blocks are not known. Nor are files whose
blocks are single rows: so GDAL shows a file that is one strip throughout, whose index has but one entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from batchseg.scene.dataset import reading
from batchseg.scene.header import SceneHeader
from batchseg.scene.nodata import NodataPolicy, settle, valid_of
from batchseg.scene.pixels import where_of
from tiling.grid import cells
from tiling.span import Window

MAX_BLOCKS = 65_536


@dataclass(frozen=True, slots=True)
class EmptyIndex:
    """Of one scene, as a run reads it. About a microsecond a block; the first block that exists ends the search."""

    header: SceneHeader
    bands: tuple[int, ...]
    policy: NodataPolicy

    @property
    def can_tell(self) -> bool:
        """Whether any window of this scene can be known to be empty."""
        return self._absent_is_invalid()

    def surely_empty(self, window: Window) -> bool:
        if not self._absent_is_invalid():
            return False
        with reading(self.header.url, self.header.identity, where_of(self.header.url, window)) as dataset:
            return self.nothing_in(dataset, window)

    def nothing_in(self, dataset: Any, window: Window) -> bool:
        """The same with a handle of the scene."""
        rows_px, cols_px = self.header.block_px
        rows, cols = cells(window.rows, rows_px), cells(window.cols, cols_px)
        if not self._absent_is_invalid() or len(rows) * len(cols) > MAX_BLOCKS:
            return False
        return all(
            dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is None
            for row in rows
            for col in cols
            for band in self._indexed_bands()
        )

    def _absent_is_invalid(self) -> bool:
        """What a pixel of an absent block reads as, judged by the policy itself."""
        validity = settle(self.header, self.policy, self.bands)
        if self.header.driver != "GTiff" or self.header.block_px[0] == 1 or validity.kind in ("mask", "band_masks"):
            return False
        absent_B11 = np.array([self._absent(band) for band in self.bands]).reshape(-1, 1, 1)
        alpha_M11 = None if validity.alpha is None else self._absent(validity.alpha).reshape(1, 1, 1)
        return not valid_of(absent_B11, validity, alpha_M11).any()

    def _absent(self, band: int) -> np.ndarray:
        nodata = self.header.bands[band - 1].nodata or 0.0
        dtype = np.dtype(self.header.dtype)
        if dtype.kind != "f":
            info = np.iinfo(dtype)
            nodata = float(np.clip(nodata, info.min, info.max)) if np.isfinite(nodata) else 0.0
        return np.array(nodata).astype(dtype)

    def _indexed_bands(self) -> tuple[int, ...]:
        """Bands side by side in one block share its place."""
        if self.header.interleave == "pixel":
            return (1,)
        alpha = settle(self.header, self.policy, self.bands).alpha
        return tuple(dict.fromkeys((*self.bands, *(() if alpha is None else (alpha,)))))
