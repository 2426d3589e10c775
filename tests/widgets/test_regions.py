"""Which pixels a region selects."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Shapes

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.widgets.regions import (
    Selection,
    covered,
    crop,
    current_plane,
    current_view,
    matching,
    shapes_box,
    whole,
)


def test_whole_leaves_colour_out_and_takes_the_finest_level() -> None:
    assert whole(ImageLayer(np.zeros((20, 30, 3), "u1"), rgb=True)).shape == (20, 30)
    levels = [np.zeros((5, 20, 30)), np.zeros((5, 10, 15))]
    assert whole(ImageLayer(levels, multiscale=True)) == Selection((0, 0, 0), (5, 20, 30))


def test_current_plane_follows_the_sliders_in_world_units() -> None:
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((5, 20, 30)), scale=(2.0, 1.0, 1.0), translate=(10, 0, 0))
    viewer.dims.set_point(0, 16.0)
    # (16 - 10) / 2 = 3.
    assert current_plane(whole(layer), layer, viewer) == Selection((3, 0, 0), (4, 20, 30))


def test_view_is_cut_at_the_image() -> None:
    layer = ImageLayer(np.zeros((20, 30)))
    layer.corner_pixels = np.array([[-4, 3], [9, 100]])
    assert current_view(layer) == Selection((0, 3), (9, 30))
    layer.corner_pixels = np.array([[50, 50], [60, 60]])
    with pytest.raises(ImageError, match="move it onto the image"):
        current_view(layer)


def test_view_of_a_coarse_level_is_given_in_fine_pixels() -> None:
    layer = ImageLayer([np.zeros((40, 80)), np.zeros((20, 40))], multiscale=True)
    layer.corner_pixels = np.array([[2, 4], [10, 20]])
    layer.data_level = 1
    layer.corner_pixels = np.array([[2, 4], [10, 20]])
    assert current_view(layer) == Selection((4, 8), (20, 40))


def test_box_maps_through_the_transforms_of_both_layers() -> None:
    layer = ImageLayer(np.zeros((20, 30)), scale=(0.5, 0.5), translate=(100.0, 0.0))
    box = np.array([[102.0, 1.0], [102.0, 4.0], [105.0, 4.0], [105.0, 1.0]])
    shapes = Shapes([box], shape_type="rectangle")
    # (102 - 100) / 0.5 = 4 to 10, and 1 / 0.5 = 2 to 8.
    assert shapes_box(layer, shapes) == Selection((4, 2), (10, 8))


def test_selected_shapes_count_alone() -> None:
    layer = ImageLayer(np.zeros((50, 50)))
    shapes = Shapes([np.array([[0, 0], [10, 10]]), np.array([[20, 20], [40, 30]])])
    assert shapes_box(layer, shapes) == Selection((0, 0), (40, 30))
    shapes.selected_data = {1}
    assert shapes_box(layer, shapes) == Selection((20, 20), (40, 30))
    with pytest.raises(ImageError, match="draw a rectangle"):
        shapes_box(layer, Shapes())


def test_labels_cover_what_they_lie_on_pixel_on_pixel() -> None:
    placed = {"scale": (0.5, 0.25), "translate": (3.0, -2.0), "rotate": 30}
    image = ImageLayer(np.zeros((50, 60, 3), "u1"), rgb=True, **placed)
    labels = Labels(np.zeros((50, 60), "u1"), **placed)
    assert covered(image, labels) == whole(image)
    part = Labels(np.zeros((20, 10), "u1"), **placed)
    part.translate = image.data_to_world((30, 50))
    assert covered(image, part) == Selection((30, 50), (50, 60))
    part.translate = image.data_to_world((31, 50))
    assert covered(image, part) is None
    part.translate = image.data_to_world((10.5, 20))
    assert covered(image, part) is None
    labels.scale = (0.5, 0.5)
    assert covered(image, labels) is None
    labels.scale, labels.rotate = (0.5, 0.25), 31
    assert covered(image, labels) is None
    assert covered(image, Labels(np.zeros((1, 50, 60), "u1"))) is None


def test_crop_keeps_colour_and_laziness() -> None:
    array = np.arange(4 * 6 * 3, dtype="u1").reshape(4, 6, 3)
    image = Image.from_array(da.from_array(array), axes="yxc", scale=(0.5, 0.5, 1))
    part = crop(image, Selection((1, 2), (3, 6)))
    assert isinstance(part.data, da.Array) and part.scale == image.scale
    np.testing.assert_array_equal(part.plane(), array[1:3, 2:6])
    assert crop(image, Selection((0, 0), (4, 6))) is image
    channels_first = Image.from_array(np.moveaxis(array, -1, 0), axes="cyx")
    np.testing.assert_array_equal(
        crop(channels_first, Selection((1, 2), (3, 6))).plane(), array[1:3, 2:6]
    )


def test_a_reference_is_cut_like_its_image() -> None:
    image = ImageLayer(np.zeros((4, 100, 80)))
    part = Selection((1, 10, 20), (2, 50, 61))
    pixels = np.arange(4 * 50 * 40).reshape(4, 50, 40)
    same = matching(ImageLayer(pixels), part, whole(image))
    np.testing.assert_array_equal(same.data, pixels[1:2, 5:25, 10:31])
    single = matching(ImageLayer(pixels[0]), part, whole(image))
    np.testing.assert_array_equal(single.data, pixels[0, 5:25, 10:31])
