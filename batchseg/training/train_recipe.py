"""The training recipe: every setting of a training, with its default. Read strictly, like every recipe."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from batchseg.classes import ClassInfo
from batchseg.errors import RecipeError
from batchseg.model.architecture import BuiltArchitecture
from batchseg.model.contract import InputType
from batchseg.recipe import Trust
from batchseg.schema import setting
from batchseg.synth import CLASSES

BYTES_RANGE = (0.0, 255.0)
"""The range of values of a model whose input is bytes."""
STEP_PX = 32
"""The coarsest cell of the networks that we build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRaster:
    image: str = setting(doc="raster with the pixels: file or URL")
    labels: str | None = setting(None, doc="raster with class ids on the same grid; null: only a teacher labels it")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundSpec:
    """Scenes to take windows from: synthetic scenes or rasters. A scene is never divided between two grounds."""

    seeds: tuple[int, int] | None = setting(None, doc="seeds of synthetic scenes: the first, and one after the last")
    size_px: int = setting(4096, doc="side of each synthetic scene; one window is cut from each")
    rasters: tuple[LabelledRaster, ...] = setting((), doc="real scenes; all of their windows are used")
    windows: int | None = setting(
        None, doc="number of windows drawn at random from the rasters, which bounds memory; null: all windows"
    )
    window_px: int = setting(1024, doc="side of a window")

    def __post_init__(self) -> None:
        if (self.seeds is None) == (not self.rasters):
            raise RecipeError(
                "ground must be either synthetic or made of rasters", where="ground", todo="give seeds or rasters"
            )
        if self.seeds is not None and not 0 <= self.seeds[0] < self.seeds[1]:
            raise RecipeError(
                "seeds must name at least one scene",
                where="seeds",
                expected="two numbers of 0 or more, the second above the first",
                got=str(list(self.seeds)),
            )
        if self.window_px < 4 or self.window_px % 4:
            raise RecipeError(
                "the side of a window must be a multiple of 4", where="window_px", got=f"{self.window_px}"
            )
        if self.seeds is not None and self.size_px < self.window_px:
            raise RecipeError(
                "a synthetic scene must be at least as large as its window",
                where="size_px",
                expected=f"at least {self.window_px}",
                got=str(self.size_px),
            )
        if self.windows is not None and self.windows < 1:
            raise RecipeError("the number of windows must be 1 or more", where="windows", got=str(self.windows))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """The recipe of a training. Fields check themselves; `checks.check_train_recipe` checks them together."""

    name: str = setting(doc="name of the bundle")
    tier: Literal["bulk", "heavy"] = setting(doc="slot that the model is made for")
    architecture: BuiltArchitecture = setting(
        doc="network: {kind: bulknet, width: 32} or {kind: segformer, size: b0, decoder: 128, detail: 64}"
    )
    halo_px: int = setting(doc="pixels of context around a core at inference")
    train: GroundSpec = setting(doc="scenes to train on")
    validate: GroundSpec = setting(doc="scenes to measure the bundle on at the end; never trained on")
    watch: GroundSpec | None = setting(
        None, doc="scenes for early stopping; others than `validate`, so that the measured IoU stays honest"
    )
    watch_every: int = setting(
        200, doc="with `watch`: steps between two measurements; the best measured step becomes the bundle"
    )
    patience: int = setting(5, doc="with `watch`: measurements without an improvement before the training ends")
    classes: tuple[ClassInfo, ...] | None = setting(
        None, doc="with rasters: all classes of the labels, as [{id: 0, name: water, rgb: [0, 0, 255]}, …]"
    )
    bands: tuple[str, ...] = setting(("red", "green", "blue"), doc="names of the model's input bands, in order")
    take: tuple[int | str, ...] | None = setting(
        None, doc="bands of the rasters in the order of `bands`, by index or name; null: by name"
    )
    dtype: InputType = setting("uint8", doc="data type of the model's input")
    range: tuple[float, float] | None = setting(
        None,
        doc="lowest and highest raw value that the model knows; values beyond are clipped. Null means [0, 255] for "
        "uint8; every other `dtype` needs a range",
    )
    scale: tuple[float, float] | None = setting(
        None, doc="raw values of the rasters that are mapped to the two ends of `range`; null: values are not mapped"
    )
    gsd_m: tuple[float, float] = setting(
        (0.3, 0.8), doc="smallest and largest size of a pixel on the ground, in these rasters and in later scenes"
    )
    trust: Trust | None = setting(
        None, doc="what rasters may refer to beyond their own folder, as in a recipe for a run", is_optional=True
    )
    licence: str | None = setting(None, doc="licence of the weights, for the card")
    data: str | None = setting(None, doc="purpose of the model and licence of its training data, for the card")
    limits: str | None = setting(None, doc="limits of the model, for the card")
    start: str | None = setting(None, doc="bundle of the same architecture whose weights the training starts with")
    crop_px: int = setting(256, doc="side of a training crop")
    batch: int = setting(8, doc="crops per step")
    steps: int = setting(3000, doc="optimiser steps")
    loss: Literal["dice", "focal"] = setting("dice", doc="loss: cross-entropy with Dice, or focal")
    learning_rate: float = setting(
        1e-3, doc="peak of the learning rate, which rises over the first tenth of the steps, then falls as a cosine"
    )
    weight_decay: float = setting(0.01, doc="weight decay of AdamW")
    adam_beta2: float = setting(0.99, doc="decay rate of AdamW's average of squared gradients")
    balanced_share: float = setting(
        0.5, doc="share of crops that are centred on a pixel of a class; each class is drawn equally often"
    )
    light: float = setting(
        1.0, doc="strength of changes of light; 0: none, 1: seasons of one place, 3: other places and cameras"
    )
    zoom: tuple[float, float] = setting(
        (1.0, 1.0), doc="smallest and largest factor by which crops are enlarged, drawn uniformly"
    )
    mix: float = setting(
        0.0,
        doc="share of crops that are composed of two places, so that a network with a wide reach cannot memorise "
        "scenes; not together with `agree`",
    )
    agree: float = setting(
        0.0,
        doc="weight of the disagreement between two overlapping crops, measured where a run could cut between tiles; "
        "it keeps a network whose reach exceeds its halo from showing tile borders. Crops then come in pairs that "
        "overlap by four halos",
    )
    seed: int = setting(0, doc="seed of everything random")
    teacher: str | None = setting(None, doc="bundle whose soft labels are learnt in addition to the labels")
    soft_share: float = setting(0.5, doc="with a teacher: weight of its soft labels in the loss")
    temperature: float = setting(2.0, doc="with a teacher: temperature that softens both distributions")
    threads: int = setting(2, doc="CPU threads")
    checkpoint_every: int = setting(
        200, doc="steps between two checkpoints; an interrupted training continues from the last one"
    )

    def __post_init__(self) -> None:
        has_rasters = any(spec.rasters for spec in self.grounds)
        if has_rasters != (self.classes is not None):
            raise RecipeError(
                "`classes` must be given with rasters, and only with them",
                where="classes",
                todo="list the classes of the labels; for synthetic scenes, which have their own, drop the key",
            )
        self._check_numbers()
        self._check_shares()
        self._check_pairs()

    def _check_numbers(self) -> None:
        for name in ("steps", "batch", "watch_every", "patience", "threads", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise RecipeError(f"`{name}` must be 1 or more", where=name, got=str(getattr(self, name)))
        for name, is_valid, expected in (
            ("learning_rate", 0 < self.learning_rate < inf, "above 0"),
            ("weight_decay", 0 <= self.weight_decay < inf, "0 or more"),
            ("adam_beta2", 0 <= self.adam_beta2 < 1, "0 or more and below 1"),
            ("light", 0 <= self.light < inf, "0 or more"),
            ("seed", 0 <= self.seed < 2**63, "0 or more"),
        ):
            if not is_valid:
                raise RecipeError(f"`{name}` must be {expected}", where=name, got=str(getattr(self, name)))

    def _check_shares(self) -> None:
        for name in ("soft_share", "balanced_share", "mix"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"`{name}` must be a share from 0 to 1", where=name, got=str(getattr(self, name)))
        if not 0 < self.temperature < inf:
            raise RecipeError("`temperature` must be above 0", where="temperature", got=str(self.temperature))
        if self.mix and self.agree:
            raise RecipeError(
                "crops of two places cannot be compared for agreement", where="mix", todo="drop `mix` or `agree`"
            )

    def _check_pairs(self) -> None:
        if not 0 <= self.agree < inf or (self.agree and self.batch % 2):
            raise RecipeError(
                "`agree` must be 0 or more, and with it `batch` must be even, since crops come in pairs",
                where="agree",
                got=f"agree {self.agree}, batch {self.batch}",
            )
        if self.agree and self.shift_px < STEP_PX:
            raise RecipeError(
                "crops must be larger with `agree`, since the two crops of a pair overlap by four halos",
                where="crop_px",
                expected=f"at least {4 * self.halo_px + STEP_PX}",
                got=str(self.crop_px),
            )

    @property
    def shift_px(self) -> int:
        """Columns between the two crops of a pair, a multiple of every network's cell; 0 without pairs.

        The shift is a little shorter than the one between the tiles of a run, so that a strip outside of both halos is
        left to compare.
        """
        return (self.crop_px - 4 * self.halo_px) // STEP_PX * STEP_PX if self.agree else 0

    @property
    def input_range(self) -> tuple[float, float]:
        """The raw values that the model knows: `range`, or the range of bytes where the recipe gives none."""
        return BYTES_RANGE if self.range is None else self.range

    @property
    def grounds(self) -> tuple[GroundSpec, ...]:
        return (self.train, self.validate) if self.watch is None else (self.train, self.validate, self.watch)

    @property
    def class_list(self) -> tuple[ClassInfo, ...]:
        """The classes in the order of the network's outputs."""
        return self.classes or CLASSES
