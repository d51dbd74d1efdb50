"""The engine: recipe, plan, scenes, models, run state and outputs. Never Ray.

For notebooks, the same as the command line, in this process:

    from batchseg import load_recipe, run

    outcome = run(load_recipe("recipe.yaml"))
    outcome.metrics["cost_usd_per_km2"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchseg.recipe import load_fleet, load_recipe
    from batchseg.runs.session import Outcome, run

__all__ = ["Outcome", "load_fleet", "load_recipe", "run"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: `batchseg --help` must not wait for torch and GDAL."""
    if name in ("load_recipe", "load_fleet"):
        from batchseg import recipe  # noqa: PLC0415

        return getattr(recipe, name)
    if name in ("run", "Outcome"):
        from batchseg.runs import session  # noqa: PLC0415

        return getattr(session, name)
    raise AttributeError(name)
