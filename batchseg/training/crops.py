"""Endless batches of augmented crops, drawn from ground. A teacher's soft labels are transformed with their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from batchseg.training.ground import TrainingGround
from batchseg.training.rasters import UNLABELLED

SOFT_PX = 4
"""Soft labels have a quarter of the resolution, like the logits of our networks."""


SoftLabels = Callable[[int], NDArray[np.float16]]
"""Reads the teacher's logits of a window. Files are mapped on demand, so memory and open files stay bounded."""


class CropBatch(NamedTuple):
    pixels_NBHW: NDArray[np.float32]
    labels_NHW: NDArray[np.uint8]
    soft_NKhw: NDArray[np.float16]
    """Logits of the teacher; zero classes without a teacher."""
    seen_Nhw: NDArray[np.bool_]
    """Pixels that the teacher saw as the student does: not beyond an edge, and not where pixels were removed."""


@dataclass(slots=True)
class CropSampler:
    ground: TrainingGround
    crop_px: int
    batch: int
    balanced_share: float
    random: np.random.Generator
    range: tuple[float, float] = (0.0, 255.0)
    soft: SoftLabels | None = None
    light: float = 1.0
    zoom: tuple[float, float] = (1.0, 1.0)
    mix: float = 0.0
    """Share of crops of which a quarter to three quarters is replaced by the crop drawn after them."""
    shift_px: int = 0
    """Columns between the two crops of a pair, which show the same ground in the same light; 0: no pairs."""

    def draw(self) -> CropBatch:
        """Draw the crops of one step."""
        if self.shift_px:
            crops = [crop for _ in range(self.batch // 2) for crop in self._draw_pair()]
        else:
            crops = [self._draw_crop(self.crop_px) for _ in range(self.batch)]
        if self.mix:
            next_crops = (*crops[1:], crops[0])
            crops = [self._mix_crops(*both) for both in zip(crops, next_crops, strict=True)]
        return CropBatch(*map(np.stack, zip(*crops, strict=True)))

    def _mix_crops(self, crop: CropBatch, other: CropBatch) -> CropBatch:
        """Put two places side by side or one above the other, so that surroundings do not reveal the scene."""
        if self.random.random() >= self.mix:
            return crop
        side = self.crop_px // SOFT_PX
        cut = int(self.random.integers(side // 4, side - side // 4 + 1))
        axis = int(self.random.choice((-1, -2)))
        arrays: Iterable[tuple[NDArray[Any], NDArray[Any]]] = zip(crop, other, strict=True)
        return CropBatch(*(_join_parts(*both, cut / side, axis) for both in arrays))

    def _draw_pair(self) -> tuple[CropBatch, CropBatch]:
        both = self._draw_crop(self.crop_px + self.shift_px)
        first, second = (
            [_slice_part(array, both, self.crop_px, left) for array in both] for left in (0, self.shift_px)
        )
        return CropBatch(*first), CropBatch(*second)

    def _draw_crop(self, span: int) -> CropBatch:
        pixels, labels, logits = self._cut_place(span)
        x, y, soft = _resize(pixels, span), _resize(labels, span), _resize(logits, span // SOFT_PX)
        x = self._relight(x)
        chance, hidden = self.random.random(), np.zeros((span, span), bool)
        if chance < 0.10:
            self._repeat_edge(x, hidden)
        elif chance < 0.15:
            self._remove_pixels(x, hidden)
        y[hidden] = UNLABELLED
        seen = np.asarray(~hidden.reshape(span // SOFT_PX, SOFT_PX, span // SOFT_PX, SOFT_PX).any((1, 3)))
        return CropBatch(*self._rotate(x, y, soft, seen))  # last, so that edges lie on every side

    def _cut_place(self, span: int) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float16]]:
        """Pixels, labels and soft labels of a place, before they are resized to the side of a crop."""
        soft = np.empty((0, 1, 1), np.float16)
        if self.zoom != (1.0, 1.0):
            span = round(span / self.random.uniform(*self.zoom) / SOFT_PX) * SOFT_PX
        window, row, col = self._choose_place(span)
        if self.soft is not None:
            row, col, small = row - row % SOFT_PX, col - col % SOFT_PX, span // SOFT_PX
            down, right = row // SOFT_PX, col // SOFT_PX
            soft = self.soft(window)[:, down : down + small, right : right + small]
        x = self.ground.pixels_WBHW[window, :, row : row + span, col : col + span].astype(np.float32)
        return x, self.ground.labels_WHW[window, row : row + span, col : col + span].copy(), soft

    def _choose_place(self, span: int) -> tuple[int, int, int]:
        """Choose a window, a row and a column within the raster.

        Pixels beyond a raster's edge teach little, and a scene that is hardly larger than a window would otherwise
        contribute more of them than of its ground.
        """
        inside_W2 = self.ground.inside_W2
        occurring = [index for index, places in self.ground.places.items() if len(places)]
        if self.random.random() < self.balanced_share and occurring:
            places = self.ground.places[int(self.random.choice(occurring))]
            window, row, col = places[self.random.integers(len(places))]
            row, col = np.clip(
                (row, col) - self.random.integers(span, size=2), 0, _last_corner(inside_W2[window], span)
            )
        else:
            areas_W = inside_W2.prod(1).cumsum()
            window = np.searchsorted(areas_W, self.random.integers(areas_W[-1]), side="right")
            row, col = self.random.integers(0, _last_corner(inside_W2[window], span) + 1)
        return int(window), int(row), int(col)

    def _rotate(self, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        """Turn and mirror all arrays of a crop alike."""
        turns, is_mirrored = int(self.random.integers(4)), self.random.random() < 0.5
        turned = [np.rot90(array, turns, (-2, -1)) for array in arrays]
        return [np.ascontiguousarray(array[..., ::-1] if is_mirrored else array) for array in turned]

    def _relight(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Imitate another light or season: a gain per band, an offset and a little noise."""
        low, high = self.range
        step = np.float32((high - low) / 255)
        gain = self.random.normal(1.0, 0.08 * self.light) * self.random.normal(
            1.0, 0.03 * self.light, (x.shape[0], 1, 1)
        )
        offset = np.float32(self.random.normal(0.0, 4.0 * self.light)) * step
        noise = self.random.normal(0.0, 1.5, x.shape).astype(np.float32) * step
        relit: NDArray[np.float32] = np.clip(x * gain.astype(np.float32) + offset + noise, low, high)
        return relit

    def _repeat_edge(self, x: NDArray[Any], hidden: NDArray[np.bool_]) -> None:
        """Imitate the edge of a scene: the last row or column is repeated, and nothing is labelled there."""
        cut = int(self.random.integers(1, len(hidden) // 3))
        if self.random.random() < 0.5:
            x[:, -cut:], hidden[-cut:] = x[:, -cut - 1 : -cut], True
        else:
            x[:, :, -cut:], hidden[:, -cut:] = x[:, :, -cut - 1 : -cut], True

    def _remove_pixels(self, x: NDArray[Any], hidden: NDArray[np.bool_]) -> None:
        """Imitate pixels without data: the mean of each band behind a slanted line."""
        rows, cols = np.mgrid[: len(hidden), : len(hidden)]
        angle = self.random.uniform(0.0, 2 * np.pi)
        middle = len(hidden) / 2
        side = (rows - middle) * np.sin(angle) + (cols - middle) * np.cos(angle) > self.random.uniform(0.0, middle)
        hidden[side] = True
        x[:, side] = self.ground.fill[:, None]


def _last_corner(inside_2: NDArray[np.int64], span: int) -> NDArray[np.int64]:
    """The last row and column at which a square of this side may begin."""
    return np.maximum(inside_2 - span, 0)


def _join_parts(first: NDArray[Any], second: NDArray[Any], share: float, axis: int) -> NDArray[Any]:
    """The first array up to a share of its length, then the second."""
    at = round(first.shape[axis] * share)
    return np.concatenate([np.split(first, [at], axis)[0], np.split(second, [at], axis)[1]], axis)


def _slice_part(array: NDArray[Any], whole: CropBatch, side: int, left: int) -> NDArray[Any]:
    """Columns of one of a crop's arrays, which may be coarser than its pixels."""
    if not array.size:
        return array
    scale = whole.labels_NHW.shape[-1] // array.shape[-1]
    return array[..., : side // scale, left // scale : (left + side) // scale]


def _resize(array: NDArray[Any], side: int) -> NDArray[Any]:
    """Interpolate pixels and logits; take the nearest label, since no class lies between two others."""
    if array.shape[-1] == side or not array.shape[0]:
        return array
    if array.ndim == 2:
        places = ((np.arange(side) + 0.5) * array.shape[0] / side).astype(np.int64)
        return np.asarray(array[places[:, None], places])
    planes = torch.from_numpy(array.astype(np.float32))[None]
    small = functional.interpolate(planes, size=(side, side), mode="bilinear", antialias=side < array.shape[-1])
    return np.asarray(small[0].numpy(), array.dtype)
