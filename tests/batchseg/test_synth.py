from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchseg.synth import render

SIZE = 1500
STRIP = render(7, SIZE, slice(0, 640), slice(300, 1100), 4)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_window_has_the_same_bytes(data: st.DataObject) -> None:
    r0 = data.draw(st.integers(0, 639))
    c0 = data.draw(st.integers(300, 1099))
    r1 = data.draw(st.integers(r0 + 1, min(r0 + 300, 640)))
    c1 = data.draw(st.integers(c0 + 1, min(c0 + 300, 1100)))
    pixels_BHW, labels_HW = render(7, SIZE, slice(r0, r1), slice(c0, c1), 4)
    assert np.array_equal(pixels_BHW, STRIP[0][:, r0:r1, c0 - 300 : c1 - 300])
    assert np.array_equal(labels_HW, STRIP[1][r0:r1, c0 - 300 : c1 - 300])


@pytest.mark.parametrize("height", [1, 37, 512])
def test_stripes_of_any_height_have_the_same_bytes(height: int) -> None:
    parts = [
        render(7, SIZE, slice(r, min(r + height, 640)), slice(300, 400), 4)
        for r in range(0, 640 if height > 1 else 9, height)
    ]
    joined = np.concatenate([pixels for pixels, _ in parts], axis=1)
    assert np.array_equal(joined, STRIP[0][:, : joined.shape[1], :100])
