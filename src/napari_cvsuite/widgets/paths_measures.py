"""What the Paths dock is asked of more than one image: curves, pruning, weights, influence."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QObject

from napari_cvsuite.images import find_images
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.request import InputReference, Request
from napari_cvsuite.paths.labelled_options import LengthOptions
from napari_cvsuite.paths.options import FrequencyOptions, TargetOptions
from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets.neurons_layers import Spot
from napari_cvsuite.widgets.paths_curves import DEPTH, FREQUENCY, STACK
from napari_cvsuite.widgets.paths_inputs import reference
from napari_cvsuite.widgets.paths_job import Looked
from napari_cvsuite.widgets.paths_labelled_job import ACTIONS
from napari_cvsuite.widgets.paths_labelled_page import LabelledPage
from napari_cvsuite.widgets.paths_tabs import CURVES

if TYPE_CHECKING:
    from napari_cvsuite.paths.counting import Lengths
    from napari_cvsuite.paths.depth import Lens
    from napari_cvsuite.paths.frequency import Frequencies
    from napari_cvsuite.paths.stack import StackEffects
    from napari_cvsuite.widgets.paths import PathsDock

__all__ = ["Measures"]


class Measures(QObject):
    """Curves, and what is measured over folders.

    Parameters
    ----------
    dock : PathsDock
    """

    def __init__(self, dock: PathsDock) -> None:
        super().__init__(dock)
        self._dock = dock
        self._stack: Layer | None = None

    def connect_pages(self) -> None:
        """Listen to the pages."""
        pages = self._dock.pages
        pages.curves.wanted.connect(self.draw)
        pages.curves.slice_chosen.connect(self._go_to)
        pages.picture_page.stack_wanted.connect(self.apply_to_stack)
        for page in self._dock.pages.labelled:
            page.wanted.connect(partial(self.measure, page))

    def draw(self) -> None:
        """Draw the chosen curve."""
        name = self._dock.pages.curves.what.currentText()
        try:
            if name == DEPTH:
                self._draw_depth()
            elif name == FREQUENCY:
                self._draw_frequencies()
            elif name == STACK:
                self._draw_stack()
            else:
                self._draw_lengths()
        except ValueError as error:
            self._dock.fail(str(error))

    def _draw_depth(self) -> None:
        text = self._dock.inputs.target()

        def work(looked: Looked, context: Context) -> tuple[TargetOptions, Lens]:
            from napari_cvsuite.paths.depth import of_session

            options = TargetOptions(**looked.asked.view(), target=text)
            return options, of_session(looked.session, options)

        def show(made: tuple[TargetOptions, Lens]) -> None:
            options, found = made
            assert self._dock.known is not None
            self._dock.request = self._dock.known.request("paths.depth", options)
            self._dock.pages.curves.show_lens(found)

        self._dock.ask("depth", work, show)

    def _draw_frequencies(self) -> None:
        inputs, pages = self._dock.inputs, self._dock.pages
        folder, layer = pages.curves.folder.path, inputs.image.layer()
        images: list[Any] = []
        if folder is not None:
            given: dict[str, Any] = {**inputs.planes.values(), "model": inputs.model_name()}
            found = InputReference("file", str(folder))
        elif layer is not None:
            asked = inputs.asked()
            images = [asked.image]
            given = asked.view()
            found = reference(layer)
        else:
            raise ValueError("Open an image, or choose a folder of images to average.")
        options = FrequencyOptions(**given, off=pages.off_names())

        def work(context: Context) -> Frequencies:
            from napari_cvsuite.paths.frequency import run

            return run(images if folder is None else [*find_images(folder)], options, context)

        def show(made: Frequencies) -> None:
            self._dock.request = Request("paths.frequency", options, (found,))
            pages.curves.show_frequencies(made)

        self._dock.measure("frequencies", work, show)

    def apply_to_stack(self) -> None:
        """Do to every slice of the image what the switches and weights do to the shown one."""
        self._dock.pages.curves.choose(STACK)
        self._dock.pages.choose(CURVES)
        self.draw()

    def _draw_stack(self) -> None:
        dock = self._dock
        layer, changes = dock.inputs.image.layer(), dock.pages.changes()
        if layer is None:
            raise ValueError("Open a stack to look through.")
        if not any(changes):
            raise ValueError("In the picture, switch a path off or weigh one, then apply it here.")
        asked, instead = dock.inputs.asked(), dock.inputs.instead(*dock.effect.off_instead())
        options = asked.what_if(
            dock.effect.off_intervention, instead.kind, dock.inputs.target(), *changes
        )

        def work(context: Context) -> StackEffects:
            from napari_cvsuite.paths.stack import run

            return run(asked.image, options, context, instead.others)

        def show(found: StackEffects) -> None:
            dock.request = Request("paths.stack", options, (reference(layer), *instead.references))
            self._stack = layer
            dock.pages.curves.show_stack(found)
            self.mark_slice()

        dock.measure("stack", work, show)

    def mark_slice(self) -> None:
        """Mark the slice that the viewer shows, where the slices of its stack are drawn."""
        layer, viewer = self._stack, self._dock.viewer
        if layer in viewer.layers:
            self._dock.pages.curves.mark_slice(Spot.of(layer, viewer).number)

    def _go_to(self, number: int) -> None:
        """Show a slice of the stack."""
        layer, viewer = self._stack, self._dock.viewer
        if layer not in viewer.layers:
            self._dock.run_bar.say("The stack is gone.", "warning")
            return
        place = np.unravel_index(number, regions.whole(layer).shape[:-2])
        regions.go_to(viewer, layer, {axis: int(index) for axis, index in enumerate(place)})

    def close_down(self) -> None:
        """Let go of the stack."""
        self._stack = None

    def _draw_lengths(self) -> None:
        options = LengthOptions(model=self._dock.inputs.model_name())

        def work(context: Context) -> Lengths:
            from napari_cvsuite.paths.counting import run

            return run(options, context)

        def show(made: Lengths) -> None:
            self._dock.request = Request("paths.lengths", options)
            self._dock.pages.curves.show_lengths(made)

        self._dock.measure("lengths", work, show, "interactive")

    def measure(self, page: LabelledPage, out: Path | None) -> None:
        """Measure what a page asks for, or write the model that it shows into a folder."""
        dock = self._dock
        try:
            if out is None:
                task = page.choice.task(dock.inputs.model_name(), dock.pages.off_names())
            else:
                assert page.task is not None
                made = type(page.task.options)(**page.export_options())
                task = replace(page.task, options=made, out=out)
        except ValueError as error:
            dock.fail(str(error))
            return

        def show(found: Any) -> None:
            dock.request = task.request()
            page.show_result(task, found)

        action = ACTIONS[task.action]
        dock.measure(action.button.lower(), lambda context: action.work(task, context), show)
