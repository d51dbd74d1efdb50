"""The fingerprint of a run: a hash of everything that output bytes depend on, as plain data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from batchseg.engine.route import Doubt
from batchseg.model.bundle import Bundle
from batchseg.recipe.recipe import NodataPolicy, Recipe
from batchseg.resolve.scene_inputs import SceneInputs
from batchseg.schema import Json, JsonObject, plain
from batchseg.tiers import Tier

ENGINE_REVISION = 5
"""Number of the way in which outputs are computed. It is raised, together with the golden files, whenever the same
recipe may give other bytes."""


def compute_fingerprint(content: JsonObject) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def make_content(
    recipe: Recipe,
    bundles: dict[Tier, Bundle],
    halos_px: dict[Tier, int],
    scenes: Sequence[SceneInputs],
    doubt: Doubt | None,
) -> JsonObject:
    """Make the content of a fingerprint. Its keys and values never change for a recipe that gives the same bytes."""
    content: dict[str, Json] = {
        "engine_revision": ENGINE_REVISION,
        "models": {tier: {"digest": bundle.digest, "halo": halos_px[tier]} for tier, bundle in bundles.items()},
        "tiling": {"core": recipe.tiling.core, "chunk": recipe.tiling.chunk, "sheet": recipe.tiling.sheet},
        "scale": plain(recipe.scale),
        "nodata": _make_nodata_content(recipe.nodata),
        "outputs": sorted(recipe.outputs),
        "scenes": {scene.header.name: _make_scene_content(scene) for scene in scenes},
    }
    if recipe.route.priority:
        content["route"] = _make_route_content(recipe, doubt)
    # Content is read back from JSON, so that it compares equal with what an earlier run wrote down.
    read_back: Any = json.loads(json.dumps(content))
    return dict(read_back)


def _make_route_content(recipe: Recipe, doubt: Doubt | None) -> JsonObject:
    route: dict[str, Json] = {"fade": recipe.route.fade}
    if doubt is not None:
        route["uncertain"] = plain(doubt)
        if recipe.budget is not None:
            route["budget"] = {key: value for key, value in plain(recipe.budget).items() if value is not None}
    return route


def _make_nodata_content(policy: NodataPolicy) -> JsonObject:
    """A recipe without `also` keeps the fingerprint that it had before that key existed."""
    return {key: value for key, value in plain(policy).items() if key != "also" or policy.also}


def _make_scene_content(scene: SceneInputs) -> JsonObject:
    raster = scene.header.raster
    return {
        "identity": raster.identity.plain(),
        "georef": plain(scene.header.grid),
        "dtype": raster.dtype,
        "nodata": repr(raster.nodata),
        "bands": list(scene.bands),
        "priority": [polygons.digest() for polygons in scene.priority],
        "aoi": None if scene.aoi is None else scene.aoi.digest(),
    }
