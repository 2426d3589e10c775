"""Tiles appear while a job runs, and nothing of them stays."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_cvsuite.segmentation.predict import TilePreview
from napari_cvsuite.widgets import preview
from napari_cvsuite.widgets.preview import Preview
from napari_cvsuite.widgets.regions import whole
from napari_cvsuite.widgets.result_layers import Prepared, Source, new_labels


def _tile(y: int, x: int, value: int) -> TilePreview:
    classes = np.full((2, 3), value, np.uint8)
    return TilePreview((1,), y, x, classes, (1, slice(y, y + 2), slice(x, x + 3)))


def _preview(viewer: ViewerModel) -> Preview:
    image = viewer.add_image(np.zeros((2, 6, 6)), scale=(3.0, 2.0, 2.0))
    return Preview(viewer, Source.of(image, whole(image)), 2)


def test_tiles_land_in_their_place_and_go_at_the_end() -> None:
    viewer = ViewerModel()
    shown = _preview(viewer)
    assert len(viewer.layers) == 1
    shown.add(_tile(0, 0, 1))
    shown.add(_tile(4, 3, 1))
    layer = viewer.layers[1]
    expected = np.zeros((2, 6, 6), np.uint8)
    expected[1, 0:2, 0:3] = expected[1, 4:6, 3:6] = 1
    np.testing.assert_array_equal(layer.data, expected)
    np.testing.assert_allclose(layer.scale, (3, 2, 2))
    released = shown.release()
    assert released is layer
    viewer.layers.remove(released)
    assert len(viewer.layers) == 1


def test_a_preview_cannot_be_painted_and_can_become_the_result() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((2, 6, 6)), scale=(3.0, 2.0, 2.0))
    source = Source.of(image, whole(image))
    shown = Preview(viewer, source, 2)
    shown.add(_tile(0, 0, 1))
    layer = shown.release()
    assert layer is viewer.layers[1] and not layer.editable
    shown.add(_tile(4, 3, 1))
    shown.release()
    assert len(viewer.layers) == 2 and layer.data[1, 4, 3] == 0

    labels = np.zeros((2, 6, 6), np.int32)
    labels[0, 1, 1], labels[1, 2, 2] = 1, 70_000
    rows = [{"index": 1.0, "class": 1.0}, {"index": 70_000.0, "class": 1.0}]
    prepared = Prepared(labels, "objects", rows, {}, ("background", "cell"), {"model": "m"})
    plain = new_labels(viewer, prepared, source)
    turned = new_labels(viewer, prepared, source, layer)
    assert turned is layer and layer.editable
    assert (turned.metadata, turned.opacity) == (plain.metadata, plain.opacity)
    # The name is taken by the other layer, so napari counts.
    assert turned.name == f"{plain.name} [1]"
    np.testing.assert_array_equal(turned.data, labels)
    np.testing.assert_allclose(turned.scale, plain.scale)
    assert turned.features.equals(plain.features)
    assert type(turned.colormap) is type(plain.colormap)
    np.testing.assert_allclose(turned.get_color(70_000), plain.get_color(70_000))


def test_what_painting_needs_is_left_out_until_it_is_wanted() -> None:
    viewer = ViewerModel()
    shown = _preview(viewer)
    shown.open()
    usual = {name: one.visible for name, one in Labels(np.zeros((2, 2), int))._overlays.items()}
    layer = shown.release()
    assert layer is not None and any(usual.values())
    assert not any(one.visible for one in layer._overlays.values())
    for brush in shown.brushes:
        brush()
    assert {name: one.visible for name, one in layer._overlays.items()} == usual


def test_a_preview_closed_by_the_user_stays_closed() -> None:
    viewer = ViewerModel()
    shown = _preview(viewer)
    shown.add(_tile(0, 0, 1))
    viewer.layers.pop()
    shown.add(_tile(0, 0, 1))
    shown.add(_tile(2, 0, 1))
    assert len(viewer.layers) == 1
    shown.release()


def test_huge_images_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "MAX_PIXELS", 71)
    viewer = ViewerModel()
    shown = _preview(viewer)
    shown.add(_tile(0, 0, 1))
    assert len(viewer.layers) == 1
