"""Input and output of the engine for one chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchseg.engine.fade import Fade
from batchseg.engine.inputs import InputRule
from batchseg.engine.route import Doubt, TileAudit
from batchseg.scene.pixels import Pixels
from batchseg.tiers import NODATA_CODE, Tier, find_tier
from tiling.grid import Tile
from tiling.span import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWork:
    """One chunk to label, read and routed by place."""

    window: Window
    tiles: list[Tile]
    tier_codes: list[int]
    """Tier code of each tile by its place: its tier and the reason."""
    pixels: Pixels
    """Pixels of the chunk and of the widest halo around it, as far as the scene reaches."""
    wanted_HW: NDArray[np.bool_]
    """Pixels of the chunk to label: valid ones inside the area of interest."""
    scene_shape_px: tuple[int, int]
    rules: dict[Tier, InputRule]
    """Conversion of raw values of this scene into inputs of each model."""
    doubt: Doubt | None = None
    """Rule that finds uncertain bulk tiles; None: a tile stays where its place sends it."""
    audited: tuple[bool, ...] = ()
    """True for each tile that both models run on; empty: on none of them."""
    fade: Fade | None = None
    """Fade of heavy tiles where bulk tiles begin; None: a hard edge."""

    def get_wanted(self, tile: Tile) -> NDArray[np.bool_]:
        """Return the pixels to label of those that a tile owns."""
        return self.wanted_HW[tile.owned.within(self.window)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The layers of one chunk, and how each of its tiles was routed."""

    window: Window
    labels_HW: NDArray[Any]
    """Class ids; the nodata code where nothing is labelled."""
    confidence_HW: NDArray[np.uint8]
    tier_HW: NDArray[np.uint8]
    tier_codes: tuple[int, ...]
    """Tier code of each tile; nodata where the tile had no pixel to label."""
    scores: tuple[int, ...]
    """Uncertainty of each tile in ten-thousandths; NO_SCORE where it was not judged."""
    audits: tuple[TileAudit, ...] = ()
    labelled: tuple[Window, ...] = ()
    """Parts of the chunk outside of which all is nodata: per row of tiles, from the first labelled tile to the last."""

    @property
    def num_tiles(self) -> int:
        return len(self.tier_codes)

    @property
    def num_tiles_by_tier(self) -> dict[Tier, int]:
        """Number of tiles that each model labelled; the other tiles had no pixel to label."""
        tiers = [find_tier(code) for code in self.tier_codes if code != NODATA_CODE]
        return {"bulk": tiers.count("bulk"), "heavy": tiers.count("heavy")}
