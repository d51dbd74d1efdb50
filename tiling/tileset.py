"""A set of tiles of one lattice, one bit each: what a scene a million pixels wide needs half a megabyte for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TileSet(AbstractSet[tuple[int, int]]):
    """Tiles as (row, column). Compares like any set."""

    shape: tuple[int, int]
    """Tiles down and across."""
    bits: bytes
    """Row after row, each padded to whole bytes."""

    @staticmethod
    def of_mask(mask: NDArray[np.bool_]) -> TileSet:
        rows, cols = mask.shape
        return TileSet((rows, cols), np.packbits(mask, axis=1).tobytes())

    @classmethod
    def _from_iterable(cls, it: Iterable[tuple[int, int]]) -> frozenset[tuple[int, int]]:  # type: ignore[override]
        """The results of `&` and `-` have no lattice of their own."""
        return frozenset(it)

    def mask(self) -> NDArray[np.bool_]:
        packed = np.frombuffer(self.bits, np.uint8).reshape(self.shape[0], -1)
        return np.unpackbits(packed, axis=1, count=self.shape[1]).astype(bool)

    def __contains__(self, tile: object) -> bool:
        if not (isinstance(tile, tuple) and len(tile) == 2):
            return False
        row, col = tile
        rows, cols = self.shape
        if not (0 <= row < rows and 0 <= col < cols):
            return False
        return bool(self.bits[row * -(-cols // 8) + col // 8] >> (7 - col % 8) & 1)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((int(row), int(col)) for row, col in np.argwhere(self.mask()))

    def __len__(self) -> int:
        return int(np.bitwise_count(np.frombuffer(self.bits, np.uint8)).sum())
