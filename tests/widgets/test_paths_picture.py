"""The picture of a transformer as parallel paths: switches, keys, colours, words for readers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor

from napari_cvsuite.models.vit import path_names
from napari_cvsuite.widgets.paths_box import PathBox, diverging, long_name
from napari_cvsuite.widgets.paths_picture import ROW, PathPicture

LEFT = Qt.MouseButton.LeftButton
VALUES = [0.1, -0.5, 2.0, 0.25, -1.0]


@pytest.fixture
def picture(qtbot: Any) -> Iterator[PathPicture]:
    made = PathPicture()
    qtbot.addWidget(made)
    made.set_paths(path_names(2))
    made.resize(made.sizeHint())
    made.show()
    yield made


def _switch(box: PathBox) -> QPoint:
    return QPoint(14, box.height() // 2)


def _number(box: PathBox) -> QPoint:
    return QPoint(box.width() - 20, box.height() // 2)


def _heard(picture: PathPicture) -> tuple[list[tuple[int, bool]], list[int]]:
    toggled: list[tuple[int, bool]] = []
    picked: list[int] = []
    picture.toggled.connect(lambda number, on: toggled.append((number, on)))
    picture.picked.connect(picked.append)
    return toggled, picked


def test_the_switch_takes_a_path_out_and_the_number_picks_it(
    picture: PathPicture, qtbot: Any
) -> None:
    toggled, picked = _heard(picture)
    box = picture.boxes[3]
    qtbot.mouseClick(box, LEFT, pos=_switch(box))
    assert toggled == [(3, False)] and picked == [] and picture.off == {3}
    qtbot.mouseClick(box, LEFT, pos=_number(box))
    assert picked == [3] and picture.off == {3} and picture.current == 3
    assert [one.marked for one in picture.boxes] == [False, False, False, True, False]
    qtbot.mouseClick(box, LEFT, pos=_switch(box))
    assert toggled == [(3, False), (3, True)] and not picture.off
    # A press that is dragged off the box is no click.
    qtbot.mousePress(box, LEFT, pos=_number(box))
    qtbot.mouseRelease(box, LEFT, pos=QPoint(-30, -30))
    qtbot.mouseClick(box, Qt.MouseButton.RightButton, pos=_number(box))
    assert picked == [3]


def test_what_a_program_switches_is_no_signal(picture: PathPicture) -> None:
    toggled, picked = _heard(picture)
    picture.set_weights({0: 0.0, 4: 0.0})
    picture.set_picked(2)
    assert picture.off == {0, 4} and picture.boxes[2].marked
    picture.set_weights({})
    picture.set_picked(None)
    assert not picture.off and not any(box.marked for box in picture.boxes)
    assert toggled == [] and picked == []


def test_a_weight_is_kept_while_its_path_is_out(picture: PathPicture, qtbot: Any) -> None:
    toggled, _ = _heard(picture)
    picture.set_weights({1: 0.5, 2: 0.0, 3: 1.0})
    assert picture.weights == {1: 0.5, 2: 0.0} and picture.off == {2} and toggled == []
    box = picture.boxes[1]
    assert box.accessibleName().endswith("weighed by 0.5")
    plain = box.grab().toImage()
    for state in ({1: 0.0, 2: 0.0}, {1: 0.5, 2: 0.0}):
        qtbot.mouseClick(box, LEFT, pos=_switch(box))
        assert picture.weights == state
    picture.set_weights({1: 2.0})
    # The weight is written in the box.
    assert box.grab().toImage() != plain
    picture.set_paths(path_names(2))
    assert picture.weights == {}


def test_keys_move_toggle_and_pick(picture: PathPicture, qtbot: Any) -> None:
    toggled, picked = _heard(picture)

    def press(key: Any) -> int:
        qtbot.keyClick(picture.boxes[picture.current], key)
        return picture.current

    # embed; then msa_0 and ffn_0 in one row, msa_1 and ffn_1 in the next.
    assert press(Qt.Key.Key_Down) == 1
    assert press(Qt.Key.Key_Right) == 2
    assert press(Qt.Key.Key_Down) == 4
    assert press(Qt.Key.Key_Down) == 4
    assert press(Qt.Key.Key_Left) == 3
    press(Qt.Key.Key_Space)
    assert toggled == [(3, False)]
    press(Qt.Key.Key_Return)
    assert picked == [3]
    assert press(Qt.Key.Key_Up) == 1 and press(Qt.Key.Key_Up) == 0 and press(Qt.Key.Key_Left) == 0
    assert press(Qt.Key.Key_End) == 4 and press(Qt.Key.Key_Home) == 0
    # The tab key stops once in the picture.
    strong = [box.focusPolicy() == Qt.FocusPolicy.StrongFocus for box in picture.boxes]
    assert strong == [True, False, False, False, False]


def test_names_and_states_are_told_to_readers_of_screens(picture: PathPicture) -> None:
    picture.set_values(VALUES, "direct share of the logit of cat")
    box = picture.boxes[2]
    assert box.accessibleName() == "ffn_0, direct share of the logit of cat +2, in the sum"
    assert "feed-forward network of layer 0" in box.toolTip() and "+2" in box.toolTip()
    picture.set_weights({2: 0.0})
    assert box.accessibleName().endswith("taken out") and "taken out" in box.toolTip()
    picture.set_values(None)
    assert box.accessibleName() == "ffn_0, taken out"
    assert picture.accessibleName()
    assert long_name("embed") == "embedding of the image"
    assert long_name("msa_11") == "attention of layer 11"


def test_colours_are_symmetric_about_white() -> None:
    assert diverging(0.0, 2.0) == QColor("white")
    assert diverging(-2.0, 2.0).name() == "#2166ac" and diverging(9.0, 2.0).name() == "#b2182b"
    half = diverging(1.0, 2.0)
    # Half way from white to #b2182b.
    assert (half.red(), half.green(), half.blue()) == (216, 140, 149)
    assert diverging(1.0, 0.0) == QColor("white")


def test_colours_limits_and_sizes_of_the_picture(picture: PathPicture) -> None:
    picture.set_values(VALUES, "share")
    assert {box.limit for box in picture.boxes} == {2.0}
    pixel = picture.boxes[4].grab().toImage().pixelColor(40, 4)
    # -1 of 2 is half way to blue.
    assert abs(pixel.red() - 144) <= 2 and abs(pixel.blue() - 214) <= 2
    picture.set_weights({4: 0.0})
    grey = picture.boxes[4].grab().toImage().pixelColor(60, 3)
    assert grey.red() == grey.green() == grey.blue()
    with pytest.raises(ValueError, match="5 paths need as many numbers; got 2"):
        picture.set_values([1.0, 2.0])
    picture.set_values([math.nan] * 5)
    assert all(math.isnan(box.value) for box in picture.boxes)
    picture.set_outcome("cat 87 %")
    assert not picture.grab().isNull()


def test_other_networks_can_be_drawn(picture: PathPicture) -> None:
    picture.set_values(VALUES, "share")
    picture.set_weights({1: 0.0})
    before, height = picture.boxes, picture.sizeHint().height()
    picture.set_paths(path_names(2))
    assert picture.boxes is before and not picture.off
    picture.set_paths(path_names(4))
    assert [box.name for box in picture.boxes] == path_names(4) and not picture.off
    assert picture.sizeHint().height() == height + 2 * ROW
    picture.resize(picture.sizeHint())
    inside = picture.rect()
    assert all(inside.contains(box.geometry()) for box in picture.boxes)
    tops = [picture.boxes[number].y() for number in (1, 2, 3)]
    assert tops[0] == tops[1] < tops[2]
    picture.set_paths(())
    assert not picture.boxes and picture.off == frozenset()
