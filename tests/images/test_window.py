"""How intensities become the range [0, 1]."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cvsuite.images import ImageError
from napari_cvsuite.images.window import Window, window_of


def test_eight_bits_keep_their_whole_range() -> None:
    plane = np.array([[0, 51], [102, 255]], np.uint8)
    window = window_of([plane], "auto")
    assert (window.low, window.high) == (0, 255) and "uint8" in window.rule
    np.testing.assert_allclose(window.apply(plane)[..., 1], plane / 255, atol=1e-7)


def test_sixteen_bits_are_cut_at_percentiles() -> None:
    plane = np.arange(1001, dtype=np.uint16).reshape(7, 143)
    window = window_of([plane], "auto")
    assert (window.low, window.high) == pytest.approx((1.0, 999.0))
    assert "0.1 and 99.9, 1 to 999" in window.rule
    shown = window.apply(plane)
    assert shown.min() == 0 and shown.max() == 1
    assert shown[0, 100, 0] == pytest.approx(99 / 998)


def test_planes_of_a_stack_share_a_window() -> None:
    planes = [np.full((10, 10), v, np.float32) for v in (1.0, 3.0)]
    window = window_of(planes, "percentile")
    assert (window.low, window.high) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("dtype", "high"), [(np.uint8, 255), (np.uint16, 65535), (np.int16, 32767), (np.float32, 1)]
)
def test_type_takes_the_range_of_the_type(dtype: type, high: float) -> None:
    window = window_of([np.ones((4, 4), dtype)], "type")
    assert (window.low, window.high) == (0, high)


def test_floats_outside_their_range_need_another_rule() -> None:
    with pytest.raises(ImageError, match="choose percentile or fixed"):
        window_of([np.full((4, 4), 7.0)], "type")


def test_fixed_clips() -> None:
    window = window_of([], "fixed", 10, 20)
    shown = window.apply(np.array([[0.0, 15.0, 99.0]]))[..., 0]
    np.testing.assert_allclose(shown, [[0, 0.5, 1]])


def test_nan_and_infinity_are_left_out() -> None:
    plane = np.array([[np.nan, np.inf, 0.0, 2.0]])
    window = window_of([plane], "auto")
    assert (window.low, window.high) == pytest.approx((0.002, 1.998))
    np.testing.assert_allclose(window.apply(plane)[0, :, 0], [0, 1, 0, 1])
    with pytest.raises(ImageError, match="no finite pixel") as caught:
        window_of([np.full((3, 3), np.nan)], "auto")
    assert caught.value.blank


def test_a_large_offset_keeps_its_digits() -> None:
    plane = 2**31 + np.arange(16, dtype=np.uint32).reshape(4, 4)
    shown = Window(float(plane.min()), float(plane.max()), "").apply(plane)
    np.testing.assert_allclose(shown[..., 0].ravel(), np.arange(16) / 15, atol=1e-6)


def test_no_width_gives_zeros_and_booleans_are_black_and_white() -> None:
    assert not Window(3, 3, "").apply(np.full((2, 2), 3)).any()
    window = window_of([np.array([[True, False]])], "auto")
    np.testing.assert_array_equal(window.apply(np.array([[True, False]]))[0, :, 0], [1, 0])
