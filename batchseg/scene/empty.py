"""Finds windows of a GeoTIFF without a valid pixel, without decoding them. The answer is exact or "not known".

Theory of operation
-------------------
Two kinds of blocks hold no valid pixel. The first kind is known from the file's index of blocks alone.

*Absent.* A block that was never written has no place in the file; GDAL reads it as the nodata value, or as zeros. Where
the policy calls such a pixel invalid, a window of absent blocks needs no reading at all. Nothing is known of other
formats, of masks beside the pixels, and of windows of very many blocks. Nothing is known of files whose blocks are
single rows either: this is how GDAL shows a file of one strip, whose index has only one entry.

*Alike.* Most files have their nodata written out: the same few bytes, block after block. Equal bytes of one file decode
to equal pixels, whatever the codec. So where all blocks of a window are stored alike, one of them stands for all. This
block must lie inside the scene as a whole, since pixels beyond an edge are never seen. Only local files are compared:
on a server the requests take the time, and the comparison would need more of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchseg.recipe import NodataPolicy
from batchseg.scene.dataset import use_handle
from batchseg.scene.names import gdal_path
from batchseg.scene.nodata import find_valid, resolve_policy
from batchseg.scene.pixels import describe_window
from batchseg.scene.raster_file import RasterFile
from tiling.grid import cells
from tiling.span import Window

MAX_BLOCKS = 65_536
"""Largest number of blocks of a window that is looked at."""
MAX_STORED_BYTES = 16_384
"""Largest stored size of a block that may hold one value only; 512 x 512 pixels of three bytes take up to 12 kB."""


@dataclass(frozen=True, slots=True)
class EmptyIndex:
    """The block index of one raster, as a run reads it. A look-up takes about a microsecond per block."""

    raster: RasterFile
    bands: tuple[int, ...]
    policy: NodataPolicy

    @property
    def can_tell(self) -> bool:
        """True if any window of this raster can be known to be empty from the index."""
        return self._absent_is_invalid()

    def is_surely_empty(self, window: Window) -> bool:
        """Test if all blocks of a window are absent, so that no pixel of it is valid."""
        if not self._absent_is_invalid():
            return False
        with use_handle(self.raster, describe_window(self.raster.url, window)) as dataset:
            return self.holds_nothing(dataset, window)

    def holds_nothing(self, dataset: Any, window: Window) -> bool:
        """Test if all blocks of a window are absent, seen through an open handle."""
        rows_px, cols_px = self.raster.block_px
        rows, cols = cells(window.rows, rows_px), cells(window.cols, cols_px)
        if not self._absent_is_invalid() or len(rows) * len(cols) > MAX_BLOCKS:
            return False
        return all(
            dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is None
            for row in rows
            for col in cols
            for band in self._list_indexed_bands()
        )

    def find_alike_block(self, dataset: Any, window: Window) -> Window | None:
        """Find one whole block that is stored like every block of this window; None when there is none."""
        path, blocks = Path(gdal_path(self.raster.url)), self._list_blocks(window)
        if self.raster.driver != "GTiff" or self.raster.block_px[0] == 1 or len(blocks) < 2 or not path.is_file():
            return None
        whole = next((at for at in blocks if self._is_inside(self._block_window(*at))), None)
        if whole is None:
            return None
        for band in self._list_indexed_bands():
            size_bytes = self._read_tag(dataset, "SIZE", band, *whole)
            if size_bytes is None or size_bytes > MAX_STORED_BYTES:
                return None
            if any(self._read_tag(dataset, "SIZE", band, *at) != size_bytes for at in blocks):
                return None
        with path.open("rb") as file:
            for band in self._list_indexed_bands():
                streams = (self._read_stream(dataset, file.fileno(), band, *at) for at in blocks)
                first = next(streams)
                if any(stream != first for stream in streams):
                    return None
        return self._block_window(*whole)

    def _is_inside(self, window: Window) -> bool:
        return window.clip(self.raster.shape_px) == window

    def _list_blocks(self, window: Window) -> list[tuple[int, int]]:
        """List the blocks that a window touches; none where they are too many."""
        high, wide = self.raster.block_px
        rows, cols = cells(window.rows, high), cells(window.cols, wide)
        return [(row, col) for row in rows for col in cols] if len(rows) * len(cols) <= MAX_BLOCKS else []

    def _block_window(self, row: int, col: int) -> Window:
        high, wide = self.raster.block_px
        return Window.of(row * high, (row + 1) * high, col * wide, (col + 1) * wide)

    def _read_tag(self, dataset: Any, fact: str, band: int, row: int, col: int) -> int | None:
        value = dataset.get_tag_item(f"BLOCK_{fact}_{col}_{row}", "TIFF", bidx=band)
        return None if value is None else int(value)

    def _read_stream(self, dataset: Any, file: int, band: int, row: int, col: int) -> bytes:
        place, size_bytes = (self._read_tag(dataset, fact, band, row, col) or 0 for fact in ("OFFSET", "SIZE"))
        return os.pread(file, size_bytes, place)

    def _absent_is_invalid(self) -> bool:
        """Test if the policy calls the pixels of an absent block invalid."""
        validity = resolve_policy(self.raster, self.policy, self.bands)
        if self.raster.driver != "GTiff" or self.raster.block_px[0] == 1 or validity.kind in ("mask", "band_masks"):
            return False
        absent_B11 = np.array([self._absent_value(band) for band in self.bands]).reshape(-1, 1, 1)
        alpha_M11 = None if validity.alpha is None else self._absent_value(validity.alpha).reshape(1, 1, 1)
        return not find_valid(absent_B11, validity, alpha_M11).any()

    def _absent_value(self, band: int) -> np.ndarray:
        nodata = self.raster.bands[band - 1].nodata or 0.0
        dtype = np.dtype(self.raster.dtype)
        if dtype.kind != "f":
            info = np.iinfo(dtype)
            nodata = float(np.clip(nodata, info.min, info.max)) if np.isfinite(nodata) else 0.0
        return np.array(nodata).astype(dtype)

    def _list_indexed_bands(self) -> tuple[int, ...]:
        """Bands whose blocks are looked up; bands that share their blocks are looked up once."""
        if self.raster.interleave == "pixel":
            return (1,)
        alpha = resolve_policy(self.raster, self.policy, self.bands).alpha
        return tuple(dict.fromkeys((*self.bands, *(() if alpha is None else (alpha,)))))
