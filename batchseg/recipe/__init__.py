"""What the user writes: a recipe (everything that decides output bytes) and a fleet (workers, prices, retries)."""

from batchseg.recipe.fleet import Fleet, Patience, PoolSpec, Retries
from batchseg.recipe.load import load_fleet, load_recipe
from batchseg.recipe.recipe import Models, NodataSpec, Priority, Recipe, Route, Tiling

__all__ = [
    "Fleet",
    "Models",
    "NodataSpec",
    "Patience",
    "PoolSpec",
    "Priority",
    "Recipe",
    "Retries",
    "Route",
    "Tiling",
    "load_fleet",
    "load_recipe",
]
