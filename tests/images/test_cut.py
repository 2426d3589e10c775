from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_cvsuite.images import Image, ImageError, cut_along

VOLUME = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


def test_planes_along_y_are_those_of_z_and_x() -> None:
    cut = cut_along(Image.from_array(VOLUME[0], scale=(4.0, 2.0, 1.0)), "y")
    planes = [cut.image.plane(index) for index in cut.image.planes()]
    assert len(planes) == 4
    for y, plane in enumerate(planes):
        assert np.array_equal(plane, VOLUME[0][:, y])
    assert cut.image.pixel_size == (4.0, 1.0)


@pytest.mark.parametrize("axis", ["auto", "t", "z", "y", "x"])
@pytest.mark.parametrize("wrap", [np.asarray, da.from_array, zarr.array])
def test_planes_put_back_are_the_volume(axis: str, wrap: object) -> None:
    cut = cut_along(Image.from_array(wrap(VOLUME), axes="tzyx"), axis)
    planes = np.stack([cut.image.plane(index) for index in cut.image.planes()])
    shape = [cut.image.size(a) for a in cut.image.stack_axes]
    stacked = planes.reshape(*shape, *planes.shape[1:])
    assert np.array_equal(cut.restore(stacked), VOLUME)
    back = cut.restore(stacked)
    for index in cut.image.planes():
        part = back[cut.index(index, slice(1, 3), slice(0, 2))]
        assert np.array_equal(part, cut.image.plane(index)[1:3, 0:2])


def test_class_axis_stays_before_the_plane() -> None:
    cut = cut_along(Image.from_array(VOLUME[0]), "y")
    probabilities = np.zeros((4, 2, 3, 5))
    assert cut.restore(probabilities, inner=1).shape == (3, 2, 4, 5)


def test_colour_goes_along() -> None:
    cut = cut_along(Image.from_array(np.zeros((6, 7, 8, 3), "u1")), "x")
    assert cut.image.plane({"z": 0}).shape == (6, 7, 3)


@pytest.mark.parametrize(
    ("shape", "axis", "says"),
    [((4, 5), "z", "no axis 'z'"), ((4, 5), "y", "single plane"), ((2, 4, 5), "c", "choose one")],
)
def test_what_cannot_be_cut_says_so(shape: tuple[int, ...], axis: str, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        cut_along(Image.from_array(np.zeros(shape)), axis)
