"""The Paths dock: a vision transformer as a sum of paths that can be switched off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.queues import JobClass
from napari_cvsuite.jobs.request import Request
from napari_cvsuite.models.local import is_here
from napari_cvsuite.widgets._compat import theme_colours
from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.dock import Dock
from napari_cvsuite.widgets.frame import scrolled
from napari_cvsuite.widgets.neurons_layers import Spot
from napari_cvsuite.widgets.neurons_results import Prediction
from napari_cvsuite.widgets.paths_asks import Asks
from napari_cvsuite.widgets.paths_effect import EffectPicker
from napari_cvsuite.widgets.paths_inputs import Inputs
from napari_cvsuite.widgets.paths_job import Looked, look
from napari_cvsuite.widgets.paths_known import Known, Place
from napari_cvsuite.widgets.paths_layers import MapLayers
from napari_cvsuite.widgets.paths_measures import Measures
from napari_cvsuite.widgets.paths_save import SaveRow
from napari_cvsuite.widgets.paths_tabs import Pages
from napari_cvsuite.widgets.settings import load_state

__all__ = ["RUN_KEY", "PathsDock"]

RUN_KEY = "Control-Shift-V"
"""Keyboard shortcut that runs the dock; napari has taken P for its palette of commands."""
FOLLOW_MS = 300
"""Time without a change after which another slice is looked at, too."""
Work = Callable[[Looked, Context], Any]
Show = Callable[[Any], None]


class PathsDock(Dock):
    """See a vision transformer as parallel paths, and take some of them out.

    Parameters
    ----------
    napari_viewer : napari Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "paths", RUN_KEY, "Look")
        self.live = JobRunner(self)
        self.inputs = Inputs(napari_viewer, self)
        self.prediction = Prediction()
        self.effect = EffectPicker(napari_viewer)
        self.pages = Pages(self.effect)
        self.save_row = SaveRow()
        self.known: Known | None = None
        self.request: Request | None = None
        self._place: Place | None = None
        self._show: Show | None = None
        self._tried: object = None
        self.running = False
        self.asks, self.measures = Asks(self), Measures(self)
        self.layers = MapLayers(napari_viewer, self.asks.patch)
        self._lay_out()
        state = load_state("paths")
        self.inputs.restore(state)
        self.pages.restore(state)
        self.effect.choose(str(state.get("number", "")))
        self.effect.choose_off(str(state.get("off", "")))
        self._connect()
        self._begin()

    def _lay_out(self) -> None:
        inner = QWidget()
        layout = QVBoxLayout(inner)
        parts = (
            self.inputs.top,
            self.run_bar,
            self.prediction,
            self.pages,
            self.save_row,
            self.inputs.more,
        )
        for widget in parts:
            layout.addWidget(widget)
        layout.addStretch()
        scrolled(self, inner)

    def _connect(self) -> None:
        self._follow_later = self._after(FOLLOW_MS, self._follow)
        self.inputs.changed.connect(self._changed)
        self.inputs.target_changed.connect(self._target_changed)
        self.inputs.model.failed.connect(self.fail)
        self.runner.done.connect(self._finish)
        self.runner.started.connect(lambda: self._set_running(True))
        self.runner.ended.connect(lambda: self._set_running(False))
        self.live.done.connect(self.asks.answered)
        self.live.failed.connect(lambda error: self.fail(str(error)))
        for page in self.pages.labelled:
            page.failed.connect(self.fail)
            page.choice.changed.connect(self.busy_changed)
        for table in (self.pages.numbers.table, self.pages.curves.table):
            table.failed.connect(self.fail)
        self.save_row.failed.connect(self.fail)
        self.save_row.saved.connect(lambda path: self.run_bar.say(f"Saved {path}."))
        self.save_row.figure_wanted.connect(self._save_figure)
        self.save_row.recipe_wanted.connect(self._save_recipe)
        self.pages.changed.connect(self._changed)
        self.asks.connect_pages()
        self.measures.connect_pages()
        self.viewer.dims.events.point.connect(self._moved)

    # States ------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no job runs, and the prediction is that of the switches."""
        return super().idle and not self.live.busy

    @property
    def settled(self) -> bool:
        """Whether nothing runs, and nothing is about to."""
        return self.idle and not self._follow_later.isActive()

    def _recolour(self, *_: object) -> None:
        self._colours = theme_colours(self.viewer)
        self.pages.set_colours(*self._colours)

    def busy_changed(self) -> None:
        """Let buttons wait while something runs, and say what they lack."""
        self.pages.set_busy(self.running, self.inputs.model_name())
        self.asks.show_known()

    def _set_running(self, running: bool) -> None:
        self.running = running
        self.busy_changed()

    def _changed(self, *_: object) -> None:
        super()._changed()
        self._moved()

    def _target_changed(self) -> None:
        self._validate()
        self.asks.refresh()

    def _validate(self) -> None:
        text, field = self._problem()
        self.inputs.mark(field)
        self.run_bar.set_problem(text)
        self.busy_changed()

    def _state(self) -> dict[str, Any]:
        numbers = {"number": self.effect.intervention, "off": self.effect.off_intervention}
        return {**self.inputs.state(), **self.pages.state(), **numbers}

    def _problem(self) -> tuple[str, QWidget | None]:
        return self.inputs.problem()

    # Look, and look again where the image changes ----------------------------------------------

    def _here(self) -> Place | None:
        """Return what is chosen to be looked at; None where it does not go together."""
        layer = self.inputs.image.layer()
        if layer is None or not self.inputs.model_name():
            return None
        try:
            options = self.inputs.asked().options
        except ValueError:
            return None
        # The array itself, as another may stand in the same layer by now.
        key = (options, self.inputs.device.device(), id(layer.data))
        return Place(key, Spot.of(layer, self.viewer), layer)

    @property
    def current(self) -> Known | None:
        """What is known, if it is of what is chosen."""
        here = self._here()
        same = here is not None and self.known is not None and here.key == self.known.place.key
        return self.known if same else None

    def _moved(self, *_: object) -> None:
        """Note that another image or slice may be looked at."""
        self.measures.mark_slice()
        if self.known is not None:
            self._follow_later.start()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look at what has changed while nobody saw it."""
        super().showEvent(event)
        self._moved()

    def _follow(self) -> None:
        """Look at another slice as at the first one."""
        if self.known is None or not self.isVisible():
            return
        if self.runner.busy:
            self._follow_later.start()
            return
        stale = self.current is None
        self.prediction.fade(stale)
        here, card = self._here(), self.inputs.model.card()
        # What has failed once fails again; a download is to be asked for.
        if stale and here is not None and here.key != self._tried and card and is_here(card):
            self.run()

    def run(self) -> None:
        """Look at what is chosen; the same as pressing the button."""
        self.ask("look", None, None, anew=True)

    def ask(self, name: str, work: Work | None, show: Show | None, anew: bool = False) -> None:
        """Do something with the image, which is looked at before if that is still to be done.

        Parameters
        ----------
        name : str
        work : callable, optional
            Done on the worker thread.
        show : callable, optional
            Shows what it returns.
        anew : bool
            Look again in any case.
        """
        if not self._may_run():
            return
        here, asked, known = self._here(), self.inputs.asked(), self.current
        assert here is not None
        looked = known.looked if known is not None and not anew else None

        def job(context: Context) -> tuple[Looked, Any]:
            fresh = look(asked, context) if looked is None else looked
            return fresh, None if work is None else work(fresh, context)

        self._tried = here.key
        self._start(name, job, show, here)

    def measure(
        self, name: str, work: Callable[[Context], Any], show: Show, job_class: JobClass = "batch"
    ) -> None:
        """Do something that needs the model, but no look at the image."""
        if self.runner.busy:
            return
        if not self.inputs.model_name():
            self.fail(self._problem()[0])
            return
        self._start(name, lambda context: (None, work(context)), show, None, job_class)

    def _start(
        self,
        name: str,
        job: Callable[[Context], Any],
        show: Show | None,
        place: Place | None,
        job_class: JobClass = "interactive",
    ) -> None:
        if not self._permitted(self.inputs.model):
            return
        self._save()
        self._place, self._show = place, show
        self.runner.start(job, self.inputs.device.device(), name, job_class)

    def _finish(self, outcome: Any) -> None:
        looked, value = outcome
        self.inputs.model.note_fetched()
        self.inputs.device.complete()
        if looked is not None and (self.known is None or looked is not self.known.looked):
            assert self._place is not None
            self.known = Known.of(looked, self._place)
            self.asks.accept()
        if self._show is not None:
            self._show(value)
        self._show = None
        # At the end, since new layers make the fields say what is wrong with them.
        self._say(looked)
        self._moved()

    def _say(self, looked: Looked | None) -> None:
        text = "Done."
        if looked is not None:
            subject = looked.session.subject
            text = f"Done on {subject.device}. Intensity: {looked.session.seen.window}."
            place = self.known.place if self.known is not None else None
            if place is not None and place.layer not in self.viewer.layers:
                text += f" The layer {place.spot.name} is gone; its result is here."
        self.run_bar.say(text)

    # Files -------------------------------------------------------------------------------------

    def _save_figure(self, path: Path) -> None:
        try:
            self.save_row.write(path, self.pages.figure(self._colours[1]))
        except ValueError as error:
            self.fail(str(error))

    def _save_recipe(self, path: Path) -> None:
        if self.request is None:
            self.fail("Run something first: a recipe holds the last job.")
            return
        self.save_row.write(path, self.request.to_yaml().encode())

    # End ---------------------------------------------------------------------------------------

    def _close_down(self) -> None:
        self.live.close()
        self.viewer.dims.events.point.disconnect(self._moved)
        parts = (self.inputs, self.effect, self.pages, self.save_row, self.layers, self.measures)
        for part in parts:
            part.close_down()
        self.known = self._place = self._show = None
