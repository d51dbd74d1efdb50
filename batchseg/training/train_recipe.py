"""What a training run is made of; strictly read, like every recipe."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from batchseg.classes import ClassInfo
from batchseg.errors import RecipeError
from batchseg.model.contract import InputType
from batchseg.schema import setting
from batchseg.synth import CLASSES

BYTES_RANGE = (0.0, 255.0)
"""The range of values of a model whose input is bytes."""
STEP_PX = 32
"""The coarsest cell of the networks that we build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRaster:
    image: str = setting(doc="raster: file or URL")
    labels: str | None = setting(None, doc="class ids on the same grid; null: only a teacher's labels are learnt")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundSpec:
    """Windows of synthetic scenes or of rasters. Rasters are taken whole, so a split is always one by scene."""

    seeds: tuple[int, int] | None = setting(None, doc="synthetic scenes: first seed and the one after the last")
    size_px: int = setting(4096, doc="side of the synthetic scenes, of each of which one window is cut")
    rasters: tuple[LabelledRaster, ...] = setting((), doc="real scenes; all of their windows are taken")
    windows: int | None = setting(None, doc="of rasters: take so many windows, drawn at random; bounds memory")
    window_px: int = setting(1024, doc="side of a window")

    def __post_init__(self) -> None:
        if (self.seeds is None) == (not self.rasters):
            raise RecipeError("ground is either synthetic or of rasters", where="ground", todo="give seeds or rasters")
        if self.seeds is not None and not 0 <= self.seeds[0] < self.seeds[1]:
            raise RecipeError("there is no scene", where="seeds", got=str(list(self.seeds)))
        if self.window_px < 4 or self.window_px % 4:
            raise RecipeError("a window's side is a multiple of 4", where="window_px", got=str(self.window_px))
        if self.seeds is not None and self.size_px < self.window_px:
            raise RecipeError(
                "a window fits its scene",
                where="size_px",
                expected=f"at least {self.window_px}",
                got=str(self.size_px),
            )
        if self.windows is not None and self.windows < 1:
            raise RecipeError("at least one window", where="windows", got=str(self.windows))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    name: str = setting(doc="of the bundle")
    tier: Literal["bulk", "heavy"] = setting(doc="the slot that the model is made for")
    architecture: dict[str, Any] = setting(
        doc="{kind: bulknet, width: 32} or {kind: segformer, size: b0, decoder: 128, detail: 64}"
    )
    halo_px: int = setting(doc="context around a core at inference")
    train: GroundSpec = setting(doc="ground to learn from")
    validate: GroundSpec = setting(doc="ground to measure on at the end; never trained on")
    watch: GroundSpec | None = setting(
        None, doc="ground that early stopping looks at; another than `validate`, whose figure stays honest"
    )
    watch_every: int = setting(200, doc="with `watch`: steps between two looks; the best moment becomes the bundle")
    patience: int = setting(5, doc="with `watch`: looks without a better one before training ends")
    classes: tuple[ClassInfo, ...] | None = setting(
        None, doc="with rasters: [{id: 0, name: water, rgb: [0, 0, 255]}, …], all that the labels hold"
    )
    bands: tuple[str, ...] = setting(("red", "green", "blue"), doc="names of the model's inputs, in order")
    take: tuple[int | str, ...] | None = setting(
        None, doc="bands of the rasters in the order of `bands`, by index or name; default: by name"
    )
    dtype: InputType = setting("uint8", doc="data type of the model's input")
    range: tuple[float, float] | None = setting(
        None,
        doc="lowest and highest raw value that the model knows; values beyond are clipped. Default for uint8: "
        "[0, 255]; required for every other `dtype`",
    )
    scale: tuple[float, float] | None = setting(None, doc="raw range of the rasters that `range` stands for")
    gsd_m: tuple[float, float] = setting(
        (0.3, 0.8), doc="smallest and largest ground size of a pixel, of the rasters and of scenes to come"
    )
    licence: str | None = setting(None, doc="of the weights, for the card")
    data: str | None = setting(None, doc="what it is for, and the licence of what it learnt from, for the card")
    limits: str | None = setting(None, doc="where it ends, for the card")
    start: str | None = setting(None, doc="bundle of the same architecture whose weights training begins with")
    crop_px: int = setting(256, doc="side of a training crop")
    batch: int = setting(8, doc="crops a step")
    steps: int = setting(3000, doc="optimiser steps")
    loss: Literal["dice", "focal"] = setting("dice", doc="cross-entropy with Dice, or focal")
    learning_rate: float = setting(1e-3, doc="at its peak; warmed up over a tenth of the steps, then cosine to zero")
    weight_decay: float = setting(0.01, doc="of AdamW")
    adam_beta2: float = setting(0.99, doc="how long AdamW remembers the size of gradients")
    balanced_share: float = setting(0.5, doc="share of crops that are centred on a pixel of a class drawn evenly")
    light: float = setting(
        1.0, doc="how much crops are relit; 1: seasons of one place, 3: other places and cameras, 0: not at all"
    )
    zoom: tuple[float, float] = setting((1.0, 1.0), doc="crops are shown so many times smaller to larger, drawn evenly")
    mix: float = setting(
        0.0,
        doc="share of crops that are put together of two places, which keeps a model with a wide reach from learning "
        "scenes by heart; without `agree`",
    )
    agree: float = setting(
        0.0,
        doc="weight of how much two crops differ where a run could cut between them; keeps a model whose reach is "
        "wider than its halo from showing the borders of tiles. Crops come in pairs then, which overlap by four halos",
    )
    seed: int = setting(0, doc="of everything random")
    teacher: str | None = setting(None, doc="bundle whose soft labels are learnt beside the hard ones")
    soft_share: float = setting(0.5, doc="with a teacher: weight of its soft labels in the loss")
    temperature: float = setting(2.0, doc="with a teacher: softens both distributions")
    threads: int = setting(2, doc="CPU threads")
    checkpoint_every: int = setting(200, doc="steps between checkpoints; a run goes on from the last one")

    def __post_init__(self) -> None:
        real = any(spec.rasters for spec in self.grounds)
        if real != (self.classes is not None):
            raise RecipeError("rasters need `classes`, synthetic scenes have their own", where="classes")
        self._check_numbers()
        self._check_shares()
        self._check_pairs()

    def _check_numbers(self) -> None:
        for name in ("steps", "batch", "watch_every", "patience", "threads", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise RecipeError("at least 1", where=name, got=str(getattr(self, name)))
        for name, can_be, expected in (
            ("learning_rate", 0 < self.learning_rate < inf, "above 0"),
            ("weight_decay", 0 <= self.weight_decay < inf, "0 or more"),
            ("adam_beta2", 0 <= self.adam_beta2 < 1, "0 or more, below 1"),
            ("light", 0 <= self.light < inf, "0 or more"),
            ("seed", 0 <= self.seed < 2**63, "0 or more"),
        ):
            if not can_be:
                raise RecipeError("this value cannot be", where=name, expected=expected, got=str(getattr(self, name)))

    def _check_pairs(self) -> None:
        if self.agree < 0 or (self.agree and self.batch % 2):
            raise RecipeError(
                "agreement is 0 or more, and between the two crops of a pair",
                where="agree",
                expected="an even `batch`",
                got=f"agree {self.agree}, batch {self.batch}",
            )
        if self.agree and self.shift_px < STEP_PX:
            raise RecipeError(
                "the two crops of a pair overlap by four halos and have to differ by something",
                where="crop_px",
                expected=f"at least {4 * self.halo_px + STEP_PX}",
                got=str(self.crop_px),
            )

    def _check_shares(self) -> None:
        shares = (self.soft_share, self.balanced_share, self.mix)
        if not all(0 <= share <= 1 for share in shares) or self.temperature <= 0:
            raise RecipeError("shares are 0 to 1, a temperature is above 0", where="soft_share, balanced_share, mix")
        if self.mix and self.agree:
            raise RecipeError("crops of two places cannot be asked to agree", where="mix", todo="drop `mix` or `agree`")

    @property
    def shift_px(self) -> int:
        """Between the two crops of a pair, in steps that every network has the same cells at; 0: no pairs.

        Not quite as far as the tiles of a run, so that there is a strip to compare outside of both halos.
        """
        return (self.crop_px - 4 * self.halo_px) // STEP_PX * STEP_PX if self.agree else 0

    @property
    def input_range(self) -> tuple[float, float]:
        """Range of raw values that the model knows: `range`, or that of bytes where the recipe gives none."""
        return BYTES_RANGE if self.range is None else self.range

    @property
    def grounds(self) -> tuple[GroundSpec, ...]:
        return (self.train, self.validate) if self.watch is None else (self.train, self.validate, self.watch)

    @property
    def class_list(self) -> tuple[ClassInfo, ...]:
        """In the order of the network's outputs."""
        return self.classes or CLASSES
