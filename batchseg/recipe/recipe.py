"""The recipe: every setting that decides output bytes, with its default."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal

from batchseg.errors import RecipeError
from batchseg.layers import LAYERS, list_default_layers
from batchseg.recipe.heavy_tiles import Budget, Route
from batchseg.recipe.trust import Trust
from batchseg.schema import setting

Leave = Literal["gsd", "dtype"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Two slots. If only one of them is filled, its model labels every tile."""

    bulk: str | None = setting(None, doc="bundle of the fast model: `zoo:NAME` or a folder")
    heavy: str | None = setting(None, doc="bundle of the accurate model: `zoo:NAME` or a folder")

    def __post_init__(self) -> None:
        if self.bulk is None and self.heavy is None:
            raise RecipeError("a recipe must name a model", where="models", todo="set `bulk`, `heavy` or both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Halo:
    """The context around each core. By default it is what the bundle declares."""

    bulk: int | None = setting(None, doc="halo of the bulk model, in pixels")
    heavy: int | None = setting(None, doc="halo of the heavy model, in pixels")

    def __post_init__(self) -> None:
        for tier, halo_px in (("bulk", self.bulk), ("heavy", self.heavy)):
            if halo_px is not None and halo_px < 0:
                raise RecipeError("a halo must not be negative", where=f"tiling: halo: {tier}", got=str(halo_px))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """The sizes of tiles, tasks and GeoTIFFs."""

    core: int = setting(512, doc="side of the square that one tile labels, in pixels")
    chunk: int = setting(4096, doc="side of the square that one task writes, in pixels; a multiple of `core`")
    sheet: int = setting(
        32768,
        doc="longest side of one GeoTIFF, in pixels; a longer scene becomes several sheets with a VRT and a tile index",
    )
    halo: Halo = setting(Halo, doc="context that a tile reads around its core; default: the halo of the bundle")

    def __post_init__(self) -> None:
        if self.core < 1:
            raise RecipeError("a core must have at least one pixel", where="tiling: core", got=str(self.core))
        if self.chunk < self.core or self.chunk % self.core:
            raise RecipeError(
                "a chunk must be a whole number of cores",
                where="tiling",
                expected="chunk = k x core",
                got=f"core {self.core}, chunk {self.chunk}",
                todo=f"set chunk: {max(1, round(self.chunk / self.core)) * self.core}",
            )
        if self.sheet < self.chunk:
            raise RecipeError(
                "a sheet must hold at least one chunk",
                where="tiling: sheet",
                expected=f"{self.chunk} or more",
                got=str(self.sheet),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodataPolicy:
    """Rule that finds invalid pixels."""

    from_: Literal["auto", "value", "alpha", "mask", "none"] = setting(
        "auto",
        key="from",
        doc="source of the validity of pixels; auto: alpha band, else mask, else nodata value, else none",
    )
    value: float | None = setting(None, doc="with `from: value`: raw value that means no data")
    rule: Literal["all", "any"] = setting(
        "all", doc="bands that must hold the value, `all` or `any`, for a pixel to be invalid; NaN is always invalid"
    )
    also: tuple[float, ...] = setting(
        (),
        doc="more raw values that mean no data, beside what `from` says: pixels that hold one of them in all bands",
    )

    def __post_init__(self) -> None:
        if self.value is not None and self.from_ != "value":
            raise RecipeError("`value` needs `from: value`", where="nodata", got=f"from: {self.from_}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPolygons:
    """Reference labels as polygons or points. The name of a vector file alone means these defaults."""

    polygons: str = setting(
        doc="vector file or URL; a pixel has the class of the polygon around its centre, or of a point inside it"
    )
    class_: str = setting("class", key="class", doc="attribute with the class of each polygon, as id or name")
    all_: str | int | None = setting(None, key="all", doc="class of all polygons, instead of an attribute")
    outside: str | int | None = setting(
        None, doc="class of the ground outside of all polygons; default: that ground is unlabelled"
    )
    where: str | None = setting(None, doc="attribute filter on the polygons, as in SQL")
    within: str | None = setting(
        None,
        doc="ground that the reference covers completely: a vector file of polygons, or `hull` for the convex hull of "
        "the reference itself; all other ground is unlabelled; default: the whole scene",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every setting that decides output bytes."""

    scenes: tuple[str, ...] = setting(doc="rasters: files, URLs or glob patterns; `trust: drivers` allows more formats")
    output: str = setting(
        doc="folder or URL for everything that the run writes; the same command resumes a run there, and a new run is "
        "refused where it would replace an input or a file that no run made"
    )
    models: Models = setting(doc="bundles that fill the two slots")
    tiling: Tiling = setting(Tiling, doc="sizes of cores, chunks, sheets and halos")
    route: Route = setting(Route, doc="which tiles the heavy model labels; default: the bulk model labels all")
    budget: Budget | None = setting(
        None, doc="limit on the tiles that `uncertain` sends to the heavy model; default: no limit but the threshold"
    )
    labels: tuple[str | LabelPolygons | None, ...] = setting(
        (),
        doc="reference labels for IoU, one per scene in the same order: a raster on the scene's grid, polygons or "
        "points, or null for none",
    )
    aoi: str | None = setting(None, doc="vector file of the area of interest: all other ground is nodata")
    bands: tuple[int | str, ...] | None = setting(
        None,
        doc="bands of the scene in the model's order, as index or name; a band may be repeated; default: by name",
    )
    scale: tuple[float, float] | None = setting(
        None, doc="raw range of the scene that corresponds to the range of the bundle; default: the same range"
    )
    nodata: NodataPolicy = setting(NodataPolicy, doc="how invalid pixels are found")
    accept: tuple[Leave, ...] = setting((), doc="parts of the bundle's contract that this run ignores on purpose")
    outputs: tuple[str, ...] = setting(list_default_layers, doc="layers to write; `labels` must be one of them")
    trust: Trust = setting(
        Trust,
        doc="what scenes and vector files may refer to beyond their own folder; link-local addresses are never read",
    )

    def __post_init__(self) -> None:
        if not self.scenes:
            raise RecipeError("a recipe must name a scene", where="scenes", todo="list at least one raster")
        if not self.output:
            raise RecipeError("a recipe must name an output folder", where="output", got="''")
        self._check_outputs()
        if self.bands is not None and not self.bands:
            raise RecipeError(
                "a list of bands must not be empty", where="bands", todo="list at least one band, or drop the line"
            )
        if self.scale is not None and not -math.inf < self.scale[0] < self.scale[1] < math.inf:
            raise RecipeError(
                "a scale must be a range", where="scale", expected="[low, high]", got=str(list(self.scale))
            )
        if self.budget is not None and self.route.uncertain is None:
            raise RecipeError(
                "a budget limits `uncertain`, and this route has no `uncertain`",
                where="budget",
                todo="add `uncertain` to route: priority, or drop the budget",
            )
        if self.budget is not None and self.route.uncertain is not None and self.route.uncertain.above is not None:
            raise RecipeError(
                "a budget and a threshold exclude each other",
                where="budget",
                got=f"uncertain: above: {self.route.uncertain.above}",
                todo="drop one of them",
            )
        if (self.route.priority or self.route.audit) and (self.models.bulk is None or self.models.heavy is None):
            raise RecipeError(
                "a route needs two models" if self.route.priority else "an audit needs two models",
                where="route: priority" if self.route.priority else "route: audit",
                todo="set both `bulk` and `heavy`, or drop the route",
            )

    def _check_outputs(self) -> None:
        for place, name in enumerate(self.outputs):
            if name not in LAYERS:
                near = difflib.get_close_matches(name, LAYERS, n=1)
                raise RecipeError(
                    "wrong value",
                    where=f"outputs[{place}]",
                    expected=" or ".join(LAYERS),
                    got=repr(name),
                    todo=f"did you mean `{near[0]}`?" if near else None,
                )
        if "labels" not in self.outputs:
            raise RecipeError("the layer `labels` must be written", where="outputs", todo="add `labels`")
        if len(set(self.outputs)) < len(self.outputs):
            raise RecipeError("each layer must be listed once", where="outputs", got=", ".join(self.outputs))
