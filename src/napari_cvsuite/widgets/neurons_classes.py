"""The class that leads at each place in the viewer: as labels, and picked by a click."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal

from napari_cvsuite.images import Image
from napari_cvsuite.widgets import neurons_words as words
from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.neurons_actions import CLASSES
from napari_cvsuite.widgets.neurons_browse import Run, Step
from napari_cvsuite.widgets.neurons_inputs import Inputs
from napari_cvsuite.widgets.neurons_job import class_map
from napari_cvsuite.widgets.neurons_layers import add_labels, clicked
from napari_cvsuite.widgets.neurons_results import Panel

if TYPE_CHECKING:
    from napari_cvsuite.neurons.class_map import ClassMap

__all__ = ["ClassPick", "class_steps"]


def class_steps(viewer: Viewer, panel: Panel, run: Run, found: Sequence[ClassMap]) -> list[Step]:
    """Return the steps that show the class that leads at each place."""

    def add(number: int) -> None:
        one, spot = found[number], run.spot
        assert spot is not None
        known = one.rows()
        add_labels(
            viewer,
            spot,
            f"class at each place, {words.model_of(one)}",
            one.labels,
            one.grid,
            one.provenance | {"measure": one.words},
            # napari names the class under the pointer.
            features={
                "index": [row["label"] for row in known],
                "class": [row["class"] for row in known],
            },
            visible=number == 0,
        )

    tell = partial(panel.show_result, *words.classes(found))
    return [*(partial(add, number) for number in reversed(range(len(found)))), tell]


class ClassPick(QObject):
    """While its button is down, a click on the image chooses the class that leads there.

    Parameters
    ----------
    viewer : napari Viewer
    inputs : Inputs
    parent : QObject, optional

    Signals
    -------
    said (str, str)
        Words for the user, and their kind.
    """

    said = Signal(str, str)

    def __init__(self, viewer: Viewer, inputs: Inputs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._inputs = viewer, inputs
        self._place = (0.0, 0.0)
        self.runner = JobRunner(self)
        self.runner.done.connect(self._choose)
        self.runner.failed.connect(lambda error: self.said.emit(str(error), "error"))
        inputs.choice.pick.toggled.connect(self._toggled)

    def _toggled(self, on: bool) -> None:
        if not on:
            self._viewer.mouse_drag_callbacks.remove(self._clicked)
            self.runner.cancel()
            return
        self._viewer.mouse_drag_callbacks.append(self._clicked)
        layer = self._inputs.image.layer()
        if layer is not None:
            # A click would paint in a Labels layer that happens to be active.
            self._viewer.layers.selection.active = layer
        self.said.emit("Click on the image to choose the class that leads there.", "info")

    def _clicked(self, viewer: Viewer, event: Any) -> Generator[None, None, None]:
        if (yield from clicked(event)):
            self.pick(event.position)

    def pick(self, position: Sequence[float]) -> None:
        """Choose the class that leads at a position of the viewer."""
        inputs, layer = self._inputs, self._inputs.image.layer()
        if layer is None or not inputs.models_here():
            wanted = "Open an image" if layer is None else "Run this once to fetch the model"
            self.said.emit(f"{wanted}; then a click can choose a class.", "warning")
            return
        try:
            options = inputs.choice.forms[CLASSES].read(**inputs.view_options())
            image = Image.from_layer(layer)
        except ValueError as error:
            self.said.emit(str(error), "error")
            return
        y, x = layer.world_to_data(position)[-2:]
        self._place = float(y), float(x)
        self.runner.cancel()
        self.runner.start(partial(class_map, image, options), inputs.device.device(), "pick")

    def _choose(self, found: ClassMap) -> None:
        name = found.class_at(*self._place)
        if name is None:
            self.said.emit("The network does not see this place; click inside its view.", "warning")
            return
        self._inputs.choice.choose_class(name)
        self.said.emit(f"{name} leads there. {found.words}", "info")

    def close_down(self) -> None:
        """Let go of the viewer."""
        self._inputs.choice.pick.setChecked(False)
        self.runner.close()
