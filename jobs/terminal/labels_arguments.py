"""The arguments that name reference labels, and the values that they stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchseg.recipe import LabelPolygons


def add_labels_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--labels",
        metavar="[SCENE=]FILE",
        nargs="+",
        required=required,
        default=[],
        help="reference labels: a raster on the scene's grid, polygons or points. Where the run has several scenes, "
        "give SCENE=FILE for each scene that has labels",
    )
    add_drawing_arguments(parser)


def add_drawing_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class",
        dest="class_",
        metavar="FIELD",
        help="polygons and points: the field that holds their class (default: class)",
    )
    parser.add_argument("--all", dest="all_", metavar="CLASS", help="polygons and points: the class of all of them")
    parser.add_argument("--outside", metavar="CLASS", help="polygons: the class of the ground outside of them")
    parser.add_argument(
        "--within",
        metavar="FILE",
        help="polygons and points: the ground that they cover completely, as a file of polygons, or `hull` for their "
        "own convex hull; all other ground is unlabelled",
    )
    parser.add_argument("--where", metavar="SQL", help="polygons and points: a filter on their attributes")


def parse_labels(args: argparse.Namespace) -> str | LabelPolygons | dict[str, str | LabelPolygons]:
    """The reference of the only scene, or the references by scene."""
    from batchseg.errors import RecipeError

    named = [text for text in args.labels if "=" in text and "/" not in text.partition("=")[0]]
    if len(args.labels) == 1 and not named:
        return describe_drawing(args, {"": args.labels[0]})[""]
    files = dict(text.split("=", 1) for text in named)
    if len(files) < len(args.labels):
        raise RecipeError(
            "each of several references must name its scene, and each scene only once",
            where="--labels",
            expected="SCENE=FILE for each scene that has labels",
            got=" ".join(args.labels),
        )
    return describe_drawing(args, files)


def describe_drawing(args: argparse.Namespace, files: dict[str, str]) -> dict[str, str | LabelPolygons]:
    """The same files; those that are vector files with what the arguments say about them."""
    from batchseg.errors import RecipeError
    from batchseg.recipe import LabelPolygons
    from batchseg.scene.polygon_labels import is_vector

    options = {
        "class_": args.class_,
        "all_": args.all_,
        "outside": args.outside,
        "within": args.within,
        "where": args.where,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if given and not any(map(is_vector, files.values())):
        where, got = " ".join(f"--{name.rstrip('_')}" for name in given), " ".join(files.values())
        raise RecipeError("this is for polygons, and the reference is a raster", where=where, got=got)
    return {scene: LabelPolygons(polygons=url, **given) if is_vector(url) else url for scene, url in files.items()}
