"""Finds scenes with holes that are not declared as nodata, and the line of the recipe that declares them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

from batchseg.errors import BatchsegError
from batchseg.recipe import NodataPolicy
from batchseg.remote import is_remote
from batchseg.resolve.job import Job, SceneJob
from batchseg.scene.extreme_patches import ExtremePatches, find_extreme_patches
from batchseg.scene.limited_source import READ_S, read_within
from batchseg.scene.nodata import resolve_policy
from batchseg.scene.pixel_sample import read_pixel_sample
from batchseg.scene.source import RasterSource

MAX_LOCAL_SCENES, MAX_REMOTE_SCENES = 64, 8
"""Number of scenes that are looked at, spread over all of them: a look takes up to a second, on a server several."""
MAX_LOOK_S = 30.0
"""Time after which no further scene is looked at."""
SIDE_PX = 32
"""Side of the smallest patch that counts. Small scenes may have smaller ones."""
MIN_SIDE_PX, MIN_SIDE_OVERVIEW_PX = 8, 4


def find_nodata_warnings(job: Job) -> dict[str, str]:
    """Find the warning of each scene that seems to have undeclared nodata, by scene.

    Each warning ends with the same line, since a recipe has one policy for all of its scenes. A scene that cannot be
    read gets no warning: the chunk that needs the pixels reports it.
    """
    patches, begun_s = {}, time.monotonic()
    for scene in _choose_scenes(list(job.scenes.values())):
        of_scene = _find_patches(scene)
        if of_scene:
            patches[scene.name] = of_scene
        if time.monotonic() - begun_s > MAX_LOOK_S:
            break
    if not patches:
        return {}
    policy = propose_policy(job, [one.values for of_scene in patches.values() for one in of_scene])
    remedy = (
        "give the scene one nodata value, as with `gdal_edit.py -a_nodata`"
        if policy is None
        else f"add this line to the recipe: {format_policy(policy)}"
    )
    return {
        name: f"{name}: {_describe(of_scene)}, and nothing declares them as nodata. The model labels them like any "
        f"ground. If they are holes, {remedy}"
        for name, of_scene in patches.items()
    }


def _choose_scenes(scenes: Sequence[SceneJob]) -> list[SceneJob]:
    remote = [scene for scene in scenes if is_remote(scene.raster.url)]
    local = [scene for scene in scenes if not is_remote(scene.raster.url)]
    return [
        of_kind[number * len(of_kind) // min(most, len(of_kind))]
        for of_kind, most in ((local, MAX_LOCAL_SCENES), (remote, MAX_REMOTE_SCENES))
        for number in range(min(most, len(of_kind)))
    ]


def _find_patches(scene: SceneJob) -> list[ExtremePatches]:
    bands = tuple(dict.fromkeys(scene.bands))
    try:
        source = RasterSource(scene.raster, bands, scene.nodata_policy)
        sample = read_within(lambda: read_pixel_sample(source, scene.aoi), READ_S, scene.raster.url)
    except BatchsegError:
        return []
    side_px = min(SIDE_PX, max(MIN_SIDE_PX, min(scene.shape_px) // 16))
    if sample.scale > 1:
        side_px = max(MIN_SIDE_OVERVIEW_PX, -(-side_px // sample.scale))
    return find_extreme_patches(sample.parts, [scene.raster.bands[band - 1].dtype for band in bands], side_px)


def _describe(patches: Sequence[ExtremePatches]) -> str:
    """A clause like `large even patches hold 255 in all bands (1.1% of a sample of the scene)`."""
    share = sum(patch.share for patch in patches)
    values = " or ".join(_describe_values(patch.values) for patch in patches)
    return f"large even patches hold {values} ({share:.1%} of a sample of the scene)"


def _describe_values(values: tuple[float, ...]) -> str:
    if len(set(values)) == 1:
        return _format_number(values[0]) + (" in all bands" if len(values) > 1 else "")
    return f"{', '.join(map(_format_number, values))} in the bands"


def propose_policy(job: Job, holes: Collection[tuple[float, ...]]) -> NodataPolicy | None:
    """Propose a policy under which these holes are invalid, and all that is invalid now; None where there is none.

    Args:
        job: The run, whose scenes have one policy.
        holes: Values that are to be nodata, each as one number per band.
    """
    scenes, distinct = list(job.scenes.values()), list(dict.fromkeys(holes))
    policy = scenes[0].nodata_policy
    kinds = {resolve_policy(scene.raster, scene.nodata_policy, scene.bands).kind for scene in scenes}
    if kinds == {"none"} and not policy.also and len(distinct) == 1:
        values = set(distinct[0])
        return NodataPolicy(from_="value", value=max(values), rule="all" if len(values) == 1 else "any")
    if any(len(set(values)) > 1 for values in distinct):
        return None
    return replace(policy, also=(*policy.also, *sorted({values[0] for values in distinct} - set(policy.also))))


def format_policy(policy: NodataPolicy) -> str:
    """Format a policy as the line of a recipe."""
    words = [f"from: {policy.from_}"]
    if policy.value is not None:
        words.append(f"value: {_format_number(policy.value)}")
    if policy.rule != "all":
        words.append(f"rule: {policy.rule}")
    if policy.also:
        words.append(f"also: [{', '.join(map(_format_number, policy.also))}]")
    return f"nodata: {{{', '.join(words)}}}"


def _format_number(value: float) -> str:
    """Format a number so that YAML reads the same number: its exponents need a point before them."""
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    mantissa, mark, exponent = repr(value).partition("e")
    return f"{mantissa}{'' if '.' in mantissa or not mark else '.0'}{mark}{exponent}"
