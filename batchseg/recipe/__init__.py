"""Files that the user writes: a recipe (all that decides output bytes) and a fleet (workers, prices, retries)."""

from batchseg.recipe.fleet import Fleet, Patience, PoolSpec, Retries
from batchseg.recipe.heavy_tiles import Budget, ByUncertainty, Priority, Route, Uncertain
from batchseg.recipe.load import load_fleet, load_recipe
from batchseg.recipe.recipe import LabelPolygons, Models, NodataPolicy, Recipe, Tiling
from batchseg.recipe.trust import NO_TRUST, Trust

__all__ = [
    "NO_TRUST",
    "Budget",
    "ByUncertainty",
    "Fleet",
    "LabelPolygons",
    "Models",
    "NodataPolicy",
    "Patience",
    "PoolSpec",
    "Priority",
    "Recipe",
    "Retries",
    "Route",
    "Tiling",
    "Trust",
    "Uncertain",
    "load_fleet",
    "load_recipe",
]
