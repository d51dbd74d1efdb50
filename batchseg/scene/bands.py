"""Chooses the bands of a scene that a model gets, by their names or as the recipe lists them. Nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchseg.errors import RecipeError, SceneError
from batchseg.scene.raster_file import Band, RasterFile


@dataclass(frozen=True, slots=True, kw_only=True)
class BandWanted:
    """One input of a model."""

    name: str
    common: str | None
    """Common name (red, green, blue, nir, ...); None when only the name identifies the band."""


def choose_bands(
    raster: RasterFile, wanted: Sequence[BandWanted], override: Sequence[int | str] | None
) -> tuple[int, ...]:
    """Choose the bands of a raster, as numbers from 1 in the model's order.

    Args:
        raster: The raster.
        wanted: Inputs of the model.
        override: Numbers or names of bands, from the recipe; None: the bands are found by name.

    Raises:
        SceneError: A band cannot be found by its name, or several bands have it.
        RecipeError: The override has another number of bands than the model, or names no band of the raster.
    """
    if override is None:
        return tuple(_find_by_name(raster, wanted, band) for band in wanted)
    if len(override) != len(wanted):
        raise RecipeError(
            "`bands` must have one entry per band of the model",
            where="bands",
            expected=f"{len(wanted)} ({_join_names(wanted)})",
            got=str(list(override)),
            todo=f"write `bands: {_make_example(raster, wanted)}`",
        )
    return tuple(_find_listed(raster, name) for name in override)


def _find_by_name(raster: RasterFile, wanted: Sequence[BandWanted], wanted_band: BandWanted) -> int:
    candidates = [band for band in raster.bands if _is_called(band, wanted_band.name)]
    candidates = candidates or [
        band for band in raster.bands if band.common == (wanted_band.common or wanted_band.name.casefold())
    ]
    if len(candidates) == 1:
        return candidates[0].index
    problem = "several bands could be" if candidates else "the scene names no band as"
    raise SceneError(
        f"{problem} the model's {wanted_band.name}",
        where=raster.url,
        expected=_join_names(wanted),
        got=raster.describe_bands(),
        todo=f"name them by index in the recipe, in the order {_join_names(wanted)}: "
        f"`bands: {_make_example(raster, wanted)}`",
    )


def _find_listed(raster: RasterFile, name: int | str) -> int:
    if isinstance(name, int):
        candidates = [band for band in raster.bands if band.index == name]
    else:
        candidates = [band for band in raster.bands if _is_called(band, name)]
        candidates = candidates or [band for band in raster.bands if band.common == name.casefold()]
    if len(candidates) == 1:
        return candidates[0].index
    raise RecipeError(
        f"{'several bands are' if candidates else 'no band is'} {name!r}",
        where="bands",
        expected=f"bands of {raster.url}: {raster.describe_bands()}",
        got=repr(name),
        todo="give the band by its number",
    )


def _is_called(band: Band, name: str) -> bool:
    return band.name is not None and band.name.casefold().strip() == name.casefold().strip()


def _join_names(wanted: Sequence[BandWanted]) -> str:
    return ", ".join(band.name for band in wanted)


def _make_example(raster: RasterFile, wanted: Sequence[BandWanted]) -> list[int]:
    """Make a list of the right length that works as it stands; it repeats the last band of a scene with too few."""
    return [min(number, len(raster.bands)) for number in range(1, len(wanted) + 1)]
