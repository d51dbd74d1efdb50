"""Facts about a model of others: those that the user gives, and those that its files hold."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchseg.classes import ClassInfo
from batchseg.errors import BundleError, InputError
from batchseg.model.architecture import Architecture
from batchseg.model.contract import InputType
from batchseg.model.lineage import ImportedModel
from batchseg.scene.bands import BandWanted
from batchseg.tiers import Tier

DEFAULT_HALO_PX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The user's word on a model. Where the files say something else, the user wins."""

    bands: tuple[BandWanted, ...]
    """Bands in the order of the model's input."""
    gsd_m: tuple[float, float]
    """Smallest and largest ground size of a pixel that the model knows."""
    name: str | None = None
    """Name of the bundle; None: that of its folder."""
    classes: tuple[ClassInfo, ...] | None = None
    """Classes in the order of the model's outputs; None: those that the files name."""
    tier: Tier = "heavy"
    dtype: InputType = "uint8"
    range: tuple[float, float] | None = None
    """Raw values that the model knows; None: 0 to 255, for uint8 only."""
    mean: tuple[float, ...] | None = None
    """Mean of each band in raw values; None: that of the files."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each band in raw values; None: that of the files."""
    halo_px: int | None = None
    """Context around a core; None: an eighth of the side of a network that takes one size only, else 64."""
    stride_px: int = 32
    """Tile sides are a multiple of this. It counts for an ONNX network that takes tiles of any size."""

    def __post_init__(self) -> None:
        if self.range is None and self.dtype != "uint8":
            # Raw values are scaled and clipped to the range, and only bytes have one by nature.
            raise InputError(
                f"{self.dtype} does not say which raw values the model knows",
                where="--range",
                expected="the lowest and the highest",
                got="nothing",
                todo="give them, like --range 0 10000",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """A model as its files and the user describe it together."""

    weights: bytes
    architecture: Architecture
    classes: tuple[ClassInfo, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    halo_px: int
    stride_px: int
    tile_px: int | None
    """The only tile side that the network takes, if there is one."""
    origin: ImportedModel


def check_count(what: str, expected: int, given: Sequence[str], where: Path) -> None:
    """Raise BundleError if the user names another number of bands or classes than the model has."""
    if expected != len(given):
        raise BundleError(
            f"the model has another number of {what}",
            where=str(where),
            expected=str(expected),
            got=f"{len(given)} ({', '.join(given)})",
            todo=f"give --{what} in the model's order",
        )


def choose_colour(number: int) -> tuple[int, int, int]:
    """A colour for a class that has none, far from those of the classes before it."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.65, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)
