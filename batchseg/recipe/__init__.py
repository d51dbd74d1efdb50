"""What the user writes: a recipe (everything that decides output bytes) and a fleet (workers, prices, retries)."""

from batchseg.recipe.fleet import Fleet, Patience, PoolSpec, Retries
from batchseg.recipe.load import load_fleet, load_recipe
from batchseg.recipe.recipe import (
    Budget,
    ByUncertainty,
    LabelPolygons,
    Models,
    NodataPolicy,
    Priority,
    Recipe,
    Route,
    Tiling,
    Uncertain,
)

__all__ = [
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
    "Uncertain",
    "load_fleet",
    "load_recipe",
]
