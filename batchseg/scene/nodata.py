"""Finds the valid pixels of a scene: the recipe's policy, applied to what the scene has.

Values that are not finite (NaN, infinities) are invalid under every policy: no model was trained on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchseg.errors import SceneError
from batchseg.recipe import NodataPolicy
from batchseg.scene.raster_file import RasterFile

ALPHA_SHADES_LIMIT = 0.5
"""Share of sampled shades above which a band that is flagged as alpha is a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidityRule:
    """A nodata policy, resolved for one scene and its chosen bands."""

    kind: Literal["value", "alpha", "mask", "band_masks", "none"]
    values: tuple[float | None, ...]
    """Nodata value of each chosen band, with `value`; else empty."""
    alpha: int | None
    """Number of the alpha band, with `alpha`."""
    rule: Literal["all", "any"]
    also: tuple[float, ...] = ()
    """More values that make a pixel invalid where all bands hold one of them."""


def check_policy(raster: RasterFile, policy: NodataPolicy, bands: Sequence[int]) -> None:
    """Raise SceneError for a policy that this scene cannot follow."""
    resolve_policy(raster, policy, bands)


def resolve_policy(raster: RasterFile, policy: NodataPolicy, bands: Sequence[int]) -> ValidityRule:
    """Resolve a policy for one scene.

    Args:
        raster: File of the scene.
        policy: Policy of the recipe.
        bands: Numbers of the bands that the model gets.

    Raises:
        SceneError: The scene lacks what the policy asks for.
    """
    kind = _choose_kind(raster, bands) if policy.from_ == "auto" else policy.from_
    values: tuple[float | None, ...] = ()
    if kind == "alpha":
        _check_alpha(raster, policy, bands)
    if kind == "mask" and not (raster.masks.per_dataset or raster.masks.per_band):
        raise _make_error(raster, "a mask", "no mask inside the file and no .msk beside it")
    if kind == "value":
        values = tuple(raster.bands[band - 1].nodata if policy.value is None else policy.value for band in bands)
        if all(value is None for value in values):
            raise _make_error(raster, "a nodata value", "the scene has none", todo="give `value:` in the recipe")
    return ValidityRule(
        kind="band_masks" if kind == "mask" and not raster.masks.per_dataset else kind,
        values=values,
        alpha=raster.masks.alpha if kind == "alpha" else None,
        rule=policy.rule,
        also=policy.also,
    )


def _choose_kind(raster: RasterFile, bands: Sequence[int]) -> Literal["value", "alpha", "mask", "none"]:
    masks = raster.masks
    # A band that the model reads is a picture, whatever the file calls it: near-infrared is often flagged as alpha.
    if masks.alpha is not None and masks.alpha not in bands:
        return "alpha"
    if masks.per_dataset or masks.per_band:
        return "mask"
    return "value" if any(raster.bands[band - 1].nodata is not None for band in bands) else "none"


def _check_alpha(raster: RasterFile, policy: NodataPolicy, bands: Sequence[int]) -> None:
    masks = raster.masks
    if masks.alpha is None:
        raise _make_error(raster, "an alpha band", raster.describe_bands())
    if masks.alpha in bands:
        raise SceneError(
            "the alpha band is one of the model's bands",
            where=raster.url,
            got=f"band {masks.alpha} as both",
            todo="choose other `bands`, or another `nodata: from`",
        )
    if policy.from_ == "auto" and masks.alpha_shades > ALPHA_SHADES_LIMIT:
        raise SceneError(
            f"band {masks.alpha} is flagged as alpha but holds a picture, such as near-infrared",
            where=raster.url,
            expected="zeros and the highest value",
            got=f"{masks.alpha_shades:.0%} values in between",
            todo="write `nodata: {from: none}` (or value, mask; or alpha if it is one) in the recipe",
        )


def _make_error(raster: RasterFile, what: str, got: str, todo: str | None = None) -> SceneError:
    return SceneError(
        "the nodata policy cannot be followed",
        where=raster.url,
        expected=what,
        got=got,
        todo=todo or "take another `nodata: from`; `auto` uses what the scene has",
    )


def find_valid(
    raw_BHW: NDArray[Any], validity: ValidityRule, masks_MHW: NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Find the valid pixels of a read.

    Args:
        raw_BHW: The chosen bands, in the order of `validity.values`.
        validity: The resolved policy.
        masks_MHW: The alpha band, the mask (M = 1) or the bands' own masks; zero is invalid.
    """
    if validity.kind == "value":
        valid_HW: NDArray[np.bool_] = ~_holds_nodata(raw_BHW, validity.values, validity.rule)
    elif masks_MHW is not None:
        seen_MHW = masks_MHW > 0
        # Rule `any`: one invalid band is enough.
        valid_HW = np.asarray(seen_MHW.any(axis=0) if validity.rule == "all" else seen_MHW.all(axis=0))
    else:
        valid_HW = np.ones(raw_BHW.shape[1:], bool)
    for value in validity.also:
        valid_HW &= ~_holds_nodata(raw_BHW, (value,) * len(raw_BHW), "all")
    if raw_BHW.dtype.kind == "f":
        for raw_HW in raw_BHW:
            valid_HW &= np.isfinite(raw_HW)
    return valid_HW


def _holds_nodata(
    raw_BHW: NDArray[Any], values: Sequence[float | None], rule: Literal["all", "any"]
) -> NDArray[np.bool_]:
    """Find pixels that hold nodata values. NaN is ignored here: a value that is not finite is invalid anyway."""
    numbers = [None if value is None else convert_to_dtype(value, raw_BHW.dtype) for value in values]
    checks = [(raw_HW, number) for raw_HW, number in zip(raw_BHW, numbers, strict=True) if number is not None]
    if not checks or (rule == "all" and len(checks) < len(raw_BHW)):
        return np.zeros(raw_BHW.shape[1:], bool)
    held_HW = np.asarray(checks[0][0] == checks[0][1])
    for raw_HW, number in checks[1:]:
        if rule == "all" and not held_HW.any():
            break  # no pixel holds nodata in all bands; most often the first band shows it
        merge = np.logical_and if rule == "all" else np.logical_or
        merge(held_HW, raw_HW == number, out=held_HW)
    return held_HW


def convert_to_dtype(value: float, dtype: np.dtype[Any]) -> Any | None:
    """Convert a value to what a pixel would hold; None where no pixel of this type can (-9999 in unsigned bytes)."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            number = dtype.type(value)
        return number if np.isfinite(number) else None
    info = np.iinfo(dtype)
    if not np.isfinite(value) or value != int(value) or not info.min <= value <= info.max:
        return None
    return dtype.type(int(value))
