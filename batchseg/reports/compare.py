"""Comparing two runs over the same scenes: what they cost, how far they agree, and which is closer to the labels.

The ground is compared block by block, in squares of 1024 px; memory does not grow with the scenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.atomic import make_folder, replace_file
from batchseg.collisions import check_inputs, make_foreign_error
from batchseg.egress import encode_json, redact_errors
from batchseg.errors import DamagedError, InputError
from batchseg.json_values import get_json
from batchseg.paths import OutputKeys
from batchseg.reports.comparison import (
    Block,
    BlockDifference,
    Comparison,
    RunCost,
    RunCosts,
    describe_comparison,
    measure_agreement,
    measure_iou,
)
from batchseg.reports.difference_picture import RunMap, write_difference_picture
from batchseg.reports.evaluate import assign_labels, name_labels, open_labels
from batchseg.reports.evaluation import GivenLabels
from batchseg.reports.metrics import read_metrics
from batchseg.reports.stored_labels import StoredLabels
from batchseg.resolve.output_folder import open_output
from batchseg.resolve.plan_file import PlanFile, read_plan
from batchseg.score.agreement import ReferenceLabels, index_classes
from batchseg.store import LocalStore, Store
from tiling.grid import Grid

BLOCK_PX = 1024
MAX_DIFFERENCES = 6
COMPARISON_FILE = "compare.json"


@dataclass(frozen=True, slots=True)
class _Run:
    """One of the two runs."""

    store: Store
    plan: PlanFile

    @property
    def name(self) -> str:
        """The last part of the address of its output."""
        return self.store.address.rstrip("/").rpartition("/")[2]

    def open_labels(self, scene: str) -> StoredLabels:
        return StoredLabels.of(self.store, self.plan, scene)

    def read_cost(self) -> RunCost:
        metrics = read_metrics(self.store)
        return RunCost(
            cost_usd=metrics.cost_usd,
            cost_usd_per_km2=metrics.cost_usd_per_km2,
            wall_s=metrics.wall_s,
            heavy_share=metrics.heavy_share,
        )


@redact_errors
def compare(
    first: str | Path,
    second: str | Path,
    labels: GivenLabels | Mapping[str, GivenLabels] | None = None,
    *,
    folder: str | Path | None = None,
) -> Comparison:
    """Compare two runs over the same scenes: cost, agreement, and IoU if there are labels.

        from batchseg import compare

        comparison = compare("out/before", "out/after", "demo/labels.tif")
        print(comparison.verdict.quality)

    Args:
        first: The output folder of run A, or its URL.
        second: The output folder of run B, or its URL.
        labels: A reference for the only scene, or references by scene; None compares without labels.
        folder: A local folder for compare.json and for pictures of the blocks that differ most; None writes nothing.

    Returns:
        The comparison; its `verdict` says whether run B is better.

    Raises:
        InputError: A folder is not the output of a run, the runs have other classes or no ground in common, a
            reference does not fit its scene, or the folder cannot be made.
        DamagedError: A stored object does not match the digest in its record.
    """
    target = None if folder is None else LocalStore(Path(folder))
    if target is not None:
        _check_folder(target, labels)
    run_a, run_b = (_Run(store, read_plan(store)) for store in (open_output(first), open_output(second)))
    scenes, classes = find_common_scenes(run_a.plan, run_b.plan), run_a.plan.class_names
    sources = {} if labels is None else open_labels(run_a.plan, assign_labels(run_a.plan, labels))
    blocks = [block for name in scenes for block in _compare_scene(run_a, run_b, name, sources.get(name))]
    if not any(block.both_px for block in blocks):
        raise InputError("the runs have no labelled pixel in common", where="compare", got=", ".join(scenes))
    by_class, mean = measure_iou(blocks, classes) or (None, None)
    comparison = Comparison(
        scenes=scenes,
        num_blocks=len(blocks),
        cost=RunCosts(a=run_a.read_cost(), b=run_b.read_cost()),
        agreement=measure_agreement(blocks),
        iou=by_class,
        miou=mean,
        differences=tuple(_list_differences(blocks, None if folder is None else Path(folder))),
    )
    if target is not None:
        # First the file that says whose the pictures are.
        target.put(COMPARISON_FILE, encode_json(describe_comparison(comparison), indent=1))
        _write_pictures(comparison.differences, run_a, run_b)
    return comparison


def _check_folder(target: LocalStore, labels: GivenLabels | Mapping[str, GivenLabels] | None) -> None:
    """Make the folder, and raise InputError when files of others lie where the comparison is written."""
    pictures = (_name_picture(number) for number in range(1, MAX_DIFFERENCES + 1))
    keys = OutputKeys(frozenset({COMPARISON_FILE, *pictures}), frozenset())
    given = labels.values() if isinstance(labels, Mapping) else [labels] if labels is not None else []
    check_inputs(target, keys, map(name_labels, given))
    try:
        make_folder(target.root)
        taken = list(target.find_taken(keys))
    except OSError as error:
        where = str(target.root)
        todo = "give another folder"
        raise InputError(
            "the folder of the comparison cannot be made", where=where, got=str(error), todo=todo
        ) from error
    if taken and not _has_comparison(target):
        raise make_foreign_error(target.address, taken, writer="comparison")


def _has_comparison(target: LocalStore) -> bool:
    try:
        content = get_json(target, COMPARISON_FILE)
    except (OSError, DamagedError):
        return False
    return isinstance(content, dict) and content.keys() >= {"blocks", "agreement", "verdict"}


def _name_picture(number: int) -> str:
    return f"crop_{number}.png"


def find_common_scenes(first: PlanFile, second: PlanFile) -> tuple[str, ...]:
    """The scenes of both runs, in the order of the first.

    Raises:
        InputError: The classes differ, a scene lies on another grid, or there is no such scene.
    """
    if (first.class_ids, first.class_names) != (second.class_ids, second.class_names):
        raise InputError(
            "the two runs have different classes",
            where="compare",
            expected=", ".join(first.class_names),
            got=", ".join(second.class_names),
            todo="compare runs of models that have the same class list",
        )
    scenes = tuple(name for name in first.scenes if name in second.scenes)
    for name in scenes:
        if first.scenes[name].georef != second.scenes[name].georef:
            raise InputError(
                "this scene is not on the same grid in both runs",
                where=name,
                todo="compare runs over the same rasters",
            )
    if not scenes:
        raise InputError(
            "the two runs have no scene in common",
            where="compare",
            expected=", ".join(first.scenes),
            got=", ".join(second.scenes),
            todo="compare runs over the same rasters",
        )
    return scenes


def _compare_scene(run_a: _Run, run_b: _Run, scene: str, labels: ReferenceLabels | None) -> Iterator[Block]:
    """Compare a scene block by block."""
    plan, stored_a, stored_b = run_a.plan, run_a.open_labels(scene), run_b.open_labels(scene)
    num, georef = len(plan.class_ids), plan.scenes[scene].georef
    grid = Grid((georef.height_px, georef.width_px), BLOCK_PX)
    for row, col in grid:
        window = grid.window(row, col)
        sides = a_HW, b_HW = stored_a.read(window), stored_b.read(window)
        both_HW = (a_HW < num) & (b_HW < num)
        agreeing_px = int((both_HW & (a_HW == b_HW)).sum())
        counts_SKC = None
        if labels is not None:
            raw_HW, labelled_HW = labels.read(window)
            reference_HW = index_classes(raw_HW, plan.class_ids, plan.nodata)
            known_HW = both_HW & labelled_HW & (reference_HW < num)
            counts_SKC = np.stack([_count(reference_HW[known_HW], side_HW[known_HW], num) for side_HW in sides])
        yield Block(scene, window, int(both_HW.sum()), agreeing_px, counts_SKC)


def _count(reference: NDArray[Any], predicted: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """Hits, reference pixels and predicted pixels of each class."""
    kinds = (reference[reference == predicted], reference, predicted)
    return np.stack([np.bincount(index, minlength=num_classes) for index in kinds])


def _list_differences(blocks: Sequence[Block], folder: Path | None) -> Iterator[BlockDifference]:
    """The blocks with the most differing pixels; each has a picture if there is a folder for them."""
    ordered = sorted(blocks, key=lambda block: block.agreeing_px - block.both_px)
    differing = [block for block in ordered[:MAX_DIFFERENCES] if block.agreeing_px < block.both_px]
    for number, block in enumerate(differing, start=1):
        yield BlockDifference(
            scene=block.scene,
            window=block.window,
            differing_share=1 - block.agreeing_px / block.both_px,
            picture=None if folder is None else folder / _name_picture(number),
        )


def _write_pictures(differences: Sequence[BlockDifference], run_a: _Run, run_b: _Run) -> None:
    for block in differences:
        if block.picture is not None:
            map_a, map_b = (RunMap(name=run.name, labels=run.open_labels(block.scene)) for run in (run_a, run_b))
            with replace_file(block.picture) as unfinished:
                write_difference_picture(unfinished, map_a, map_b, block.window)
