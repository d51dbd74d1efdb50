"""Letters as pixels, for titles and legends of pictures: no library of the product draws text.

Each character is five columns of seven pixels, one byte per column with the top pixel in the lowest bit.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

GLYPH_ROWS, GLYPH_COLS = 7, 5
_FIRST, _LAST = 0x20, 0x7E
_COLUMNS = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649552250 0005030000 001c224100 0041221c00"
    "14083e0814 08083e0808 0050300000 0808080808 0060600000 2010080402 3e5149453e 00427f4000 4261514946 2141454b31"
    "1814127f10 2745454539 3c4a494930 0171090503 3649494936 064949291e 0036360000 0056360000 0814224100 1414141414"
    "0041221408 0201510906 324979413e 7e1111117e 7f49494936 3e41414122 7f4141221c 7f49494941 7f09090901 3e4149497a"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e 7f09090906 3e4151215e"
    "7f09192946 4649494931 01017f0101 3f4040403f 1f2040201f 3f4038403f 6314081463 0708700807 6151494543 007f414100"
    "0204081020 0041417f00 0402010204 4040404040 0001020400 2054545478 7f48444438 3844444420 384444487f 3854545418"
    "087e090102 0c5252523e 7f08040478 00447d4000 2040443d00 7f10284400 00417f4000 7c04180478 7c08040478 3844444438"
    "7c14141408 081414187c 7c08040408 4854545420 043f444020 3c4040207c 1c2040201c 3c4030403c 4428102844 0c5050503c"
    "4464544c44 0008364100 00007f0000 0041360800 0804081008"
)


def make_mask(text: str) -> NDArray[np.bool_]:
    """Make the pixels of a line of text. Accents are dropped, and an unknown character becomes a question mark."""
    bare = unicodedata.normalize("NFKD", text)
    letters = [letter for letter in bare if not unicodedata.combining(letter)]
    glyphs = [_make_glyph(letter if _FIRST <= ord(letter) <= _LAST else "?") for letter in letters]
    return np.concatenate(glyphs, axis=1) if glyphs else np.zeros((GLYPH_ROWS, 0), bool)


@lru_cache(maxsize=_LAST - _FIRST + 1)
def _make_glyph(letter: str) -> NDArray[np.bool_]:
    """Make a letter with an empty column behind it."""
    begin = (ord(letter) - _FIRST) * GLYPH_COLS
    columns = np.frombuffer(_COLUMNS[begin : begin + GLYPH_COLS] + b"\0", np.uint8)
    return (columns[np.newaxis] >> np.arange(GLYPH_ROWS)[:, np.newaxis] & 1).astype(bool)


def write_text(
    canvas_HWC: NDArray[np.uint8], text: str, *, row: int, col: int, scale: int, rgb: tuple[int, int, int] = (0, 0, 0)
) -> int:
    """Write a line of text onto a picture, as far as it fits; returns the column behind it."""
    mask = make_mask(text).repeat(scale, axis=0).repeat(scale, axis=1)
    part = canvas_HWC[row : row + mask.shape[0], col : col + mask.shape[1]]
    part[mask[: part.shape[0], : part.shape[1]]] = rgb
    return col + int(mask.shape[1])


def shorten(text: str, *, width_px: int, scale: int) -> str:
    """Shorten a text to a width, with two points at its end."""
    most = max(0, width_px // ((GLYPH_COLS + 1) * scale))
    return text if len(text) <= most else f"{text[: max(0, most - 2)]}.."[:most]
