"""Learning from corrections in the Segment dock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from docks import Wait, answered, opened, run
from napari.layers import Labels

from napari_cvsuite.jobs import Context
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.segmentation.corrected import Corrected
from napari_cvsuite.widgets import segment
from napari_cvsuite.widgets.segment import SegmentDock
from napari_cvsuite.widgets.segment_retrain import learn
from napari_cvsuite.widgets.settings import load_state

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (160, 192), "u1")


@pytest.fixture
def dock(viewer: Any, tiny_model: str) -> Iterator[SegmentDock]:
    yield from opened(SegmentDock(viewer), tiny_model)


def _painted(shape: tuple[int, ...] = (160, 192)) -> np.ndarray[Any, Any]:
    labels = np.zeros(shape, "u1")
    for number, left in enumerate(range(10, shape[-1], 40), 1):
        labels[..., 10:30, left : left + 20] = number
        labels[..., 90:120, left : left + 16] = number + 9
    return labels


def _texts(dock: SegmentDock) -> list[str]:
    rows = dock.retrain.rows
    return [item.text() for i in range(rows.count()) if (item := rows.item(i)) is not None]


def test_nothing_can_be_learned_before_something_was_added(dock: SegmentDock, viewer: Any) -> None:
    box = dock.retrain
    assert not box.add_button.isEnabled() and not box.learn_button.isEnabled()
    viewer.add_image(IMAGE, name="cells")
    viewer.add_labels(np.zeros((20, 20), "u1"), name="elsewhere", translate=(150, 0))
    assert not box.add_button.isEnabled()
    viewer.add_labels(_painted(), name="right")
    box.add_button.click()
    assert _texts(dock) == ["cells ↔ right (160 × 192)"]
    assert box.learn_button.isEnabled() and "1 image…" in box.learn_button.text()
    # The same pair again takes the place of the first.
    box.add_button.click()
    assert box.rows.count() == 1
    box.remove_button.click()
    assert box.rows.count() == 0 and not box.learn_button.isEnabled()


def test_layers_that_go_leave_the_list(dock: SegmentDock, viewer: Any) -> None:
    first, second = viewer.add_image(IMAGE), viewer.add_image(IMAGE)
    labels = viewer.add_labels(_painted())
    for image in (first, second):
        dock.image.choose(image)
        dock.retrain.add()
    assert dock.retrain.rows.count() == 2 and "2 images" in dock.retrain.learn_button.text()
    viewer.layers.remove(first)
    assert dock.retrain.rows.count() == 1
    viewer.layers.remove(labels)
    assert dock.retrain.rows.count() == 0


def test_what_is_learned_is_what_is_painted_and_where(dock: SegmentDock, viewer: Any) -> None:
    viewer.add_image(IMAGE, scale=(0.5, 0.5), translate=(3, 4))
    labels = viewer.add_labels(_painted(), scale=(0.5, 0.5), translate=(3, 4))
    shapes = viewer.add_shapes(
        [np.array([[20, 30], [120, 180]])], scale=(0.5, 0.5), translate=(3, 4)
    )
    dock.shapes.choose(shapes)
    dock.retrain.add()
    assert "(100 × 150)" in _texts(dock)[0]
    labels.data[25, 40] = 9
    [example] = dock.retrain.corrected()
    assert example.labels[5, 10] == 9
    np.testing.assert_array_equal(example.image.data, IMAGE[20:120, 30:180])
    # Painting goes on while it learns.
    labels.data[25, 40] = 0
    assert example.labels[5, 10] == 9
    labels.translate = (50, 4)
    with pytest.raises(ValueError, match="add it again"):
        dock.retrain.corrected()


def test_labels_of_a_part_are_learned_with_that_part(
    dock: SegmentDock, viewer: Any, wait_for: Wait
) -> None:
    viewer.add_image(np.stack([IMAGE] * 3), scale=(2, 1, 1))
    viewer.dims.set_current_step(0, 1)
    shapes = viewer.add_shapes([np.array([[1, 16, 20], [1, 16, 116], [1, 80, 116], [1, 80, 20]])])
    dock.shapes.choose(shapes)
    dock.planes.setCurrentText("current plane")
    run(dock, wait_for)
    made = dock._shown
    assert isinstance(made, Labels) and made.data.shape == (1, 64, 96)
    dock.retrain.labels.choose(made)
    dock.retrain.add()
    [example] = dock.retrain.corrected()
    assert example.labels.shape == (1, 64, 96)
    np.testing.assert_array_equal(example.image.data, IMAGE[None, 16:80, 20:116])


def test_a_better_model_is_offered_kept_and_chosen(
    dock: SegmentDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answered(monkeypatch, "mine")
    # How well it learns is for the tests of the job.
    monkeypatch.setattr(segment, "learn", lambda *given: replace(learn(*given), better=True))
    painted = _painted()
    viewer.add_image(np.where(painted > 0, 200, 50).astype("u1"))
    viewer.add_labels(painted)
    dock.retrain.add()
    dock.retrain.form.set_values({"epochs": 1})
    dock.retrain.learn_button.click()
    assert not dock.retrain.learn_button.isEnabled()
    wait_for(lambda: dock.idle)
    assert dock.retrain.learn_button.isEnabled()
    wait_for(lambda: bool(asked) and not dock.keeper.busy)
    assert "Dice of the held-out quarter" in asked[0]
    wait_for(lambda: "Kept as mine" in dock.run_bar.message.text())
    card = dock.model.card()
    assert card is not None and card.name == "mine" and "mine" in Catalogue()
    # The labels themselves are only read.
    np.testing.assert_array_equal(viewer.layers[-1].data, painted)
    assert "objects" in run(dock, wait_for)


def test_the_options_are_those_of_the_dock_and_are_kept(
    dock: SegmentDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch, tiny_model: str
) -> None:
    seen: list[Any] = []

    def learn(corrected: list[Corrected], options: Any, context: Context) -> None:
        seen.append(options)
        raise ValueError("nothing today")

    monkeypatch.setattr(segment, "learn", learn)
    viewer.add_image(np.stack([IMAGE] * 3, -1), rgb=True)
    viewer.add_labels(_painted())
    dock.retrain.add()
    dock.form.set_values({"stain": "hematoxylin", "channels": "0"})
    dock.retrain.form.set_values({"epochs": 7})
    dock.learn()
    wait_for(lambda: dock.idle)
    assert dock.run_bar.message.text() == "nothing today"
    [options] = seen
    assert (options.model, options.epochs) == (tiny_model, 7)
    assert (options.stain, options.channels, options.name) == ("hematoxylin", "0", "")
    dock.close()
    assert load_state("segment")["learning"]["epochs"] == 7


def test_what_cannot_be_learned_from_is_said(
    dock: SegmentDock, viewer: Any, wait_for: Wait
) -> None:
    viewer.add_image(IMAGE)
    labels = viewer.add_labels(np.zeros_like(IMAGE))
    dock.retrain.add()
    dock.learn()
    wait_for(lambda: dock.idle)
    assert "paint what should be found" in dock.run_bar.message.text()
    labels.translate = (7.5, 0)
    dock.learn()
    assert "add it again" in dock.run_bar.message.text()
    shapes = viewer.add_shapes([np.array([[500, 500], [600, 600]])])
    labels.translate = (0, 0)
    dock.retrain.labels.refresh()
    dock.shapes.choose(shapes)
    dock.retrain.add()
    assert "outside the image" in dock.run_bar.message.text()


def test_a_learning_can_be_cancelled(dock: SegmentDock, viewer: Any, wait_for: Wait) -> None:
    painted = _painted()
    viewer.add_image(IMAGE)
    viewer.add_labels(painted)
    dock.retrain.add()
    dock.retrain.form.set_values({"epochs": 500})
    dock.learn()
    wait_for(lambda: "loss" in dock.run_bar.message.text())
    dock.cancel()
    assert not dock.runner.busy
    wait_for(lambda: dock.idle)
    assert dock.retrain.learn_button.isEnabled()
    np.testing.assert_array_equal(viewer.layers[-1].data, painted)
