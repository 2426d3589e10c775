"""What the Paths dock is asked of more than one image: curves, pruning, weights, influence."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_cvsuite.images import find_images
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.request import InputReference, Request
from napari_cvsuite.paths.labelled_options import LengthOptions
from napari_cvsuite.paths.options import FrequencyOptions, PathOptions, TargetOptions
from napari_cvsuite.widgets.paths_curves import DEPTH, FREQUENCY
from napari_cvsuite.widgets.paths_inputs import reference
from napari_cvsuite.widgets.paths_job import Looked
from napari_cvsuite.widgets.paths_labelled_job import ACTIONS
from napari_cvsuite.widgets.paths_labelled_page import LabelledPage

if TYPE_CHECKING:
    from napari_cvsuite.paths.counting import Lengths
    from napari_cvsuite.paths.depth import Lens
    from napari_cvsuite.paths.frequency import Frequencies
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

    def connect_pages(self) -> None:
        """Listen to the pages."""
        self._dock.pages.curves.wanted.connect(self.draw)
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
            else:
                self._draw_lengths()
        except ValueError as error:
            self._dock.run_bar.say(str(error), "error")

    def _draw_depth(self) -> None:
        text = self._dock.inputs.target()

        def work(looked: Looked, context: Context) -> tuple[TargetOptions, Lens]:
            from napari_cvsuite.paths.depth import of_session

            options = TargetOptions(**looked.view(), target=text)
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
            given = {one.name: getattr(asked.options, one.name) for one in fields(PathOptions)}
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
            dock.run_bar.say(str(error), "error")
            return

        def show(found: Any) -> None:
            dock.request = task.request()
            page.show_result(task, found)

        action = ACTIONS[task.action]
        dock.measure(action.button.lower(), lambda context: action.work(task, context), show)
