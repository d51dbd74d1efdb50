"""What report.html shows: figures from metrics.json, pictures from the Zarr. Needs the output folder; the scene if it
is still there.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import numpy as np
from rasterio.errors import NotGeoreferencedWarning

from batchseg.layers.layer import Layer
from batchseg.layers.tier import TIER_CLASSES
from batchseg.ledger.records import Record
from batchseg.ledger.stages import STAGES, paid_s
from batchseg.output.stored import ZarrLayout
from batchseg.reports.metrics import Metrics
from batchseg.reports.page.pictures import classes_png, level_for, measure_png, read_level, scene_jpeg
from batchseg.resolve.plan_file import PlanFile
from batchseg.schema import JsonObject, plain
from batchseg.store import Store
from tiling.span import Window

MOST_MAPS = 24
"""Scenes with pictures; the others are in the table."""
_PAGE_PX = 1600
_CROP_PX, _NUM_CROPS = 256, 8


def report_html(plan: PlanFile, store: Store, records: Sequence[Record], metrics: Metrics) -> str:
    names = list(plan.scenes)
    shown = names[:MOST_MAPS]
    # So that the page of many scenes is no heavier than that of a few.
    longest_px = max(400, int(_PAGE_PX / max(1, len(shown)) ** 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        maps = {name: _map(plan, store, name, longest_px) for name in shown}
    data = {
        "metrics": plain(metrics),
        "classes": [{"name": one.name, "rgb": one.rgb} for one in plan.classes],
        "layers": {layer.name: _legend(layer) for name in shown for layer in plan.zarr_layout(name).layers},
        "tiers": [{"name": info.name, "rgb": info.rgb} for info in TIER_CLASSES],
        "seconds": _seconds(records),
        "chunk_px": plan.chunk_px,
        "models": {tier: model.name for tier, model in sorted(plan.models.items())},
        "maps": maps,
        "tiles": _tiles(records),
        "made": _date(records),
        "chunks": {name: [_chunk(record) for record in records if record.key.scene == name] for name in shown},
    }
    page = files("batchseg.reports.page")
    text = page.joinpath("report.html").read_text("utf-8")
    for mark, name in (("/*STYLE*/", "report.css"), ("/*SCRIPT*/", "report.js")):
        text = text.replace(mark, page.joinpath(name).read_text("utf-8"))
    # Names come from files and users: nothing in them may end the element.
    content = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return text.replace("/*DATA*/", content)


def _legend(layer: Layer) -> JsonObject:
    """What the page says of the codes of a layer."""
    classes: list[JsonObject] = [{"name": info.name, "rgb": info.rgb} for info in layer.classes]
    return {"title": layer.title, "kind": layer.kind, "classes": classes}


def _seconds(records: Sequence[Record]) -> dict[str, float]:
    return {
        stage: round(sum(r.attempt.seconds.get(stage, 0.0) for r in records), 3) for stage in STAGES if stage != "start"
    }


def _tiles(records: Sequence[Record]) -> dict[str, list[int]]:
    """By scene, in the order of the tiers' names."""
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for record in records:
        counts[record.key.scene].update(record.measured.tile_codes)
    return {scene: [found[info.id] for info in TIER_CLASSES] for scene, found in counts.items()}


def _date(records: Sequence[Record]) -> str | None:
    """Of the last chunk: a page that is made again says the same."""
    last_unix_s = max((record.attempt.ended_unix_s for record in records), default=None)
    return None if last_unix_s is None else datetime.fromtimestamp(last_unix_s, UTC).date().isoformat()


def _chunk(record: Record) -> dict[str, Any]:
    measured, attempt = record.measured, record.attempt
    return {
        "row": record.key.row,
        "col": record.key.col,
        "kind": record.kind,
        "cost": paid_s(attempt.seconds) * attempt.usd_per_hour / 3600,
        "confidence": measured.confidence_sum / 254 / measured.valid_px if measured.valid_px else None,
        "attempts": attempt.number,
    }


def _map(plan: PlanFile, store: Store, name: str, longest_px: int) -> dict[str, Any]:
    scene, layout = plan.scenes[name], plan.zarr_layout(name)
    level = level_for(layout, longest_px)
    pictures: dict[str, str | None] = {}
    codes = {layer.name: read_level(store, layout, layer, level) for layer in layout.layers}
    for layer in layout.layers:
        pictures[layer.name] = _picture(layer, codes[layer.name])
    shape_px = codes["labels"].shape
    return {
        "width": scene.georef.width_px,
        "height": scene.georef.height_px,
        "layers": pictures,
        "scene": scene_jpeg(scene.url, scene.bands, shape_px),
        "crops": _crops(plan, store, name, layout, level, codes.get("confidence")),
    }


def _picture(layer: Layer, codes_HW: Any) -> str:
    return classes_png(codes_HW, layer.colours) if layer.kind == "classes" else measure_png(codes_HW, layer)


def _crops(
    plan: PlanFile, store: Store, name: str, layout: ZarrLayout, level: int, confidence_HW: Any | None
) -> list[dict[str, Any]]:
    """The squares of full resolution where the models were least certain."""
    if confidence_HW is None:
        return []
    side_px = max(1, _CROP_PX >> level)
    scores = []
    for row in range(0, confidence_HW.shape[0], side_px):
        for col in range(0, confidence_HW.shape[1], side_px):
            square = confidence_HW[row : row + side_px, col : col + side_px]
            valid = square[square != 255]
            if valid.size and 2 * valid.size >= square.size:
                scores.append((float(np.mean(valid)) / 254, row << level, col << level))
    return [_crop(plan, store, name, layout, *lowest) for lowest in sorted(scores)[:_NUM_CROPS]]


def _crop(
    plan: PlanFile, store: Store, name: str, layout: ZarrLayout, score: float, top: int, left: int
) -> dict[str, Any]:
    georef, scene = layout.georef, plan.scenes[name]
    window = Window.of(top, top + _CROP_PX, left, left + _CROP_PX).clip((georef.height_px, georef.width_px))
    pictures = {
        layer.name: _picture(layer, read_level(store, layout, layer, 0, window))
        for layer in (layout.layer("labels"), layout.layer("confidence"))
    }
    return {
        "confidence": score,
        "row": top,
        "col": left,
        "pictures": pictures,
        "scene": scene_jpeg(scene.url, scene.bands, window.shape, window),
    }
