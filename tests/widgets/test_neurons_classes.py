"""The Neurons dock: which class leads at each place, and images of every size and type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from docks import Wait, choose_and_run, opened
from napari.layers import Labels, Shapes

import napari_cvsuite
from napari_cvsuite.widgets.neurons import NeuronsDock
from napari_cvsuite.widgets.neurons_actions import ATTACK, CHANNELS, CLASSES, SALIENCY
from napari_cvsuite.widgets.neurons_inputs import View

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 255, (48, 64, 3), "u1")
STACK = RNG.integers(0, 255, (3, 48, 64), "u1")


@pytest.fixture
def dock(viewer: Any, tiny_classifier: str) -> Iterator[NeuronsDock]:
    yield from opened(NeuronsDock(viewer), tiny_classifier)


class _Mouse:
    """What napari tells of the mouse, at a position of the viewer."""

    def __init__(self, viewer: Any, position: tuple[float, ...]) -> None:
        self.viewer, self.position = viewer, position
        self.pos, self.type = np.zeros(2), "mouse_press"

    def click(self, dock: NeuronsDock, wait_for: Wait, way: float = 0.0) -> str:
        # The last one; napari has some of its own.
        handler = self.viewer.mouse_drag_callbacks[-1](self.viewer, self)
        next(handler)
        self.pos, self.type = self.pos + way, "mouse_release"
        next(handler, None)
        wait_for(lambda: not dock.pick.runner.busy)
        return dock.run_bar.message.text()


def test_the_class_of_each_place_as_labels(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str, other_classifier: str
) -> None:
    dock.inputs.other.refresh()
    dock.inputs.other.choose(other_classifier)
    layer = viewer.add_image(COLOUR, name="cell", scale=(2, 2), translate=(10, 20))
    assert choose_and_run(dock, wait_for, CLASSES, cells=6).startswith("Done")
    below, above = viewer.layers[-2:]
    found = [
        napari_cvsuite.class_map(COLOUR, model=name, cells=6, device="cpu")
        for name in (tiny_classifier, other_classifier)
    ]
    assert isinstance(above, Labels) and above.visible and not below.visible
    np.testing.assert_array_equal(above.data, found[0].labels)
    np.testing.assert_array_equal(below.data, found[1].labels)
    assert above.name == f"cell: class at each place, {tiny_classifier}"
    # The middle square of 48 x 64 pixels begins at column 8; six cells are 8 pixels wide.
    for cell, pixel in (((-0.5, -0.5), (-0.5, 7.5)), ((5.5, 5.5), (47.5, 55.5))):
        np.testing.assert_allclose(above.data_to_world(cell), layer.data_to_world(pixel))
    named = dict(zip(above.features["index"], above.features["class"], strict=True))
    assert named == {row["label"]: row["class"] for row in found[0].rows()}
    panel = dock.shower.panels[CLASSES]
    shares = {row["class"]: row[tiny_classifier] for row in panel.rows if row[tiny_classifier]}
    assert shares == {row["class"]: row["share"] for row in found[0].rows()}
    assert sum(row[other_classifier] for row in panel.rows) == pytest.approx(1)
    assert "definition of this project" in panel.words.text()
    # The map is ours, and no concept or object of the user's.
    assert dock.inputs.choice.mask_picker.count() == 1


def test_a_click_chooses_the_class_that_leads_there(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    layer = viewer.add_image(STACK, name="cell", scale=(3, 2, 2))
    painted = viewer.add_labels(np.zeros((3, 48, 64), int), scale=(3, 2, 2))
    painted.mode = "paint"
    viewer.dims.set_current_step(0, 2)
    choice, before = dock.inputs.choice, list(viewer.mouse_drag_callbacks)
    choice.set_action(SALIENCY)
    assert choice.pick.isVisibleTo(dock) and not choice.pick.isChecked()
    choice.pick.click()
    assert len(viewer.mouse_drag_callbacks) == len(before) + 1
    # Not the layer that a click would paint in.
    assert viewer.layers.selection.active is layer
    found = napari_cvsuite.class_map(STACK, model=tiny_classifier, plane=2, device="cpu")
    for y, x in ((3, 10), (24, 32), (45, 53)):
        said = _Mouse(viewer, layer.data_to_world((2, y, x))).click(dock, wait_for)
        name = found.class_at(y, x)
        assert name is not None and choice.target.value() == name
        assert said == f"{name} leads there. {found.words}"
    assert dock.inputs.options().target == choice.target.value()
    # A drag moves the view; beside the middle square nothing is seen.
    choice.target.choose("")
    _Mouse(viewer, layer.data_to_world((2, 24, 32))).click(dock, wait_for, way=9.0)
    assert choice.target.value() == ""
    said = _Mouse(viewer, layer.data_to_world((2, 24, 3))).click(dock, wait_for)
    assert "does not see this place" in said and choice.target.value() == ""
    # The attack's class is picked as well, while the button is down.
    choice.set_action(ATTACK)
    _Mouse(viewer, layer.data_to_world((2, 24, 32))).click(dock, wait_for)
    assert choice.label.value() == found.class_at(24, 32) and choice.target.value() == ""
    choice.set_action(CHANNELS)
    assert not choice.pick.isChecked() and viewer.mouse_drag_callbacks == before
    assert not painted.data.any()


def test_a_click_that_cannot_choose_says_why(
    dock: NeuronsDock, viewer: Any, wait_for: Wait
) -> None:
    before = list(viewer.mouse_drag_callbacks)
    dock.inputs.choice.pick.click()
    assert "Open an image" in _Mouse(viewer, (1.0, 1.0)).click(dock, wait_for)
    viewer.add_image(np.full((48, 64), np.nan, np.float32))
    assert "no finite" in _Mouse(viewer, (1.0, 1.0)).click(dock, wait_for)
    dock.inputs.planes.set_values({"channels": "4"})
    assert "channels" in _Mouse(viewer, (1.0, 1.0)).click(dock, wait_for)
    dock.close()
    assert viewer.mouse_drag_callbacks == before


@pytest.mark.parametrize(
    ("pixels", "rgb"),
    [
        (RNG.integers(0, 255, (48, 64), "u1"), False),
        (RNG.integers(0, 60_000, (48, 64)).astype("u2"), False),
        (RNG.integers(0, 60_000, (40, 30, 3)).astype("u2"), True),
        (RNG.random((48, 64), np.float32), False),
        (RNG.integers(0, 255, (8, 8), "u1"), False),
        (RNG.integers(0, 60_000, (8, 11)).astype("u2"), False),
        (np.broadcast_to((np.arange(10_000) % 251).astype("u1"), (10_000, 10_000)), False),
    ],
    ids=["gray", "16-bit", "16-bit RGB", "float", "8 px", "16-bit 8 px", "10,000 px"],
)
def test_what_the_network_sees_is_drawn_on_images_of_every_kind(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, pixels: np.ndarray, rgb: bool
) -> None:
    layer = viewer.add_image(pixels, rgb=rgb, name="cell")
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) / 2 - 0.5, (width - side) / 2 - 0.5
    assert choose_and_run(dock, wait_for, SALIENCY).startswith("Done")
    (seen,) = (one for one in viewer.layers if isinstance(one, Shapes))
    expected = [[top, left], [top, left + side], [top + side, left + side], [top + side, left]]
    np.testing.assert_allclose(seen.data[0], expected)
    assert seen.name == "cell: seen by the network" and seen.visible
    shown = viewer.layers[-1]
    assert shown.data.shape == (32, 32) and np.isfinite(shown.data).all()
    # The map lies in the box.
    np.testing.assert_allclose(shown.data_to_world((-0.5, -0.5)), (top, left))
    np.testing.assert_allclose(shown.data_to_world((31.5, 31.5)), (top + side, left + side))
    dock.inputs.region.choose(View.WHOLE)
    dock.run()
    wait_for(lambda: dock.idle)
    np.testing.assert_allclose(seen.data[0][0], (-0.5, -0.5))
    np.testing.assert_allclose(seen.data[0][2], (height - 0.5, width - 0.5))
    assert layer in viewer.layers
