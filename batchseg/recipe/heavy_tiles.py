"""The part of a recipe that says which tiles the heavy model labels: reasons, thresholds and a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from batchseg.errors import RecipeError
from batchseg.schema import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority:
    """Ground that the heavy model labels in any case."""

    polygons: str = setting(doc="vector file or URL; tiles whose core touches a polygon go to the heavy model")
    where: str | None = setting(None, doc="attribute filter on the polygons, as in SQL: \"kind = 'town'\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertain:
    """Rule for tiles that the bulk model is uncertain about."""

    statistic: Literal["mean", "share"] = setting(
        "mean",
        doc="uncertainty of a tile: `mean` of 1 - confidence over valid pixels, or `share` of pixels below `sure`",
    )
    sure: float | None = setting(
        None,
        doc="with `statistic: share`: least confidence of a pixel that counts as certain; default: 0.5, with two "
        "classes 0.75, since confidence cannot be below 1 / number of classes",
    )
    above: float | None = setting(
        None,
        doc="uncertainty from which the heavy model labels a tile; default: 0.12, or what a budget allows",
    )

    def __post_init__(self) -> None:
        for key, value in (("sure", self.sure), ("above", self.above)):
            if value is not None and not 0 <= value <= 1:
                raise RecipeError("a share must be from 0 to 1", where=f"uncertain: {key}", got=str(value))


DEFAULT_SURE, DEFAULT_SURE_OF_TWO = 0.5, 0.75
"""The least confidence of a certain pixel where the recipe gives none. With two classes no pixel has less than 0.5."""
DEFAULT_ABOVE = 0.12
"""The threshold of uncertainty where neither the recipe nor a budget gives one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByUncertainty:
    """Uncertainty as a reason to use the heavy model."""

    uncertain: Uncertain = setting(
        doc="tiles that the bulk model is uncertain about go to the heavy model; `uncertain` alone means these defaults"
    )


MAX_FADE_PX = 64
"""The widest fade for which the engine's margins fit integers of two bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Rule that gives each tile to a model."""

    priority: tuple[Priority | ByUncertainty | Literal["uncertain"], ...] = setting(
        (), doc="reasons to use the heavy model; polygons go before uncertainty, whatever their order in the list"
    )
    audit: float = setting(
        0.0,
        doc="share of tiles, chosen by hash, that both models label for comparison; changes no output",
    )
    fade: int = setting(
        16,
        doc="width in pixels over which the labels of a heavy tile fade into the bulk model's, outside of polygons; "
        "0: a hard border",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.audit <= 1:
            raise RecipeError("a share must be from 0 to 1", where="route: audit", got=str(self.audit))
        if not 0 <= self.fade <= MAX_FADE_PX:
            raise RecipeError(
                "a fade must be a width in pixels",
                where="route: fade",
                expected=f"0 to {MAX_FADE_PX}",
                got=str(self.fade),
            )
        if len([reason for reason in self.priority if not isinstance(reason, Priority)]) > 1:
            raise RecipeError("`uncertain` must be given once", where="route: priority", got="`uncertain` twice")

    @property
    def polygons(self) -> tuple[Priority, ...]:
        return tuple(reason for reason in self.priority if isinstance(reason, Priority))

    @property
    def uncertain(self) -> Uncertain | None:
        """The settings of `uncertain` in this recipe; None where it is no reason to use the heavy model."""
        for reason in self.priority:
            if isinstance(reason, ByUncertainty):
                return reason.uncertain
            if reason == "uncertain":
                return Uncertain()
        return None


SAMPLE_TILES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on the use of the heavy model. A pilot on a sample of tiles finds the threshold that meets it."""

    heavy_share: float | None = setting(
        None, doc="largest share of heavy tiles among valid tiles, priority polygons included; or one of the next two"
    )
    usd_per_km2: float | None = setting(
        None, doc="dollars per km² of valid ground, at the prices of the fleet; the pilot also times both tiers"
    )
    usd: float | None = setting(
        None, doc="dollars for the whole run, at the prices of the fleet; the pilot times both tiers"
    )
    sample_tiles: int = setting(
        SAMPLE_TILES, doc="number of tiles of the pilot, chosen by hash; at most all tiles of the scenes"
    )

    def __post_init__(self) -> None:
        amounts = {key: getattr(self, key) for key in ("heavy_share", "usd_per_km2", "usd")}
        named = [key for key, amount in amounts.items() if amount is not None]
        if len(named) != 1:
            raise RecipeError(
                "a budget must be one amount",
                where="budget",
                expected=f"one of {', '.join(amounts)}",
                got=", ".join(named) or "none of them",
            )
        for key in ("usd_per_km2", "usd"):
            amount = amounts[key]
            if amount is not None and not 0 < amount < math.inf:
                raise RecipeError("an amount of money must be positive", where=f"budget: {key}", got=f"{amount:g}")
        if self.heavy_share is not None and not 0 <= self.heavy_share <= 1:
            raise RecipeError(
                "a share must be from 0 to 1",
                where="budget: heavy_share",
                got=str(self.heavy_share),
            )
        if self.sample_tiles < 1:
            raise RecipeError(
                "a sample must have at least one tile", where="budget: sample_tiles", got=str(self.sample_tiles)
            )
