from __future__ import annotations

import pickle
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest

from napari_cvsuite.images import Image, ImageError


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((8, 9), "u1", "yx"),
        ((1, 1), "f4", "yx"),
        ((5, 8, 9), "u2", "zyx"),
        ((8, 9, 3), "u1", "yxc"),
        ((8, 9, 4), "f8", "yxc"),
        ((2, 5, 8, 9), "i2", "tzyx"),
        ((5, 8, 9, 3), "u1", "zyxc"),
        ((8, 9), "?", "yx"),
    ],
)
def test_axes_are_guessed(shape: tuple[int, ...], dtype: str, axes: str) -> None:
    assert Image.from_array(np.zeros(shape, dtype)).axes == axes


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros(5), "2 to 4"),
        (np.float32(1.0), "2 to 4"),
        (np.zeros((2, 2, 2, 5, 6)), "axes="),
        (np.zeros((0, 4)), "empty"),
        (np.zeros((4, 4), complex), "real numbers"),
        (np.full((4, 4), "a"), "real numbers"),
        (np.full((4, 4), None), "real numbers"),
    ],
)
def test_what_is_no_image_is_refused_with_a_remedy(array: np.ndarray, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        Image.from_array(array)


def test_only_an_image_without_finite_pixels_is_blank() -> None:
    error = ImageError.of_blank()
    assert error.blank and "load another" in str(error) and not ImageError("too small").blank
    # Errors of a worker process come back pickled.
    assert pickle.loads(pickle.dumps(error)).blank


@pytest.mark.parametrize("axes", ["xy", "zz", "yxz", "abc", "yx"])
def test_wrong_axes(axes: str) -> None:
    with pytest.raises(ImageError, match="axes"):
        Image(np.zeros((4, 5, 6)), axes)


def test_planes_of_a_lazy_stack() -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    image = Image.from_array(da.from_array(array), axes="tzyx")
    indices = list(image.planes())
    assert len(indices) == image.n_planes == 6
    assert indices[1] == {"t": 0, "z": 1}
    assert np.array_equal(image.plane({"t": 1, "z": 2}), array[1, 2])


def test_separate_channels_become_the_last_axis() -> None:
    array = np.arange(2 * 4 * 5).reshape(2, 4, 5)
    image = Image.from_array(array, axes="cyx")
    assert image.stack_axes == ()
    assert np.array_equal(image.plane({}, [1]), array[1][..., None])


def test_from_a_multiscale_rgb_layer() -> None:
    layer = SimpleNamespace(
        data=[np.zeros((16, 16, 3), "u1"), np.zeros((8, 8, 3), "u1")],
        multiscale=True,
        rgb=True,
        scale=(0.5, 0.5),
        translate=(3.0, 4.0),
        units=("micrometer", "micrometer"),
        name="tissue",
    )
    image = Image.from_layer(layer)
    assert (image.axes, image.data.shape) == ("yxc", (16, 16, 3))
    assert image.scale == (0.5, 0.5, 1.0)
    assert image.units == ("micrometer", "micrometer", "")


def test_multiscale_takes_the_finest_level_and_planes_make_a_stack() -> None:
    levels = [np.zeros((40, 60)), np.zeros((20, 30))]
    assert Image.from_array(levels).data is levels[0]
    assert Image.from_array([np.zeros((20, 30))] * 2).data.shape == (2, 20, 30)
