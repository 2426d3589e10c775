"""Results land where the image lies, can be undone, and never eat painted labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_cvsuite.widgets import result_layers
from napari_cvsuite.widgets.regions import Selection, whole
from napari_cvsuite.widgets.result_layers import (
    Mode,
    Prepared,
    Source,
    UndoTooLarge,
    class_colormap,
    new_labels,
    new_map,
    write_labels,
)

BUDGET = 1 << 20


def _prepared(labels: Any, kind: Any = "objects", **more: Any) -> Prepared:
    rows = [{"index": 1.0, "class": 1.0, "area": 4.0}] if kind == "objects" else []
    return Prepared(np.asarray(labels), kind, rows, {}, ("background", "nucleus"), **more)


def _written(
    layer: Labels, prepared: Prepared, selection: Selection, mode: Mode, budget: int = BUDGET
) -> int:
    """Write all pieces; return how many pixels changed."""
    pieces = write_labels(layer, prepared, selection, mode, budget)
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return int(end.value)


def _cut_finely(monkeypatch: pytest.MonkeyPatch, pixels: int) -> None:
    monkeypatch.setattr(result_layers, "READ_PIXELS", pixels)
    monkeypatch.setattr(result_layers, "WRITE_PIXELS", pixels)


def test_new_layer_lies_exactly_over_the_selection() -> None:
    viewer = ViewerModel()
    affine = np.array([[0.0, -1.0, 5.0], [1.0, 0.0, 7.0], [0.0, 0.0, 1.0]])
    image = viewer.add_image(
        np.zeros((20, 30)),
        scale=(0.5, 0.25),
        translate=(3, 4),
        rotate=30.0,
        shear=[0.2],
        affine=affine,
        units="um",
    )
    selection = Selection((4, 6), (10, 16))
    source = Source.of(image, selection)
    made = new_labels(viewer, _prepared(np.ones((6, 10), "i4")), source)
    for corner in ((0, 0), (6, 10), (2, 9)):
        np.testing.assert_allclose(
            made.data_to_world(corner), image.data_to_world(np.add(corner, selection.start))
        )
    assert made.units == image.units
    assert list(made.features["class"]) == ["nucleus"] and list(made.features["index"]) == [1]


def test_maps_are_hidden_images_with_provenance() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 4)))
    prepared = Prepared(
        np.zeros((4, 4), "u1"), "classes", [], {"uncertainty": np.zeros((4, 4), "f4")}, ("a", "b")
    )
    made = new_map(viewer, "uncertainty", prepared, Source.of(image, whole(image)))
    assert not made.visible and made.contrast_limits == [0, 1]
    assert "napari_cvsuite" in made.metadata


@pytest.mark.parametrize("pixels", [1 << 18, 5, 1])
def test_replace_is_one_step_of_undo(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _cut_finely(monkeypatch, pixels)
    before = np.zeros((8, 8), "i4")
    before[0, 0], before[3, 3] = 5, 6
    layer = Labels(before.copy())
    new = np.zeros((4, 4), "i4")
    new[0, 0:2] = 1
    selection = Selection((2, 2), (6, 6))
    # The 1s are new, the 6 goes: three pixels.
    assert _written(layer, _prepared(new), selection, "replace") == 3
    expected = before.copy()
    expected[3, 3] = 0
    # Numbers follow the largest one in the layer.
    expected[2, 2:4] = 7
    np.testing.assert_array_equal(layer.data, expected)
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)
    layer.redo()
    np.testing.assert_array_equal(layer.data, expected)


def test_what_is_painted_between_two_pieces_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    _cut_finely(monkeypatch, 4)
    layer = Labels(np.zeros((4, 4), "i4"))
    pieces = write_labels(
        layer, _prepared(np.ones((4, 4), "i4")), whole(layer), "fill empty only", BUDGET
    )
    while not layer.data.any():
        next(pieces)
    assert (layer.data[0] == 1).all() and not layer.data[1:].any()
    layer.data_setitem((np.array([3]), np.array([3])), 9)
    assert len(list(pieces)) > 0
    expected = np.ones((4, 4))
    expected[3, 3] = 9
    np.testing.assert_array_equal(layer.data, expected)


@pytest.mark.parametrize(
    ("shape", "most", "count"),
    # Whole planes, lines of planes, parts of lines, and nothing.
    [((6, 2, 5), 20, 3), ((3, 4, 5), 10, 6), ((2, 3), 2, 4), ((7,), 3, 3), ((0, 4), 9, 0)],
)
def test_pieces_are_the_whole(shape: tuple[int, ...], most: int, count: int) -> None:
    seen = np.zeros(shape, int)
    pieces = list(result_layers._pieces(shape, most))
    for piece in pieces:
        assert seen[piece].size <= most
        seen[piece] += 1
    assert len(pieces) == count and (seen == 1).all()


def test_fill_never_touches_what_was_painted() -> None:
    before = np.zeros((4, 4), "u1")
    before[:2] = 3
    layer = Labels(before.copy())
    classes = _prepared(np.ones((4, 4), "u1"), "classes")
    assert _written(layer, classes, whole(layer), "fill empty only") == 8
    assert (layer.data[:2] == 3).all() and (layer.data[2:] == 1).all()
    layer.undo()
    np.testing.assert_array_equal(layer.data, before)


@pytest.mark.parametrize("mode", ["replace", "fill empty only"])
def test_too_large_to_undo_changes_nothing(mode: Any) -> None:
    layer = Labels(np.zeros((10, 10), "i4"))
    # 100 pixels: two indices of 8 bytes and two values of 4 each.
    with pytest.raises(UndoTooLarge):
        _written(layer, _prepared(np.ones((10, 10), "i4")), whole(layer), mode, 2399)
    assert not layer.data.any()
    _written(layer, _prepared(np.ones((10, 10), "i4")), whole(layer), mode, 2400)
    assert layer.data.all()


def test_labels_that_do_not_fit_are_refused() -> None:
    layer = Labels(np.full((2, 2), 255, "u1"))
    with pytest.raises(ValueError, match="convert it or choose a new layer"):
        _written(layer, _prepared(np.ones((2, 2), "i4")), whole(layer), "replace")
    with pytest.raises(ValueError, match="another shape"):
        _written(layer, _prepared(np.ones((3, 3), "i4")), Selection((0, 0), (3, 3)), "replace")
    assert (layer.data == 255).all()


def test_nothing_to_change_leaves_no_step() -> None:
    layer = Labels(np.zeros((2, 2), "i4"))
    assert _written(layer, _prepared(np.zeros((2, 2), "i4")), whole(layer), "replace", 1) == 0


def test_one_plane_of_a_stack() -> None:
    layer = Labels(np.zeros((3, 4, 4), "i4"))
    selection = Selection((1, 0, 0), (2, 4, 4))
    _written(layer, _prepared(np.ones((1, 4, 4), "i4")), selection, "replace")
    assert layer.data[1].all() and not layer.data[[0, 2]].any()


def test_classes_keep_their_colours() -> None:
    few, many = class_colormap(3), class_colormap(9)
    np.testing.assert_array_equal(few.map(1), many.map(1))
    np.testing.assert_array_equal(few.map(2), many.map(2))
    assert few.map(0)[3] == 0
    assert len({tuple(many.map(i)) for i in range(1, 9)}) == 8
