"""Scoring a finished run against references, from its output folder alone: no recipe, no scene and no model.

The stored labels are read chunk by chunk and counted by the same code that counts during a run, so the numbers are the
same. The chunks' records say which tier labelled a pixel; run/priority/ keeps the priority ground.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from batchseg.collisions import check_inputs, make_foreign_error
from batchseg.egress import redact_errors
from batchseg.errors import DamagedError, RecipeError
from batchseg.json_values import get_json
from batchseg.ledger.ledger import Ledger
from batchseg.ledger.records import Record
from batchseg.output.stored import read_chunk
from batchseg.paths import EVALUATION_KEY, OutputKeys, evaluation_key
from batchseg.recipe import NO_TRUST
from batchseg.reports.evaluation import Evaluation, GivenLabels, check_name, choose_name, keep_evaluation
from batchseg.reports.fold import fold_scores
from batchseg.resolve.output_folder import open_output
from batchseg.resolve.plan_file import PlanFile, read_plan
from batchseg.resolve.priority_file import read_priority
from batchseg.score.agreement import ReferenceLabels, count_agreement, expand_tile_codes, index_classes
from batchseg.score.reference import describe_reference, open_reference, open_reference_labels
from batchseg.score.scores import ReferenceScores, find_recall_note
from batchseg.store import Store


@redact_errors
def evaluate(
    output: str | Path, labels: GivenLabels | Mapping[str, GivenLabels], *, name: str | None = None
) -> Evaluation:
    """Score the output of a run against reference labels. No model runs; the scenes are not needed either.

        from batchseg import evaluate

        print(evaluate("out/demo", "demo/labels.tif").scores.miou)

    Args:
        output: The output folder of the run, or its URL.
        labels: A reference for the run's only scene, or references by scene.
        name: The name to keep the scores by; by default that of the reference's file. Scores that are kept under this
            name already are replaced; without a name, those against other references never are.

    Returns:
        The scores, per scene and together. They are also written into the output folder, to evaluations/NAME.json and,
        as the newest, to evaluation.json.

    Raises:
        InputError: The folder is not the output of a run, or a reference does not fit its scene.
        DamagedError: A stored object does not match the digest in its record.
    """
    store = open_output(output)
    plan = read_plan(store)
    given = assign_labels(plan, labels)
    if name is not None:
        check_name(name)
    name = name or choose_name(store, given)
    _check_place(store, given, name)
    evaluation = replace(_evaluate(store, plan, given), name=name, made_unix_s=time.time())
    keep_evaluation(store, evaluation)
    return evaluation


def _check_place(store: Store, labels: Mapping[str, GivenLabels], name: str) -> None:
    """Raise RecipeError when a file to write is one of the references, or one that no evaluation made."""
    keys = (EVALUATION_KEY, evaluation_key(name))
    check_inputs(store, OutputKeys(frozenset(keys), frozenset()), map(name_labels, labels.values()))
    foreign = [key for key in keys if not _may_write(store, key)]
    if foreign:
        raise make_foreign_error(store.address, foreign, writer="evaluation")


def _may_write(store: Store, key: str) -> bool:
    """Test that nothing lies under a key but what an evaluation made."""
    try:
        content = get_json(store, key)
    except FileNotFoundError:
        return True
    except (DamagedError, OSError):
        return False
    return isinstance(content, dict) and content.keys() >= {"fingerprint", "labels", "scenes"}


def name_labels(given: GivenLabels) -> str:
    """The path or URL of a reference."""
    return given if isinstance(given, str) else given.polygons


def assign_labels(plan: PlanFile, labels: GivenLabels | Mapping[str, GivenLabels]) -> dict[str, GivenLabels]:
    """Find the scene of each reference.

    Raises:
        RecipeError: A scene is unknown, or one reference is given for several scenes.
    """
    scenes = ", ".join(plan.scenes)
    if isinstance(labels, Mapping):
        if not labels:
            raise RecipeError(
                "no reference is given", where="labels", expected=f"references for scenes out of {scenes}"
            )
        for name in labels:
            if name not in plan.scenes:
                raise RecipeError("the run has no such scene", where="--labels", expected=scenes, got=name)
        return dict(labels)
    if len(plan.scenes) > 1:
        raise RecipeError(
            "the reference must name its scene, since the run has several",
            where="--labels",
            expected=f"SCENE=FILE, where SCENE is one of {scenes}",
            got=name_labels(labels),
        )
    return dict.fromkeys(plan.scenes, labels)


def open_labels(plan: PlanFile, labels: Mapping[str, GivenLabels]) -> dict[str, ReferenceLabels]:
    """Open the references of some scenes; each must fit its scene."""
    references = {}
    for name, given in labels.items():
        scene = plan.scenes[name]
        references[name] = open_reference_labels(
            open_reference(given, scene.georef, scene.url, plan.classes, scene.trust or NO_TRUST)
        )
    return references


def read_stored_labels(store: Store, plan: PlanFile, record: Record) -> NDArray[Any]:
    """Read the stored labels of one chunk.

    Raises:
        DamagedError: An object does not match the digest in the record.
    """
    layout = plan.zarr_layout(record.key.scene)
    try:
        return read_chunk(store, layout, layout.layer("labels"), plan.window(record.key), record.objects)
    except DamagedError as error:
        todo = f"delete {record.key.record_key} and run the recipe again, which makes this chunk anew"
        raise DamagedError(error.what, where=error.where, expected=error.expected, got=error.got, todo=todo) from error


def _evaluate(store: Store, plan: PlanFile, labels: Mapping[str, GivenLabels]) -> Evaluation:
    sources = open_labels(plan, labels)
    scored = [
        _score_record(store, plan, record, sources[record.key.scene])
        for record in Ledger(store).read_records()
        if record.key.scene in sources
    ]
    # The scores count agreements with the references that the plan names: here those that were given.
    scenes = {
        name: replace(scene, labels_id=sources[name].id if name in sources else None)
        for name, scene in plan.scenes.items()
    }
    plan = replace(plan, scenes=scenes)
    scores = fold_scores(plan, scored)
    recall_note = find_recall_note(scores) if isinstance(scores, ReferenceScores) else None
    notes = [describe_reference(source) for source in sources.values()]
    return Evaluation(
        fingerprint=plan.fingerprint,
        labels=dict(labels),
        scores=scores,
        scenes={name: fold_scores(plan, [r for r in scored if r.key.scene == name]) for name in sources},
        notes=tuple(dict.fromkeys(filter(None, (*notes, recall_note)))),
    )


def _score_record(store: Store, plan: PlanFile, record: Record, labels: ReferenceLabels) -> Record:
    """The record with its agreement with these labels."""
    window = plan.window(record.key)
    index_HW = index_classes(read_stored_labels(store, plan, record), plan.class_ids, plan.nodata)
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
