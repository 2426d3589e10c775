from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_cvsuite.images import Tile, blend_rows, plan_tiles


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([32, 64]), st.integers(4, 12))
def test_tiled_filter_equals_the_whole(height: int, width: int, tile: int, halo: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((height, width)).astype(np.float32)
    radius = halo // 2

    def smooth(part: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(part, 2 * radius + 1, mode="nearest")

    def compute(t: Tile) -> np.ndarray:
        return smooth(image[t.y : t.y + t.height, t.x : t.x + t.width])[None]

    bands = list(
        blend_rows((height, width), plan_tiles((height, width), tile, halo), halo, compute)
    )
    assert [row for row, _ in bands] == list(
        np.cumsum([0, *(band.shape[1] for _, band in bands[:-1])])
    )
    whole = np.concatenate([band[0] for _, band in bands])
    assert whole.shape == (height, width)
    assert np.abs(whole - smooth(image)).max() < 1e-5


def test_tiles_cover_and_overlap() -> None:
    tiles = plan_tiles((300, 200), 128, 16)
    covered = np.zeros((300, 200), int)
    for t in tiles:
        assert (t.height, t.width) == (128, 128)
        covered[t.y : t.y + t.height, t.x : t.x + t.width] += 1
    assert covered.min() >= 1
    starts = sorted({t.y for t in tiles})
    assert all(b - a <= 128 - 32 for a, b in itertools.pairwise(starts))


def test_halo_must_leave_something() -> None:
    with pytest.raises(ValueError, match="half"):
        plan_tiles((100, 100), 32, 16)
