"""From a recipe to a job: every path opened, every default settled, every contract checked. Nothing is written.

The *resolved* recipe is plain data that says all that output bytes depend on; its hash is the run's fingerprint.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchseg.classes import ClassInfo
from batchseg.engine.route import CERTAIN, NEVER, SCORE_TOP, Doubt
from batchseg.errors import BundleError, RecipeError, SceneError
from batchseg.layers import make_layers
from batchseg.layers.labels import make_labels
from batchseg.model.bundle import Bundle, open_bundle
from batchseg.model.fit import check_fit, common_bands, find_input_rule, halo_of
from batchseg.output.levels import choose_sheet_side_px
from batchseg.output.stored import ZarrLayout
from batchseg.paths import RESERVED_NAMES
from batchseg.recipe.recipe import DEFAULT_ABOVE, Budget, Recipe
from batchseg.remote import is_remote, list_matching
from batchseg.resolve.job import Job, ModelJob, SceneJob
from batchseg.scene.header import SceneHeader, read_header
from batchseg.scene.nodata import check_policy
from batchseg.scene.polygons import Polygons, joined, read_polygons, touched_tiles
from batchseg.schema import plain
from batchseg.score.reference import Reference, open_reference
from batchseg.tiers import Tier
from tiling.grid import Grid

ENGINE_REVISION = 5
"""Raised, together with the golden files, whenever the same recipe may give other bytes."""

"""What a run writes beside the folders of its scenes."""


@dataclass(frozen=True, slots=True)
class Resolved:
    job: Job
    bundles: dict[Tier, Bundle]
    content: dict[str, Any]
    """What output bytes depend on; `fingerprint` is its hash."""
    budget: Budget | None = None
    """What the threshold of the route has still to be found for."""

    @property
    def fingerprint(self) -> str:
        return self.job.fingerprint


def resolve(recipe: Recipe) -> Resolved:
    bundles = _open_bundles(recipe)
    headers = [read_header(url) for url in expand_scenes(recipe.scenes)]
    _check_names(headers)
    labels = _labels_of(recipe, headers, next(iter(bundles.values())).contract.classes)
    halos_px = {tier: halo_of(recipe, tier, bundle) for tier, bundle in bundles.items()}
    scenes: dict[str, SceneJob] = {}
    contents: dict[str, Any] = {}
    for header, reference in zip(headers, labels, strict=True):
        scene, content = _resolve_scene(recipe, header, reference, bundles)
        scenes[header.name], contents[header.name] = scene, content
    content = {
        "engine_revision": ENGINE_REVISION,
        "models": {tier: {"digest": bundle.digest, "halo": halos_px[tier]} for tier, bundle in bundles.items()},
        "tiling": {"core": recipe.tiling.core, "chunk": recipe.tiling.chunk, "sheet": recipe.tiling.sheet},
        "scale": plain(recipe.scale),
        "nodata": plain(recipe.nodata),
        "outputs": sorted(recipe.outputs),
        "scenes": contents,
    }
    doubt = _doubt(recipe)
    if recipe.route.priority:
        content["route"] = {"fade": recipe.route.fade}
    if doubt is not None:
        content["route"]["uncertain"] = plain(doubt)
        if recipe.budget is not None:
            given = {key: value for key, value in plain(recipe.budget).items() if value is not None}
            content["route"]["budget"] = given
    # Through JSON and back, so that what is compared with an earlier run is what that run wrote down.
    content = json.loads(json.dumps(content))
    first = next(iter(bundles.values()))
    job = Job(
        fingerprint=fingerprint_of(content),
        core_px=recipe.tiling.core,
        chunk_px=recipe.tiling.chunk,
        models={
            tier: ModelJob(
                ref=str(bundle.folder.resolve()),
                digest=bundle.digest,
                halo_px=halos_px[tier],
                devices=tuple(sorted(bundle.contract.numerics)),
            )
            for tier, bundle in bundles.items()
        },
        classes=first.contract.classes,
        nodata=make_labels(first.contract.classes).nodata,
        scenes=scenes,
        doubt=doubt,
        audit_share=recipe.route.audit,
        fade_px=recipe.route.fade,
    )
    return Resolved(job, bundles, content, recipe.budget)


def _doubt(recipe: Recipe) -> Doubt | None:
    """The uncertainty of a recipe in the integers that tiles are judged by."""
    uncertain = recipe.route.uncertain
    if uncertain is None:
        return None
    above = DEFAULT_ABOVE if uncertain.above is None else uncertain.above
    unknown = recipe.budget is not None  # until a pilot has run
    return Doubt(
        statistic=uncertain.statistic,
        sure_confidence=math.ceil(uncertain.sure * CERTAIN),
        threshold=NEVER if unknown else math.ceil(above * SCORE_TOP),
    )


def fingerprint_of(content: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def expand_scenes(patterns: Sequence[str]) -> list[str]:
    """Globs to files, in sorted order; anything else is left to GDAL."""
    urls: list[str] = []
    for pattern in patterns:
        if not any(sign in pattern for sign in "*?[") or Path(pattern).exists() or _is_fixed(pattern):
            urls.append(pattern)
            continue
        found = list_matching(pattern) if is_remote(pattern) else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - the user's own pattern, absolute or not
        if not found:
            raise SceneError("no file matches", where=pattern, todo="check the pattern and the current folder")
        urls += found
    return urls


def _is_fixed(pattern: str) -> bool:
    """A question mark begins the query of an HTTP address, and its server cannot list."""
    return "://" in pattern and (pattern.startswith("http") or not is_remote(pattern))


def _check_names(headers: Sequence[SceneHeader]) -> None:
    seen: dict[str, str] = {}
    for header in headers:
        if header.name in RESERVED_NAMES:
            raise SceneError(
                f"a run keeps its own things under the name {header.name}, so no scene can have it",
                where="scenes",
                got=header.raster.url,
                todo="rename the file",
            )
        if header.name in seen:
            raise SceneError(
                f"two scenes are called {header.name}, and would share an output folder",
                where="scenes",
                got=f"{seen[header.name]} and {header.raster.url}",
                todo="rename one, or run them into different outputs",
            )
        seen[header.name] = header.raster.url


def _open_bundles(recipe: Recipe) -> dict[Tier, Bundle]:
    refs: dict[Tier, str | None] = {"bulk": recipe.models.bulk, "heavy": recipe.models.heavy}
    bundles = {tier: open_bundle(ref) for tier, ref in refs.items() if ref is not None}
    if len(bundles) == 2:
        bulk, heavy = (bundles[tier].contract for tier in ("bulk", "heavy"))
        ours, theirs = ([(c.id, c.name) for c in contract.classes] for contract in (bulk, heavy))
        if ours != theirs:
            raise BundleError(
                "the two tiers have different classes",
                where="models",
                expected=f"{bulk.name}: {_class_list(ours)}",
                got=f"{heavy.name}: {_class_list(theirs)}",
                todo="take two bundles with one class list, in the same order",
            )
    return bundles


def _class_list(classes: list[tuple[int, str]]) -> str:
    return ", ".join(f"{number} {name}" for number, name in classes)


def _labels_of(recipe: Recipe, headers: Sequence[SceneHeader], classes: Sequence[ClassInfo]) -> list[Reference | None]:
    if not recipe.labels:
        return [None] * len(headers)
    if len(recipe.labels) != len(headers):
        raise RecipeError(
            "each scene needs its own reference",
            where="labels",
            expected=f"{len(headers)} entries, in the order {', '.join(h.name for h in headers)}",
            got=str(len(recipe.labels)),
            todo="write null for a scene without one",
        )
    pairs = zip(recipe.labels, headers, strict=True)
    return [None if given is None else open_reference(given, h.grid, h.raster.url, classes) for given, h in pairs]


def _resolve_scene(
    recipe: Recipe, header: SceneHeader, labels: Reference | None, bundles: dict[Tier, Bundle]
) -> tuple[SceneJob, dict[str, Any]]:
    bands = common_bands(recipe, header, bundles)
    check_policy(header.raster, recipe.nodata, bands)
    for bundle in bundles.values():
        check_fit(recipe, header, bundle)
    ground = [read_polygons(p.polygons, where=p.where, georef=header.grid) for p in recipe.route.polygons]
    aoi = None if recipe.aoi is None else read_polygons(recipe.aoi, georef=header.grid)
    lattice = Grid(header.grid.shape_px, recipe.tiling.core)
    scene = SceneJob(
        name=header.name,
        grid=header.grid,
        raster=header.raster,
        bands=bands,
        nodata_policy=recipe.nodata,
        rules={tier: find_input_rule(recipe, header, bundle) for tier, bundle in bundles.items()},
        zarr=_zarr_layout(recipe, header, next(iter(bundles.values()))),
        priority=joined(ground) if ground else None,
        priority_tiles=touched_tiles(ground, lattice),
        aoi=aoi,
        labels=labels,
    )
    return scene, _scene_content(header, bands, ground, aoi)


def _scene_content(
    header: SceneHeader, bands: tuple[int, ...], priority: Sequence[Polygons], aoi: Polygons | None
) -> dict[str, Any]:
    return {
        "identity": header.raster.identity.plain(),
        "georef": plain(header.grid),
        "dtype": header.raster.dtype,
        "nodata": repr(header.raster.nodata),
        "bands": list(bands),
        "priority": [polygons.digest() for polygons in priority],
        "aoi": None if aoi is None else aoi.digest(),
    }


def _zarr_layout(recipe: Recipe, header: SceneHeader, bundle: Bundle) -> ZarrLayout:
    return ZarrLayout(
        scene=header.name,
        georef=header.grid,
        chunk_px=recipe.tiling.chunk,
        sheet_px=choose_sheet_side_px(header.grid.shape_px, recipe.tiling.chunk, limit_px=recipe.tiling.sheet),
        layers=make_layers(recipe.outputs, bundle.contract.classes),
    )
