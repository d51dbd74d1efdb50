"""What a bundle tells of how it was made. It is given away, so it says no signature and nobody's folders."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from batchseg.redact import make_public_url
from batchseg.schema import plain
from batchseg.training.train_recipe import GroundSpec, TrainRecipe

_GROUNDS, _BUNDLES = ("train", "validate", "watch"), ("start", "teacher")


def public_recipe(recipe: TrainRecipe) -> Any:
    told = plain(recipe)
    told["range"] = list(recipe.input_range)
    for name in _GROUNDS:
        told[name] = public_ground(getattr(recipe, name))
    for name in _BUNDLES:
        told[name] = told[name] and public_name(told[name])
    return told


def public_ground(spec: GroundSpec | None) -> Any:
    told = plain(spec)
    for raster in told["rasters"] if told else ():
        for name, address in raster.items():
            raster[name] = address and public_name(address)
    return told


def public_name(address: str) -> str:
    """An address of a server without credentials and query; a path without its folders; `zoo:NAME` as it is.

    What exactly was learnt from, digests say.
    """
    public = make_public_url(address)
    is_of_a_server = "://" in public and "file://" not in public
    return public if is_of_a_server else PurePosixPath(public).name or public
