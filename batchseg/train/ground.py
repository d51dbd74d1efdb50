"""Labelled ground to learn from, and the crops that are drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.synth import CLASSES, render
from batchseg.train.recipe import SynthGround

UNLABELLED = 255
_PLACES_A_CLASS = 4096


@dataclass(frozen=True, slots=True)
class Ground:
    """Windows in memory, with places of each class to centre crops on."""

    pixels_WBHW: NDArray[np.uint8]
    labels_WHW: NDArray[np.uint8]
    places: dict[int, NDArray[np.int64]]
    """By class: rows of (window, row, column)."""
    mean: NDArray[np.float64]
    """A band, of the pixels that have data."""
    std: NDArray[np.float64]


def synth_ground(spec: SynthGround, *, seed: int) -> Ground:
    """A window somewhere in the scene of each seed; what has no data gets the mean, as at inference."""
    random = np.random.default_rng(seed)
    windows = []
    for scene_seed in range(*spec.seeds):
        row, col = random.integers(0, spec.size_px - spec.window_px + 1, 2)
        span = spec.window_px
        windows.append(render(scene_seed, spec.size_px, slice(row, row + span), slice(col, col + span), 3, "uint8"))
    pixels_WBHW, labels_WHW = (np.stack(arrays) for arrays in zip(*windows, strict=True))
    places = {c.id: _places(labels_WHW, c.id, random) for c in CLASSES}
    valid_WHW = (pixels_WBHW != 0).any(axis=1)
    sample = np.moveaxis(pixels_WBHW[::4], 1, -1)[valid_WHW[::4]]
    mean, std = sample.mean(0), sample.std(0)
    np.moveaxis(pixels_WBHW, 1, -1)[~valid_WHW] = np.rint(mean)
    return Ground(pixels_WBHW, labels_WHW, places, mean, std)


def _places(labels_WHW: NDArray[np.uint8], class_id: int, random: np.random.Generator) -> NDArray[np.int64]:
    found = np.flatnonzero(labels_WHW == class_id)
    drawn = random.choice(found, min(len(found), _PLACES_A_CLASS), replace=False)
    return np.stack(np.unravel_index(drawn, labels_WHW.shape), axis=1)


@dataclass(slots=True)
class Crops:
    """Endless batches of augmented crops."""

    ground: Ground
    crop_px: int
    batch: int
    balanced_share: float
    random: np.random.Generator

    def draw(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        pairs = [self._one() for _ in range(self.batch)]
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])

    def _one(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        window, row, col = self._place()
        span = self.crop_px
        x = self.ground.pixels_WBHW[window, :, row : row + span, col : col + span].astype(np.float32)
        y = self.ground.labels_WHW[window, row : row + span, col : col + span].copy()
        x = self._relit(x)
        chance = self.random.random()
        if chance < 0.10:
            self._beyond_edge(x, y)
        elif chance < 0.15:
            self._invalid(x, y)
        x, y = self._turned(x, y)  # last, so that edges lie on every side
        return np.ascontiguousarray(x), np.ascontiguousarray(y)

    def _place(self) -> tuple[int, int, int]:
        labels = self.ground.labels_WHW
        limit = labels.shape[1] - self.crop_px
        if self.random.random() < self.balanced_share:
            places = self.ground.places[int(self.random.choice([c for c, p in self.ground.places.items() if len(p)]))]
            window, row, col = places[self.random.integers(len(places))]
            row, col = (np.clip(v - self.random.integers(self.crop_px), 0, limit) for v in (row, col))
        else:
            window, row, col = self.random.integers(0, [labels.shape[0], limit + 1, limit + 1])
        return int(window), int(row), int(col)

    def _turned(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        turns = int(self.random.integers(4))
        x, y = np.rot90(x, turns, (1, 2)), np.rot90(y, turns)
        return (x[:, :, ::-1], y[:, ::-1]) if self.random.random() < 0.5 else (x, y)

    def _relit(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Another light, another season: gain a band, offset, a little noise."""
        gain = self.random.normal(1.0, 0.08) * self.random.normal(1.0, 0.03, (x.shape[0], 1, 1))
        offset = np.float32(self.random.normal(0.0, 4.0))
        noise = self.random.normal(0.0, 1.5, x.shape).astype(np.float32)
        relit: NDArray[np.float32] = np.clip(x * gain.astype(np.float32) + offset + noise, 0.0, 255.0)
        return relit

    def _beyond_edge(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """As at the scene's edge: the last row or column is repeated, and nothing is labelled there."""
        cut = int(self.random.integers(1, self.crop_px // 3))
        if self.random.random() < 0.5:
            x[:, -cut:], y[-cut:] = x[:, -cut - 1 : -cut], UNLABELLED
        else:
            x[:, :, -cut:], y[:, -cut:] = x[:, :, -cut - 1 : -cut], UNLABELLED

    def _invalid(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """As where the scene has no data: the mean of each band, behind a slanted line."""
        rows, cols = np.mgrid[: self.crop_px, : self.crop_px]
        angle = self.random.uniform(0.0, 2 * np.pi)
        middle = self.crop_px / 2
        side = (rows - middle) * np.sin(angle) + (cols - middle) * np.cos(angle) > self.random.uniform(0.0, middle)
        x[:, side], y[side] = np.rint(self.ground.mean)[:, None], UNLABELLED
