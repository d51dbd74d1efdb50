"""Which bands of a scene a model gets, and in which order. Known from names, or told by the recipe; never guessed."""

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
    """red, green, blue, nir, ...; None when only the name says what it is."""


def choose_bands(
    raster: RasterFile, wanted: Sequence[BandWanted], override: Sequence[int | str] | None
) -> tuple[int, ...]:
    """Indexes from 1, in the model's order."""
    if override is None:
        return tuple(_by_name(raster, wanted, band) for band in wanted)
    if len(override) != len(wanted):
        raise RecipeError(
            "the recipe gives another number of bands than the model takes",
            where="bands",
            expected=f"{len(wanted)} ({_names(wanted)})",
            got=str(list(override)),
        )
    return tuple(_by_order(raster, name) for name in override)


def _by_name(raster: RasterFile, wanted: Sequence[BandWanted], wanted_band: BandWanted) -> int:
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
        expected=_names(wanted),
        got=raster.describe_bands(),
        todo=f"name them by index in the recipe, in the order {_names(wanted)}: `bands: {_example(raster, wanted)}`",
    )


def _by_order(raster: RasterFile, name: int | str) -> int:
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
    )


def _is_called(band: Band, name: str) -> bool:
    return band.name is not None and band.name.casefold().strip() == name.casefold().strip()


def _names(wanted: Sequence[BandWanted]) -> str:
    return ", ".join(band.name for band in wanted)


def _example(raster: RasterFile, wanted: Sequence[BandWanted]) -> list[int]:
    """A line that can be pasted and has the right length; a scene with too few bands has its last one repeated."""
    return [min(number, len(raster.bands)) for number in range(1, len(wanted) + 1)]
