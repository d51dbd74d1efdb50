"""Which windows of a GeoTIFF hold nothing, known without decoding them. The answer is exact or "not known".

Two kinds of blocks without a pixel, of which the first are known from the file's index of blocks alone:

*Absent.* A block that was never written has no place in the file; GDAL reads it as the nodata value, or as zeros. Where
the policy calls such a pixel invalid, a window of absent blocks needs no reading at all. Other formats, masks beside
the pixels, and windows of very many blocks are not known. Nor are files whose blocks are single rows: so GDAL shows a
file that is one strip throughout, whose index has but one entry.

*Alike.* Most files have their nodata written out: the same few bytes, block after block. Equal bytes of one file decode
to equal pixels, whatever the codec. So where all blocks of a window are stored alike, one of them tells of all. It has
to lie within the scene as a whole, since nobody sees what hangs over an edge. Only of files on this machine: on a
server it is the requests that take time, and these would be more of them.
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
MAX_STORED_BYTES = 16_384
"""Of a block that may be of one value throughout; 512 x 512 pixels of three bytes take 12 kB at worst (PackBits)."""


@dataclass(frozen=True, slots=True)
class EmptyIndex:
    """Of one scene, as a run reads it. About a microsecond a block; the first block that exists ends the search."""

    raster: RasterFile
    bands: tuple[int, ...]
    policy: NodataPolicy

    @property
    def can_tell(self) -> bool:
        """Whether any window of this scene can be known to be empty."""
        return self._absent_is_invalid()

    def is_surely_empty(self, window: Window) -> bool:
        if not self._absent_is_invalid():
            return False
        with use_handle(self.raster.url, self.raster.identity, describe_window(self.raster.url, window)) as dataset:
            return self.holds_nothing(dataset, window)

    def holds_nothing(self, dataset: Any, window: Window) -> bool:
        """The same with a handle of the scene."""
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

    def alike(self, dataset: Any, window: Window) -> Window | None:
        """One whole block that every block of this window is stored alike to, if there is such a block."""
        path, grid = Path(gdal_path(self.raster.url)), self._blocks(window)
        if self.raster.driver != "GTiff" or self.raster.block_px[0] == 1 or len(grid) < 2 or not path.is_file():
            return None
        whole = next((at for at in grid if self._block(*at).clip(self.raster.shape_px) == self._block(*at)), None)
        if whole is None:
            return None
        for band in self._list_indexed_bands():
            size_bytes = self._read_tag(dataset, "SIZE", band, *whole)
            if size_bytes is None or size_bytes > MAX_STORED_BYTES:
                return None
            if any(self._read_tag(dataset, "SIZE", band, *at) != size_bytes for at in grid):
                return None
        with path.open("rb") as file:
            for band in self._list_indexed_bands():
                streams = (self._stream(dataset, file.fileno(), band, *at) for at in grid)
                first = next(streams)
                if any(stream != first for stream in streams):
                    return None
        return self._block(*whole)

    def _blocks(self, window: Window) -> list[tuple[int, int]]:
        """None of them where they are too many."""
        high, wide = self.raster.block_px
        rows, cols = cells(window.rows, high), cells(window.cols, wide)
        return [(row, col) for row in rows for col in cols] if len(rows) * len(cols) <= MAX_BLOCKS else []

    def _block(self, row: int, col: int) -> Window:
        high, wide = self.raster.block_px
        return Window.of(row * high, (row + 1) * high, col * wide, (col + 1) * wide)

    def _read_tag(self, dataset: Any, fact: str, band: int, row: int, col: int) -> int | None:
        tag = dataset.get_tag_item(f"BLOCK_{fact}_{col}_{row}", "TIFF", bidx=band)
        return None if tag is None else int(tag)

    def _stream(self, dataset: Any, file: int, band: int, row: int, col: int) -> bytes:
        place, size_bytes = (self._read_tag(dataset, fact, band, row, col) or 0 for fact in ("OFFSET", "SIZE"))
        return os.pread(file, size_bytes, place)

    def _absent_is_invalid(self) -> bool:
        """What a pixel of an absent block reads as, judged by the policy itself."""
        validity = resolve_policy(self.raster, self.policy, self.bands)
        if self.raster.driver != "GTiff" or self.raster.block_px[0] == 1 or validity.kind in ("mask", "band_masks"):
            return False
        absent_B11 = np.array([self._absent(band) for band in self.bands]).reshape(-1, 1, 1)
        alpha_M11 = None if validity.alpha is None else self._absent(validity.alpha).reshape(1, 1, 1)
        return not find_valid(absent_B11, validity, alpha_M11).any()

    def _absent(self, band: int) -> np.ndarray:
        nodata = self.raster.bands[band - 1].nodata or 0.0
        dtype = np.dtype(self.raster.dtype)
        if dtype.kind != "f":
            info = np.iinfo(dtype)
            nodata = float(np.clip(nodata, info.min, info.max)) if np.isfinite(nodata) else 0.0
        return np.array(nodata).astype(dtype)

    def _list_indexed_bands(self) -> tuple[int, ...]:
        """Bands side by side in one block share its place."""
        if self.raster.interleave == "pixel":
            return (1,)
        alpha = resolve_policy(self.raster, self.policy, self.bands).alpha
        return tuple(dict.fromkeys((*self.bands, *(() if alpha is None else (alpha,)))))
