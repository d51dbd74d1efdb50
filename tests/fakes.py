"""Stand-ins that are as strict as the real thing: models, a source, and stores that count and crash."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from batchseg.paths import OutputKeys
from batchseg.scene.pixels import Pixels
from batchseg.store import LocalStore
from batchseg.tiers import Tier
from tiling.span import Window

Answer = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def untimed(_: Tier, *, is_audit: bool = False) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(slots=True)
class ContextSegmenter:
    """Every pixel of its answer depends on every pixel of the tile, on its place in the tile and on the batch's shape.

    So an answer is right only if the tile was cut, filled and padded exactly as it should be.
    """

    batch: int = 3
    num_classes: int = 5
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """Of the batches it was given, in order."""

    def __call__(self, x_NBHW: NDArray[Any], /) -> Answer:
        if x_NBHW.shape[0] != self.batch:
            raise ValueError(f"a batch of {x_NBHW.shape[0]}, made for {self.batch}")
        self.shapes.append(x_NBHW.shape)
        mixed_NHW = np.stack([self._mix(x_BHW) for x_BHW in x_NBHW])
        index_NHW = (mixed_NHW % self.num_classes).astype(np.uint8)
        return index_NHW, (mixed_NHW // self.num_classes % 254 + 1).astype(np.uint8)

    def _mix(self, x_BHW: NDArray[Any]) -> NDArray[np.int64]:
        whole = zlib.crc32(np.ascontiguousarray(x_BHW).tobytes(), self.batch)
        rows_H, cols_W = (np.arange(size, dtype=np.int64) for size in x_BHW.shape[1:])
        local_HW = np.rint(x_BHW.astype(np.float64).sum(0) * 64).astype(np.int64)
        return (local_HW * 31 + rows_H[:, None] * 7 + cols_W * 13 + whole) & 0x7FFFFFFF


@dataclass(slots=True)
class ReachSegmenter:
    """The label is the brightest value of band 0 within `reach_px`, modulo the classes; 0 gives the input back.

    Beyond the tile it repeats the tile's edge, so its cores are right exactly when the halo is at least its reach.
    """

    reach_px: int = 0
    batch: int = 2
    num_classes: int = 255
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, x_NBHW: NDArray[Any], /) -> Answer:
        self.shapes.append(x_NBHW.shape)
        index_NHW = np.stack([self.answer(x_BHW[0]) for x_BHW in x_NBHW])
        return index_NHW, np.full(index_NHW.shape, 254, np.uint8)

    def answer(self, band_HW: NDArray[Any]) -> NDArray[np.uint8]:
        side_px = 2 * self.reach_px + 1
        around = sliding_window_view(np.pad(band_HW, self.reach_px, mode="edge"), (side_px, side_px))
        return (around.max((2, 3)).astype(np.int64) % self.num_classes).astype(np.uint8)


@dataclass(slots=True)
class ConstantSegmenter:
    """One answer for everything."""

    label: int = 1
    confidence: int = 200
    batch: int = 2
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, x_NBHW: NDArray[Any], /) -> Answer:
        self.shapes.append(x_NBHW.shape)
        shape = (x_NBHW.shape[0], *x_NBHW.shape[2:])
        return np.full(shape, self.label, np.uint8), np.full(shape, self.confidence, np.uint8)


@dataclass(slots=True)
class MemorySource:
    """A scene in memory. Refuses to read outside of it, as a raster would."""

    raw_BHW: NDArray[Any]
    valid_HW: NDArray[np.bool_]
    reads: list[Window] = field(default_factory=list)

    @staticmethod
    def of(raw_BHW: NDArray[Any]) -> MemorySource:
        """A scene whose pixels are all valid."""
        return MemorySource(raw_BHW, np.ones(raw_BHW.shape[1:], bool))

    @property
    def shape_px(self) -> tuple[int, int]:
        rows, cols = self.valid_HW.shape
        return rows, cols

    def read(self, window: Window) -> Pixels:
        if window.clip(self.shape_px) != window:
            raise ValueError(f"{window} is outside a scene of {self.shape_px}")
        self.reads.append(window)
        rows, cols = window.within(Window.of(0, self.shape_px[0], 0, self.shape_px[1]))
        return Pixels(window, self.raw_BHW[:, rows, cols].copy(), self.valid_HW[rows, cols].copy())


class Crash(BaseException):
    """Nothing of the program runs after this; no handler for `Exception` sees it."""


def crash() -> None:
    raise Crash


@dataclass(slots=True)
class CountingStore:
    """A local store that writes down every operation, like `put run/recipe.json`."""

    inner: LocalStore
    operations: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def root(self) -> Path:
        return self.inner.root

    @property
    def address(self) -> str:
        return self.inner.address

    def put_new(self, key: str, content: bytes) -> bool:
        self._begin("put_new", key)
        return self.inner.put_new(key, content)

    def _begin(self, name: str, key: str) -> int:
        """The number of this operation, from 0."""
        with self._lock:
            self.operations.append(f"{name} {key}")
            return len(self.operations) - 1

    def get(self, key: str) -> bytes:
        self._begin("get", key)
        return self.inner.get(key)

    def put(self, key: str, content: bytes) -> None:
        self._begin("put", key)
        self.inner.put(key, content)

    def put_file(self, key: str, path: Path) -> None:
        self._begin("put_file", key)
        self.inner.put_file(key, path)

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        self._begin("names", prefix)
        return self.inner.names(prefix)

    def delete(self, key: str) -> None:
        self._begin("delete", key)
        self.inner.delete(key)

    def find_taken(self, keys: OutputKeys) -> Iterator[str]:
        return self.inner.find_taken(keys)

    def sweep(self, keys: OutputKeys, *, deep: bool = True) -> int:
        return self.inner.sweep(keys, deep=deep)

    def scratch(self) -> AbstractContextManager[Path]:
        return self.inner.scratch()


@dataclass(slots=True)
class CrashingStore(CountingStore):
    """Strikes when operation number `at` (from 0) begins, or, `torn`, in the middle of it.

    A torn put leaves half of the object in an unfinished file beside its place, as a killed process does; any other
    operation of a local folder happens whole or not at all, so there it is not begun.
    """

    at: int = 0
    torn: bool = False
    strike: Callable[[], None] = crash

    def put(self, key: str, content: bytes) -> None:
        if self._begin("put", key) == self.at:
            if self.torn:
                target = self.root / key
                target.parent.mkdir(parents=True, exist_ok=True)
                (target.parent / f".unfinished-{self.at:012x}").write_bytes(content[: len(content) // 2])
            self.strike()
        self.inner.put(key, content)

    def put_new(self, key: str, content: bytes) -> bool:
        self._strike_at(self._begin("put_new", key))
        return self.inner.put_new(key, content)

    def get(self, key: str) -> bytes:
        self._strike_at(self._begin("get", key))
        return self.inner.get(key)

    def put_file(self, key: str, path: Path) -> None:
        self._strike_at(self._begin("put_file", key))
        self.inner.put_file(key, path)

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        self._strike_at(self._begin("names", prefix))
        return self.inner.names(prefix)

    def delete(self, key: str) -> None:
        self._strike_at(self._begin("delete", key))
        self.inner.delete(key)

    def _strike_at(self, number: int) -> None:
        if number == self.at:
            self.strike()
