"""The recipe: everything that decides output bytes, and every default, in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from batchseg.errors import RecipeError
from batchseg.schema import setting

OutputName = Literal["labels", "confidence", "tier"]
Leave = Literal["gsd", "dtype"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Two slots. One model alone, in either slot, takes every tile."""

    bulk: str | None = setting(None, doc="bundle of the fast model: `zoo:NAME` or a folder")
    heavy: str | None = setting(None, doc="bundle of the accurate model: `zoo:NAME` or a folder")

    def __post_init__(self) -> None:
        if self.bulk is None and self.heavy is None:
            raise RecipeError("no model is given", where="models", todo="set `bulk`, `heavy` or both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Halo:
    bulk: int | None = setting(None, doc="context around each core for the bulk model, in pixels")
    heavy: int | None = setting(None, doc="context around each core for the heavy model, in pixels")

    def __post_init__(self) -> None:
        for tier, halo_px in (("bulk", self.bulk), ("heavy", self.heavy)):
            if halo_px is not None and halo_px < 0:
                raise RecipeError("a halo cannot be negative", where=f"tiling: halo: {tier}", got=str(halo_px))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    core: int = setting(512, doc="side of the square that one tile owns, in pixels")
    chunk: int = setting(4096, doc="side of the square that one task writes, in pixels; a whole number of cores")
    sheet: int = setting(
        32768,
        doc="longest side of one GeoTIFF, in pixels; longer scenes are cut into sheets under a VRT and a tile index",
    )
    halo: Halo = setting(Halo, doc="context a tile reads around its core; by default what the bundle says")

    def __post_init__(self) -> None:
        if self.core < 1:
            raise RecipeError("a core has at least one pixel", where="tiling: core", got=str(self.core))
        if self.chunk < self.core or self.chunk % self.core:
            raise RecipeError(
                "a chunk is a whole number of cores",
                where="tiling",
                expected="chunk = k x core",
                got=f"core {self.core}, chunk {self.chunk}",
                todo=f"take chunk: {max(1, round(self.chunk / self.core)) * self.core}",
            )
        if self.sheet < self.chunk:
            raise RecipeError(
                "a sheet holds at least one chunk",
                where="tiling: sheet",
                expected=f"{self.chunk} or more",
                got=str(self.sheet),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Priority:
    """Ground that the heavy model labels wherever it lies."""

    polygons: str = setting(doc="vector file or URL; tiles whose core touches a polygon go to the heavy model")
    where: str | None = setting(None, doc="attribute filter on the polygons, as in SQL: \"kind = 'town'\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertain:
    """Tiles that the bulk model is not sure of."""

    statistic: Literal["mean", "share"] = setting(
        "mean", doc="mean: of 1 - confidence over a tile's valid pixels; share: of pixels less confident than `sure`"
    )
    sure: float = setting(0.5, doc="with `statistic: share`: confidence from which a pixel counts as sure")
    above: float | None = setting(
        None, doc="tiles with a statistic of this or more go to the heavy model; default: 0.12, or what a budget allows"
    )

    def __post_init__(self) -> None:
        for key, value in (("sure", self.sure), ("above", self.above)):
            if value is not None and not 0 <= value <= 1:
                raise RecipeError("this is no share", where=f"uncertain: {key}", expected="0 to 1", got=str(value))


DEFAULT_ABOVE = 0.12
"""Mean doubt from which a tile is uncertain, where neither the recipe nor a budget says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByUncertainty:
    uncertain: Uncertain = setting(
        doc="tiles that the bulk model is not sure of go to the heavy model; `uncertain` alone means these defaults"
    )


MAX_FADE_PX = 64
"""Up to which the engine's margins are integers of two bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    priority: tuple[Priority | ByUncertainty | Literal["uncertain"], ...] = setting(
        (), doc="reasons to use the heavy model: polygons count before uncertainty, in whatever order they are listed"
    )
    audit: float = setting(
        0.0,
        doc="share of tiles, chosen by hash, that both models label so that they can be compared; changes no output",
    )
    fade: int = setting(
        16,
        doc="pixels from a heavy tile's edges over which the bulk model's labels give way, outside of polygons; "
        "0: a hard border",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.audit <= 1:
            raise RecipeError("this is no share", where="route: audit", expected="0 to 1", got=str(self.audit))
        if not 0 <= self.fade <= MAX_FADE_PX:
            raise RecipeError(
                "this is no width", where="route: fade", expected=f"0 to {MAX_FADE_PX} pixels", got=str(self.fade)
            )
        if len([reason for reason in self.priority if not isinstance(reason, Priority)]) > 1:
            raise RecipeError("a tile's uncertainty is judged once", where="route: priority", got="`uncertain` twice")

    @property
    def polygons(self) -> tuple[Priority, ...]:
        return tuple(reason for reason in self.priority if isinstance(reason, Priority))

    @property
    def uncertain(self) -> Uncertain | None:
        """What `uncertain` means in this recipe; None if it is no reason here."""
        for reason in self.priority:
            if isinstance(reason, ByUncertainty):
                return reason.uncertain
            if reason == "uncertain":
                return Uncertain()
        return None


SAMPLE_TILES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much of the heavy model a run may use; a pilot on a sample of tiles finds the threshold for it."""

    heavy_share: float | None = setting(
        None, doc="heavy tiles over valid tiles, those of priority polygons included; or one of the next two"
    )
    usd_per_km2: float | None = setting(
        None, doc="dollars a km² of valid ground, at the prices of the fleet; the pilot also times both tiers"
    )
    usd: float | None = setting(None, doc="dollars for the whole run, at the prices of the fleet")
    sample_tiles: int = setting(
        SAMPLE_TILES, doc="tiles of the pilot, chosen by hash; fewer where the scenes have fewer"
    )

    def __post_init__(self) -> None:
        given = {key: getattr(self, key) for key in ("heavy_share", "usd_per_km2", "usd")}
        named = [key for key, amount in given.items() if amount is not None]
        if len(named) != 1:
            raise RecipeError(
                "a budget is one amount",
                where="budget",
                expected=f"one of {', '.join(given)}",
                got=", ".join(named) or "none of them",
            )
        for key in ("usd_per_km2", "usd"):
            amount = given[key]
            if amount is not None and not 0 < amount < math.inf:
                raise RecipeError("this is no amount of money", where=f"budget: {key}", got=f"{amount:g}")
        if self.heavy_share is not None and not 0 <= self.heavy_share <= 1:
            raise RecipeError(
                "this is no share", where="budget: heavy_share", expected="0 to 1", got=str(self.heavy_share)
            )
        if self.sample_tiles < 1:
            raise RecipeError(
                "a sample has at least one tile", where="budget: sample_tiles", got=str(self.sample_tiles)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodataSpec:
    from_: Literal["auto", "value", "alpha", "mask", "none"] = setting(
        "auto",
        key="from",
        doc="where invalid pixels are known from; auto: alpha band, else mask, else nodata value, else none",
    )
    value: float | None = setting(None, doc="with `from: value`: the raw value that means no data")
    rule: Literal["all", "any"] = setting(
        "all", doc="invalid where all bands, or any band, hold the value; NaN always is"
    )

    def __post_init__(self) -> None:
        if self.value is not None and self.from_ != "value":
            raise RecipeError("a value needs `from: value`", where="nodata", got=f"from: {self.from_}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPolygons:
    """A reference that is drawn; a vector file's name alone means these defaults."""

    polygons: str = setting(
        doc="vector file or URL; a pixel has the class of the polygon that its centre is in, or of a point in the pixel"
    )
    class_: str = setting("class", key="class", doc="attribute with each polygon's class, by id or by name")
    all_: str | int | None = setting(None, key="all", doc="the class of all polygons, instead of an attribute")
    outside: str | int | None = setting(
        None, doc="class of the ground outside of all polygons; default: it is unlabelled"
    )
    where: str | None = setting(None, doc="attribute filter on the polygons, as in SQL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    scenes: tuple[str, ...] = setting(doc="rasters: files, URLs or globs; anything rasterio opens")
    output: str = setting(doc="folder for everything that the run writes; resuming is the same command again")
    models: Models = setting(doc="the bundles that fill the two slots")
    tiling: Tiling = setting(Tiling, doc="cores, chunks and halos")
    route: Route = setting(Route, doc="which tiles go to the heavy model; without reasons all go to bulk")
    budget: Budget | None = setting(
        None, doc="how many tiles `uncertain` may send to the heavy model; without it, those above its threshold"
    )
    labels: tuple[str | LabelPolygons | None, ...] = setting(
        (),
        doc="a reference a scene, in their order, for IoU: a raster on its grid, polygons or points; null for none",
    )
    aoi: str | None = setting(None, doc="vector file: only this ground is predicted, the rest is nodata")
    bands: tuple[int | str, ...] | None = setting(
        None,
        doc="bands of the scene in the model's order, by index or name; one may be repeated; default: by name",
    )
    scale: tuple[float, float] | None = setting(
        None, doc="raw range of the scene that the bundle's range stands for; default: the same range"
    )
    nodata: NodataSpec = setting(NodataSpec, doc="how invalid pixels are found")
    accept: tuple[Leave, ...] = setting((), doc="parts of the bundle's contract that this run knowingly ignores")
    outputs: tuple[OutputName, ...] = setting(
        ("labels", "confidence", "tier"), doc="layers to write; labels always are"
    )

    def __post_init__(self) -> None:
        if not self.scenes:
            raise RecipeError("there is no scene", where="scenes", todo="list at least one raster")
        if not self.output:
            raise RecipeError("there is no folder to write to", where="output", got="''")
        if "labels" not in self.outputs:
            raise RecipeError("labels are always written", where="outputs", todo="add `labels`")
        if len(set(self.outputs)) < len(self.outputs):
            raise RecipeError("a layer is written once", where="outputs", got=", ".join(self.outputs))
        if self.bands is not None and not self.bands:
            raise RecipeError("there is no band", where="bands", todo="list at least one, or drop the line")
        if self.scale is not None and not -math.inf < self.scale[0] < self.scale[1] < math.inf:
            raise RecipeError("this is no range", where="scale", expected="[low, high]", got=str(list(self.scale)))
        if self.budget is not None and self.route.uncertain is None:
            raise RecipeError(
                "a budget spends on tiles that the bulk model is not sure of",
                where="budget",
                todo="add `uncertain` to route: priority, or drop the budget",
            )
        if self.budget is not None and self.route.uncertain is not None and self.route.uncertain.above is not None:
            raise RecipeError(
                "a budget and a threshold say the same thing twice",
                where="budget",
                got=f"uncertain: above: {self.route.uncertain.above}",
                todo="drop one of them",
            )
        if (self.route.priority or self.route.audit) and (self.models.bulk is None or self.models.heavy is None):
            raise RecipeError(
                "a route needs two models" if self.route.priority else "an audit compares two models",
                where="route: priority" if self.route.priority else "route: audit",
                todo="set both `bulk` and `heavy`, or drop the route",
            )
