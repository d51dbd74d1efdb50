"""Two runs over the same scenes side by side: what they cost, how far they agree, which is nearer to the labels.

Ground is compared in blocks of 1024 px, one at a time. Neighbouring pixels are right and wrong together, so the range
of a score is that of resampled blocks, not of pixels; and both runs are scored on the same resamples, so the
range of their difference is that of the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import InputError
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import StoredObject
from batchseg.output.stored import ZarrLayout, read_stored
from batchseg.recipe import LabelPolygons
from batchseg.reports.evaluate import open_labels
from batchseg.reports.metrics import read_metrics
from batchseg.resolve.plan_file import PlanFile, read_plan
from batchseg.score.agreement import ReferenceLabels, index_classes
from batchseg.store import Store
from tiling.grid import Grid
from tiling.span import Window

BLOCK_PX = 1024
RESAMPLES = 1000
SEED = 0
AT_ONCE = 1 << 22
"""Weights of blocks drawn in one go."""


@dataclass(frozen=True, slots=True)
class Block:
    """What two runs say of one block."""

    scene: str
    window: Window
    both_px: int
    agreeing_px: int
    counts: NDArray[np.int64] | None
    """Hits, reference and predicted pixels a class: 2 runs x 3 x classes; None without labels."""


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """Any window of a run's labels, as positions in its class list."""

    store: Store
    plan: PlanFile
    scene: str
    layout: ZarrLayout
    index: dict[str, StoredObject]
    _kept: list[Any] = field(default_factory=list)

    @staticmethod
    def of(store: Store, plan: PlanFile, scene: str) -> StoredLabels:
        layout = plan.zarr_layout(scene)
        prefix = layout.object_key("labels", 0, 0).removesuffix("0.0")
        records = (record for record in Ledger(store).read_records() if record.key.scene == scene)
        index = {o.key: o for record in records for o in record.objects if o.key.startswith(prefix)}
        return StoredLabels(store, plan, scene, layout, index)

    def read(self, window: Window) -> NDArray[Any]:
        layer = self.layout.layer("labels")
        labels_HW = np.full(window.shape, layer.nodata, layer.dtype)
        for row, col in self.layout.stored_grid.touching(window):
            stored = self.index.get(self.layout.object_key("labels", row, col))
            if stored is not None:
                part = self.layout.stored_grid.window(row, col)
                shared = part.meet(window)
                labels_HW[shared.within(window)] = self._stored(stored)[shared.within(part)]
        return index_classes(labels_HW, self.plan.class_ids, self.plan.nodata)

    def _stored(self, stored: StoredObject) -> NDArray[Any]:
        """Blocks go row by row, so the last few stored chunks are asked for again."""
        if not self._kept:
            width = self.layout.stored_grid.shape[1]
            labels = self.layout.layer("labels")
            self._kept.append(lru_cache(maxsize=width + 1)(lambda o: read_stored(self.store, self.layout, labels, o)))
        found: NDArray[Any] = self._kept[0](stored)
        return found


def compare(
    first: Store, second: Store, labels_of: Mapping[str, str | LabelPolygons]
) -> tuple[dict[str, Any], list[Block]]:
    """The numbers of a comparison, and its blocks, those that differ most at the front."""
    plans = read_plan(first), read_plan(second)
    scenes = common_scenes(*plans)
    labels = open_labels(plans[0], labels_of)
    blocks = [
        block
        for scene in scenes
        for block in _blocks(
            StoredLabels.of(first, plans[0], scene), StoredLabels.of(second, plans[1], scene), labels.get(scene)
        )
    ]
    if not any(block.both_px for block in blocks):
        raise InputError("the runs have no pixel in common", where="compare", got=", ".join(scenes))
    content = {
        "scenes": scenes,
        "blocks": len(blocks),
        "cost": {name: _cost(store) for name, store in (("a", first), ("b", second))},
        **statistics(blocks, plans[0].class_names),
    }
    content["verdict"] = verdict(content)
    return content, sorted(blocks, key=lambda block: block.agreeing_px - block.both_px)


def common_scenes(first: PlanFile, second: PlanFile) -> list[str]:
    if (first.class_ids, first.class_names) != (second.class_ids, second.class_names):
        raise InputError(
            "the two runs have different classes",
            where="compare",
            expected=", ".join(first.class_names),
            got=", ".join(second.class_names),
        )
    scenes = [name for name in first.scenes if name in second.scenes]
    for name in scenes:
        if first.scenes[name].georef != second.scenes[name].georef:
            raise InputError("this scene is not on the same grid in both runs", where=name)
    if not scenes:
        raise InputError(
            "the two runs have no scene in common",
            where="compare",
            expected=", ".join(first.scenes),
            got=", ".join(second.scenes),
        )
    return scenes


def _blocks(first: StoredLabels, second: StoredLabels, labels: ReferenceLabels | None) -> Iterator[Block]:
    plan, georef = first.plan, first.layout.georef
    num = len(plan.class_ids)
    grid = Grid((georef.height_px, georef.width_px), BLOCK_PX)
    for row, col in grid:
        window = grid.window(row, col)
        found = first.read(window), second.read(window)
        both_HW = (found[0] < num) & (found[1] < num)
        agreeing_px = int((both_HW & (found[0] == found[1])).sum())
        counts = None
        if labels is not None:
            raw_HW, labelled_HW = labels.read(window)
            truth_HW = index_classes(raw_HW, plan.class_ids, plan.nodata)
            known_HW = both_HW & labelled_HW & (truth_HW < num)
            counts = np.stack([_counts(truth_HW[known_HW], one[known_HW], num) for one in found])
        yield Block(first.scene, window, int(both_HW.sum()), agreeing_px, counts)


def _counts(truth: NDArray[Any], predicted: NDArray[Any], num: int) -> NDArray[np.int64]:
    return np.stack([np.bincount(codes, minlength=num) for codes in (truth[truth == predicted], truth, predicted)])


def statistics(blocks: list[Block], classes: tuple[str, ...]) -> dict[str, Any]:
    """Agreement and IoU with their ranges; pure."""
    pixels = np.array([(block.agreeing_px, block.both_px) for block in blocks], np.float64)
    scored = [block.counts for block in blocks if block.counts is not None]
    agreement = pixels.sum(0) @ (1, 0) / pixels.sum(0)[1]
    drawn = _resampled(pixels)
    content: dict[str, Any] = {"agreement": _with_range(agreement, drawn[:, 0] / np.maximum(drawn[:, 1], 1))}
    if not scored:
        return content | {"iou": None, "miou": None}
    counts = np.stack(scored).reshape(len(scored), -1).astype(np.float64)
    shape = (-1, 2, 3, len(classes))
    whole, many = _iou(counts.sum(0).reshape(shape))[0], _iou(_resampled(counts).reshape(shape))
    mean, means = _mean(whole), _mean(many)
    return content | {
        "iou": {name: _sides(whole[:, i], many[:, :, i]) for i, name in enumerate(classes)},
        "miou": _sides(mean, means),
    }


def _resampled(values_NM: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over blocks drawn again and again, as many as there are."""
    num = len(values_NM)
    random, step = np.random.default_rng(SEED), max(1, AT_ONCE // num)
    sums = [
        random.multinomial(num, np.full(num, 1 / num), min(step, RESAMPLES - start)) @ values_NM
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(sums)


def _iou(counts_RSTK: NDArray[np.float64]) -> NDArray[np.float64]:
    """R resamples x 2 runs x classes; NaN for a class that neither the labels nor that run has."""
    hits, reference, predicted = counts_RSTK[:, :, 0], counts_RSTK[:, :, 1], counts_RSTK[:, :, 2]
    union = reference + predicted - hits
    iou: NDArray[np.float64] = np.divide(hits, union, out=np.full(hits.shape, np.nan), where=union > 0)
    return iou


def _mean(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(iou)
    number = known.sum(-1)
    total = np.where(known, iou, 0).sum(-1)
    mean: NDArray[np.float64] = np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)
    return mean


def _sides(whole_S: NDArray[np.float64], many_RS: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "a": _with_range(whole_S[0], many_RS[:, 0]),
        "b": _with_range(whole_S[1], many_RS[:, 1]),
        "difference": _with_range(whole_S[1] - whole_S[0], many_RS[:, 1] - many_RS[:, 0]),
    }


def _with_range(value: float, resampled: NDArray[np.float64]) -> dict[str, float | None]:
    """95 % of the resamples lie between low and high."""
    known = resampled[~np.isnan(resampled)]
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (np.nan, np.nan)
    return {
        name: None if np.isnan(v) else round(float(v), 5) for name, v in zip(_RANGE, (value, low, high), strict=True)
    }


_RANGE = ("value", "low", "high")


def _cost(store: Store) -> dict[str, Any]:
    metrics = read_metrics(store)
    return {name: getattr(metrics, name) for name in ("cost_usd", "cost_usd_per_km2", "wall_s", "heavy_share")}


def verdict(content: dict[str, Any]) -> str:
    """One line of `key=value`, for a script: what B costs of A, and whether its score is better by more than chance."""
    a, b = (content["cost"][name]["cost_usd"] for name in ("a", "b"))
    facts = {"cost_ratio": f"{b / a:.4f}" if a else "unknown", "agreement": content["agreement"]["value"]}
    if content["miou"] is None:
        return " ".join(f"{name}={value}" for name, value in {**facts, "quality": "unknown"}.items())
    difference = content["miou"]["difference"]
    low, high = difference["low"], difference["high"]
    quality = "unknown" if low is None else "better" if low > 0 else "worse" if high < 0 else "same"
    facts |= {"miou_difference": difference["value"], "low": low, "high": high, "quality": quality}
    return " ".join(f"{name}={value}" for name, value in facts.items())
