"""Score the output of a run against reference labels. No model runs, and neither recipe nor scene is needed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchseg.recipe import LabelPolygons

HELP = "score a run's output against reference labels; no model runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="the run's output folder or URL")
    add_labels_argument(parser, required=True)


def add_labels_argument(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--labels",
        metavar="[SCENE=]FILE",
        nargs="+",
        required=required,
        default=[],
        help="a raster on the scene's grid, polygons or points; with several scenes, SCENE=FILE for each that has one",
    )
    add_drawing_arguments(parser)


def add_drawing_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class", dest="class_", metavar="FIELD", help="polygons and points: the field with their class; class"
    )
    parser.add_argument("--all", dest="all_", metavar="CLASS", help="polygons and points: the class of all of them")
    parser.add_argument("--outside", metavar="CLASS", help="polygons: the class of the ground outside of them")


def main(args: argparse.Namespace) -> int:
    from batchseg.paths import EVALUATION_KEY
    from batchseg.reports.evaluate import evaluate
    from batchseg.resolve.plan_file import read_plan
    from jobs.terminal.output_folder import opened

    store, _ = opened(args.output)
    found = evaluate(store, labels_of(args, list(read_plan(store).scenes)))
    for line in lines(found):
        print(line)
    print(f"{args.output}/{EVALUATION_KEY}")
    return 0


def labels_of(args: argparse.Namespace, scenes: list[str]) -> dict[str, str | LabelPolygons]:
    """Which reference is whose."""
    return drawn_as(args, files_of(args.labels, scenes))


def drawn_as(args: argparse.Namespace, files: dict[str, str]) -> dict[str, str | LabelPolygons]:
    """Files by scene, with what is said of those that are drawn."""
    from batchseg.errors import RecipeError
    from batchseg.recipe import LabelPolygons
    from batchseg.scene.labelpolygons import is_vector

    said = {"class_": args.class_, "all_": args.all_, "outside": args.outside}
    drawn = {name: value for name, value in said.items() if value is not None}
    if drawn and not any(map(is_vector, files.values())):
        where, got = " ".join(f"--{name.rstrip('_')}" for name in drawn), " ".join(files.values())
        raise RecipeError("this is for polygons, and the reference is a raster", where=where, got=got)
    return {scene: LabelPolygons(polygons=url, **drawn) if is_vector(url) else url for scene, url in files.items()}


def files_of(given: list[str], scenes: list[str]) -> dict[str, str]:
    from batchseg.errors import RecipeError

    named = [text for text in given if "=" in text and "/" not in text.partition("=")[0]]
    if len(given) == len(scenes) == 1 and not named:
        return {scenes[0]: given[0]}
    found = dict(text.split("=", 1) for text in named)
    if len(found) < len(given):
        raise RecipeError(
            "which scene is this reference of?",
            where="--labels",
            expected=f"SCENE=FILE for scenes out of {', '.join(scenes)}, each once",
            got=" ".join(given),
        )
    return found


def lines(found: dict[str, Any]) -> list[str]:
    if found["iou"] is None:
        return ["no pixel has both a label and a prediction"]
    columns = ("iou", "recall", "precision", "f1")
    rows = [f"{'class':<16}" + "".join(f"{name:>11}" for name in columns)]
    rows += [f"{name:<16}" + _cells(found[column][name] for column in columns) for name in found["iou"]]
    rows.append(
        f"mIoU {_cell(found['miou'])}, frequency-weighted IoU {_cell(found['fwiou'])}, "
        f"accuracy {_cell(found['accuracy'])} over {_ground(found['scored_px'])}"
    )
    parts = {**found["by_tier"], **{f"{name} priority": block for name, block in found["by_priority"].items()}}
    rows += [
        f"  {name}: mIoU {_cell(block['miou'])} over {_ground(block['scored_px'])}"
        for name, block in parts.items()
        if block is not None
    ]
    if found["unknown_label_px"]:
        rows.append(f"{found['unknown_label_px']} labelled pixels hold a code that is no class")
    return rows


def _ground(scored_px: int) -> str:
    """Points may be a few hundred pixels."""
    return f"{scored_px} px" if scored_px < 10_000 else f"{scored_px / 1e6:.2f} Mpx"


def _cells(values: Iterable[float | None]) -> str:
    return "".join(f"{_cell(value):>11}" for value in values)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
