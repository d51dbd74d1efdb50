"""Scoring a finished run against references, from its output folder alone: no recipe, no scene and no model.

The stored labels are read a chunk at a time and counted by the same code that counts while a run goes on, so the
numbers are the same. Which tier labelled a pixel is in the chunks' records; priority ground is kept in run/priority/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from batchseg.errors import DamagedError, RecipeError
from batchseg.ledger.ledger import Ledger, record_key
from batchseg.ledger.records import Record
from batchseg.output.stored import read_chunk
from batchseg.paths import EVALUATION_KEY
from batchseg.recipe import LabelPolygons
from batchseg.reports.metrics import accuracy_of
from batchseg.resolve.plan_file import PlanFile, read_plan
from batchseg.resolve.priority_file import read_priority
from batchseg.schema import plain
from batchseg.score.agreement import ReferenceLabels, count_agreement, expand_tile_codes, index_classes
from batchseg.score.reference import open_reference, open_reference_labels
from batchseg.store import Store


def evaluate(store: Store, labels_of: Mapping[str, str | LabelPolygons]) -> dict[str, Any]:
    """Accuracy of each scene with a reference, and of all of them together; also put into evaluation.json."""
    plan = read_plan(store)
    sources = open_labels(plan, labels_of)
    wanted = (record for record in Ledger(store).read_records() if record.key.scene in sources)
    scored = [_scored(store, plan, record, sources[record.key.scene]) for record in wanted]
    labelled = {name: replace(scene, labels_id=None) for name, scene in plan.scenes.items()}
    labelled |= {name: replace(plan.scenes[name], labels_id=source.id) for name, source in sources.items()}
    plan = replace(plan, scenes=labelled)
    content = {
        "fingerprint": plan.fingerprint,
        "labels": plain(labels_of),
        **accuracy_of(plan, scored),
        "scenes": {name: accuracy_of(plan, [r for r in scored if r.key.scene == name]) for name in sources},
    }
    store.put(EVALUATION_KEY, json.dumps(content, indent=1).encode())
    return content


def open_labels(plan: PlanFile, labels_of: Mapping[str, str | LabelPolygons]) -> dict[str, ReferenceLabels]:
    for name in labels_of:
        if name not in plan.scenes:
            raise RecipeError("the run has no such scene", where="--labels", expected=", ".join(plan.scenes), got=name)
    scenes = {name: plan.scenes[name] for name in labels_of}
    return {
        name: open_reference_labels(open_reference(labels_of[name], scene.georef, scene.url, plan.classes))
        for name, scene in scenes.items()
    }


def _scored(store: Store, plan: PlanFile, record: Record, labels: ReferenceLabels) -> Record:
    window = plan.window(record.key)
    index_HW = index_classes(stored_labels(store, plan, record), plan.class_ids, plan.nodata)
    priority = read_priority(store, record.key.scene, plan.scenes[record.key.scene].georef)
    agreement = count_agreement(
        index_HW,
        labels,
        window,
        ids=plan.class_ids,
        nodata=plan.nodata,
        codes_HW=expand_tile_codes(record.measured.tile_codes, window, plan.core_px),
        inside_HW=None if priority is None else priority.mask(window),
    )
    return replace(record, measured=replace(record.measured, agreement=agreement))


def stored_labels(store: Store, plan: PlanFile, record: Record) -> NDArray[Any]:
    layout = plan.zarr_layout(record.key.scene)
    try:
        return read_chunk(store, layout, layout.layer("labels"), plan.window(record.key), record.objects)
    except DamagedError as error:
        todo = f"delete {record_key(record.key)} and run the recipe again, which makes this chunk anew"
        raise DamagedError(error.what, where=error.where, expected=error.expected, got=error.got, todo=todo) from error
