"""Settings of a night: the YAML file of `python -m jobs.nightly`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchseg.egress import redact_errors
from batchseg.errors import RecipeError
from batchseg.recipe.load import load_as
from batchseg.schema import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Conditions under which the result of a night becomes the latest."""

    coverage: float = setting(1.0, doc="least share of a scene's chunks that are committed, mean over all scenes")
    failed_scenes: int = setting(0, doc="most scenes that may be unreadable or incomplete")

    def __post_init__(self) -> None:
        if not 0 <= self.coverage <= 1:
            raise RecipeError(
                "coverage must be a share", where="latest: coverage", expected="0 to 1", got=str(self.coverage)
            )
        if self.failed_scenes < 0:
            raise RecipeError(
                "failed_scenes must not be negative", where="latest: failed_scenes", got=str(self.failed_scenes)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """configs/nightly.yaml."""

    recipe: str = setting(doc="recipe file; its `scenes`, `labels` and `output` are not used")
    output: str = setting(doc="folder of all nights")
    scenes: tuple[str, ...] = setting((), doc="files, URLs or glob patterns")
    listing: str | None = setting(None, doc="text file with one scene per line; # begins a comment")
    latest: Thresholds = setting(Thresholds, doc="when latest.json moves")

    def __post_init__(self) -> None:
        if not self.scenes and self.listing is None:
            raise RecipeError("a night needs a source of scenes", where="scenes", todo="give `scenes` or `listing`")


@redact_errors
def load_night(path: str | Path) -> Night:
    """Read the file that says what a night does.

        from jobs import load_night

        night = load_night("configs/nightly.yaml")

    Args:
        path: A YAML file; configs/nightly.yaml is one. Paths in it are relative to the current folder.

    Returns:
        The night, checked.

    Raises:
        RecipeError: The file cannot be read, or a key or a value in it is wrong.
    """
    return load_as(Night, path, "night")
