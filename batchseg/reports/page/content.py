"""Content of report.html, as values that its script reads as JSON. Pictures come from the Zarr and the scene."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.classes import RGB
from batchseg.layers.confidence import CERTAIN, NO_CONFIDENCE
from batchseg.layers.layer import Layer
from batchseg.layers.tier import TIER_CLASSES
from batchseg.ledger.records import Record
from batchseg.ledger.stages import STAGES, Stage, sum_paid_s
from batchseg.output.stored import ZarrLayout
from batchseg.recipe import NO_TRUST
from batchseg.reports.evaluation import describe_evaluation, find_newest, replace_scores
from batchseg.reports.metrics import Metrics
from batchseg.reports.page.pictures import (
    draw_classes,
    draw_measure,
    draw_scene,
    explain_missing_picture,
    find_level,
    read_level,
)
from batchseg.resolve.plan_file import PlanFile
from batchseg.scene.map_area import explain_map_areas
from batchseg.store import Store
from tiling.span import Window

MAX_MAPS = 24
"""The most scenes with pictures; the others are in the table of scenes only."""
_PAGE_PX = 1600
_CROP_PX, _MAX_CROPS = 256, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedColour:
    """One line of a legend."""

    name: str
    rgb: RGB


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """The meaning of the codes of a layer."""

    title: str
    kind: str
    classes: tuple[NamedColour, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFigures:
    """One chunk on the map of chunks."""

    row: int
    col: int
    kind: str
    cost: float
    """US dollars."""
    confidence: float | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A square of full resolution."""

    confidence: float
    row: int
    """The first row of pixels."""
    col: int
    """The first column of pixels."""
    pictures: dict[str, str]
    """A data URI for each layer."""
    scene: str | None
    """A data URI; None where the scene cannot be read any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """The pictures of one scene."""

    width: int
    """Pixels of the scene, not of its picture."""
    height: int
    layers: dict[str, str]
    """A data URI for each layer."""
    scene: str | None
    """A data URI; None where the scene cannot be read any more, or not quickly."""
    scene_note: str | None
    """The reason why `scene` is None."""
    map_area_note: str | None
    """Error of areas that are counted from pixels, and the command for right ones; None where they are right."""
    crops: tuple[Crop, ...]
    """The squares with the lowest confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContent:
    """Everything that the script of the page reads."""

    metrics: Metrics
    scores_note: str | None
    """The evaluation that the scores are of; None where they are the run's own."""
    classes: tuple[NamedColour, ...]
    layers: dict[str, Legend]
    least: dict[str, float]
    """The share that the colour ramp begins with, by layer."""
    tiers: tuple[NamedColour, ...]
    seconds: dict[Stage, float]
    """Seconds of committed chunks, by stage."""
    chunk_px: int
    models: dict[str, str]
    """Names of the models, by tier."""
    maps: dict[str, Map]
    tiles: dict[str, list[int]]
    """Numbers of tiles by scene, in the order of `tiers`."""
    made: str | None
    """Date of the last committed chunk, so that a page that is made again says the same; None without a chunk."""
    chunks: dict[str, list[ChunkFigures]]


def collect_content(plan: PlanFile, store: Store, records: Sequence[Record], metrics: Metrics) -> PageContent:
    """Collect the figures and the pictures of the page. Its scores are the newest, of the run or of an evaluation."""
    newest = find_newest(store)
    shown = list(plan.scenes)[:MAX_MAPS]
    # Smaller maps for many scenes keep the page as light as that of a few.
    longest_px = max(400, int(_PAGE_PX / max(1, len(shown)) ** 0.5))
    shown_layers = {layer.name: layer for name in shown for layer in plan.zarr_layout(name).layers}
    return PageContent(
        metrics=metrics if newest is None else replace_scores(metrics, newest),
        scores_note=None if newest is None else f"scores are those of {describe_evaluation(newest)}",
        classes=tuple(NamedColour(name=info.name, rgb=info.rgb) for info in plan.classes),
        layers={name: _make_legend(layer) for name, layer in shown_layers.items()},
        least={name: layer.least for name, layer in shown_layers.items()},
        tiers=tuple(NamedColour(name=info.name, rgb=info.rgb) for info in TIER_CLASSES),
        seconds=_sum_seconds(records),
        chunk_px=plan.chunk_px,
        models={tier: model.name for tier, model in sorted(plan.models.items())},
        maps={name: _draw_map(plan, store, name, longest_px) for name in shown},
        tiles=_count_tiles(records),
        made=_find_date(records),
        chunks={name: [_describe_chunk(r) for r in records if r.key.scene == name] for name in shown},
    )


def _make_legend(layer: Layer) -> Legend:
    classes = tuple(NamedColour(name=info.name, rgb=info.rgb) for info in layer.classes)
    return Legend(title=layer.title, kind=layer.kind, classes=classes)


def _sum_seconds(records: Sequence[Record]) -> dict[Stage, float]:
    return {
        stage: round(sum(r.attempt.seconds.get(stage, 0.0) for r in records), 3) for stage in STAGES if stage != "start"
    }


def _count_tiles(records: Sequence[Record]) -> dict[str, list[int]]:
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for record in records:
        counts[record.key.scene].update(record.measured.tile_codes)
    return {scene: [of_scene[info.id] for info in TIER_CLASSES] for scene, of_scene in counts.items()}


def _find_date(records: Sequence[Record]) -> str | None:
    last_unix_s = max((record.attempt.ended_unix_s for record in records), default=None)
    return None if last_unix_s is None else datetime.fromtimestamp(last_unix_s, UTC).date().isoformat()


def _describe_chunk(record: Record) -> ChunkFigures:
    measured, attempt = record.measured, record.attempt
    return ChunkFigures(
        row=record.key.row,
        col=record.key.col,
        kind=record.kind,
        cost=sum_paid_s(attempt.seconds) * attempt.usd_per_hour / 3600,
        confidence=measured.confidence_sum / CERTAIN / measured.valid_px if measured.valid_px else None,
        attempts=attempt.number,
    )


def _draw_map(plan: PlanFile, store: Store, name: str, longest_px: int) -> Map:
    scene, layout = plan.scenes[name], plan.zarr_layout(name)
    level = find_level(layout, longest_px)
    codes = {layer.name: read_level(store, layout, layer, level) for layer in layout.layers}
    picture = draw_scene(scene.url, scene.bands, codes["labels"].shape, trust=scene.trust or NO_TRUST)
    return Map(
        width=scene.georef.width_px,
        height=scene.georef.height_px,
        layers={layer.name: _draw_layer(layer, codes[layer.name]) for layer in layout.layers},
        scene=picture,
        scene_note=explain_missing_picture(scene.url, scene.trust or NO_TRUST) if picture is None else None,
        map_area_note=explain_map_areas(scene.georef, "labels.tif" if layout.is_one_sheet else "labels.vrt"),
        crops=tuple(_draw_crops(plan, store, name, level, codes.get("confidence"))),
    )


def _draw_layer(layer: Layer, codes_HW: NDArray[Any]) -> str:
    return draw_classes(codes_HW, layer.colours) if layer.kind == "classes" else draw_measure(codes_HW, layer)


def _draw_crops(plan: PlanFile, store: Store, name: str, level: int, confidence_HW: NDArray[Any] | None) -> list[Crop]:
    """Draw the squares with the lowest confidence; none without a confidence layer.

    Args:
        plan: The plan of the run.
        store: Its output folder.
        name: The scene.
        level: The level of the Zarr that `confidence_HW` was read from.
        confidence_HW: Codes of the confidence layer over the whole scene.
    """
    if confidence_HW is None:
        return []
    side_px = max(1, _CROP_PX >> level)
    squares = []
    for row in range(0, confidence_HW.shape[0], side_px):
        for col in range(0, confidence_HW.shape[1], side_px):
            square = confidence_HW[row : row + side_px, col : col + side_px]
            valid = square[square != NO_CONFIDENCE]
            if valid.size and 2 * valid.size >= square.size:
                squares.append((float(np.mean(valid)) / CERTAIN, row << level, col << level))
    layout = plan.zarr_layout(name)
    return [_draw_crop(plan, store, layout, *square) for square in sorted(squares)[:_MAX_CROPS]]


def _draw_crop(plan: PlanFile, store: Store, layout: ZarrLayout, confidence: float, top: int, left: int) -> Crop:
    georef, scene = layout.georef, plan.scenes[layout.scene]
    window = Window.of(top, top + _CROP_PX, left, left + _CROP_PX).clip((georef.height_px, georef.width_px))
    layers = layout.layer("labels"), layout.layer("confidence")
    return Crop(
        confidence=confidence,
        row=top,
        col=left,
        pictures={layer.name: _draw_layer(layer, read_level(store, layout, layer, 0, window)) for layer in layers},
        scene=draw_scene(scene.url, scene.bands, window.shape, window, trust=scene.trust or NO_TRUST),
    )
