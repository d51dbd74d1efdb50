"""Reasons why a night computes a scene again: the parts of its key that differ from those of its finished output.

The key is a hash, so the index keeps a short hash of each part beside it: one of each setting and of the scene itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from batchseg.schema import Json, JsonObject

_OF_THE_SCENE = {"scene.identity", "scene.georef", "scene.dtype", "scene.nodata"}
_NAMES = {"scene.priority": "priority polygons", "scene.aoi": "aoi", "scene.bands": "bands"}
_ENGINE = "engine_revision"


def digest_parts(content: JsonObject) -> dict[str, str]:
    """Digest the parts of the content of a key, which is that of a run over one scene."""
    return {
        name: hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
        for name, value in _split(content)
    }


def describe_change(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say what differs between the parts of two keys.

    Args:
        before: The parts of the finished output; empty if the index was written before it had parts.
        after: The parts of tonight's key.
    """
    if not before:
        return "the scene or the recipe changed"
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    of_recipe = [_NAMES.get(name, name) for name in changed if name not in _OF_THE_SCENE and name != _ENGINE]
    reasons = ["the scene changed"] if _OF_THE_SCENE & set(changed) else []
    reasons += [f"the recipe changed: {', '.join(of_recipe)}"] if of_recipe else []
    reasons += ["this version of batchseg computes in another way"] if _ENGINE in changed else []
    return "; ".join(reasons) or "nothing changed"


def _split(content: JsonObject) -> Iterator[tuple[str, Json]]:
    for key, value in content.items():
        if key == "scenes" and isinstance(value, dict):
            for scene in value.values():
                yield from ((f"scene.{name}", part) for name, part in _items(scene))
        elif isinstance(value, dict):
            yield from ((f"{key}.{name}", part) for name, part in value.items())
        else:
            yield key, value


def _items(value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, Mapping):
        yield from value.items()
