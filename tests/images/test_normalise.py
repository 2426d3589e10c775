from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cvsuite.images import ImageError, finite_range, minmax, to_three_channels

DTYPES = ["?", "u1", "i1", "u2", "i2", ">u2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">f4"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_type_spans_minus_one_to_one(dtype: str) -> None:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        low, high = False, True
    elif kind.kind in "ui":
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
    else:
        low, high = np.finfo(kind).min, np.finfo(kind).max
    plane = np.array([[low, high], [low, high]], dtype)
    three = to_three_channels(plane)
    scaled = minmax(three, *finite_range(three))
    assert scaled.shape == (2, 2, 3) and scaled.dtype == np.float32
    assert scaled.min() == -1 and scaled.max() == 1


@given(
    hnp.arrays(
        np.float32, (4, 5), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)
    )
)
def test_result_is_finite_or_the_image_is_refused(plane: np.ndarray) -> None:
    if not np.isfinite(plane).any():
        with pytest.raises(ImageError, match="finite"):
            to_three_channels(plane)
        return
    three = to_three_channels(plane)
    scaled = minmax(three, *finite_range(three))
    assert np.isfinite(scaled).all()
    assert scaled.min() >= -1 and scaled.max() <= 1


def test_constant_image_is_minus_one() -> None:
    assert (minmax(np.full((3, 3), 7.0), 7.0, 7.0) == -1).all()


def test_alpha_is_dropped_and_channels_are_counted() -> None:
    rgba = np.zeros((2, 2, 4), "u1")
    rgba[..., 3] = 255
    assert to_three_channels(rgba).max() == 0
    assert to_three_channels(np.ones((2, 2, 2), "u1"))[0, 0].tolist() == [1, 1, 0]
    with pytest.raises(ImageError, match="choose up to three"):
        to_three_channels(np.zeros((2, 2, 5), "u1"))
