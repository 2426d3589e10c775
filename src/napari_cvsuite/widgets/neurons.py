"""The Neurons dock: what a classifier sees in an image, and what misleads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from napari.viewer import Viewer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.neurons.options import NeuronOptions
from napari_cvsuite.widgets._compat import theme_colours
from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.dock import Dock
from napari_cvsuite.widgets.frame import scrolled
from napari_cvsuite.widgets.neurons_actions import CHANNELS
from napari_cvsuite.widgets.neurons_browse import Run
from napari_cvsuite.widgets.neurons_classes import ClassPick
from napari_cvsuite.widgets.neurons_inputs import Inputs
from napari_cvsuite.widgets.neurons_job import glance, one_channel, unit_mask
from napari_cvsuite.widgets.neurons_layers import Spot
from napari_cvsuite.widgets.neurons_results import Prediction
from napari_cvsuite.widgets.neurons_show import Shower, facts_of
from napari_cvsuite.widgets.neurons_task import Task
from napari_cvsuite.widgets.settings import load_state

__all__ = ["RUN_KEY", "NeuronsDock"]

RUN_KEY = "Control-Shift-E"
"""Keyboard shortcut that runs the dock."""
GLANCE_MS = 300
"""Time without a change after which the prediction is made anew."""


class NeuronsDock(Dock):
    """Look into a classifier, or two side by side.

    Parameters
    ----------
    napari_viewer : napari Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "neurons", RUN_KEY, "Map")
        self.glances = JobRunner(self)
        self.inputs = Inputs(napari_viewer, self)
        self.pick = ClassPick(napari_viewer, self.inputs, self)
        self.prediction = Prediction()
        self.shower = Shower(napari_viewer, self)
        self._run: Run | None = None
        self._glanced: object = None
        self._lay_out()
        self.inputs.restore(load_state("neurons"))
        self._connect()
        self._begin()
        self._show_panel()

    def _lay_out(self) -> None:
        inner = QWidget()
        layout = QVBoxLayout(inner)
        parts = (
            self.inputs.top,
            self.prediction,
            self.inputs.choice,
            self.run_bar,
            self.inputs.more,
        )
        for widget in parts:
            layout.addWidget(widget)
        for panel in self.shower.panels.values():
            layout.addWidget(panel, 1)
        layout.addStretch()
        scrolled(self, inner)

    @property
    def settled(self) -> bool:
        """Whether the prediction is that of what is chosen."""
        return not self.glances.busy and not self._glance_later.isActive()

    def _connect(self) -> None:
        self._glance_later = self._after(GLANCE_MS, self._glance)
        inputs = self.inputs
        inputs.changed.connect(self._changed)
        inputs.choice.action_changed.connect(self._show_panel)
        inputs.choice.channel.valueChanged.connect(self._channel_typed)
        for failing in (inputs.model.failed, inputs.other.failed):
            failing.connect(self.fail)
        for panel in self.shower.panels.values():
            panel.failed.connect(self.fail)
        self.pick.said.connect(self.run_bar.say)
        self.runner.done.connect(self._finish)
        self.glances.done.connect(self._glance_done)
        self.glances.failed.connect(self._glance_failed)
        self.shower.unit_wanted.connect(self._show_unit)
        self.shower.channel_wanted.connect(self._show_channel)
        self.shower.browser.channel_chosen.connect(self._channel_shown)
        self.viewer.dims.events.point.connect(self._moved)

    def _recolour(self, *_: object) -> None:
        self.shower.set_colours(*theme_colours(self.viewer))

    def _changed(self, *_: object) -> None:
        super()._changed()
        self._glance_later.start()

    def _moved(self, *_: object) -> None:
        self._glance_later.start()

    def _validate(self) -> None:
        text, field = self._problem()
        self.inputs.mark(field)
        self.run_bar.set_text(self.inputs.action.button)
        self.run_bar.set_problem(text)

    def _state(self) -> dict[str, Any]:
        return self.inputs.state()

    def _problem(self) -> tuple[str, QWidget | None]:
        return self.inputs.problem()

    def _show_panel(self) -> None:
        """Show the last result of what is chosen, and no other."""
        for name, panel in self.shower.panels.items():
            panel.setVisible(name == self.inputs.action.name)

    # The prediction ----------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent | None) -> None:
        """Make the prediction that was not needed while nobody saw it."""
        super().showEvent(event)
        self._glance_later.start()

    def _glance(self) -> None:
        """Say what networks make of the image, once something has changed."""
        layer = self.inputs.image.layer()
        if not self.isVisible():
            return
        if layer is None or not self.inputs.models_here():
            self._forget_glance()
            return
        try:
            options = NeuronOptions(**self.inputs.view_options())
            image = Image.from_layer(layer)
        except ValueError as error:
            self._forget_glance(str(error))
            return
        models, device = self.inputs.models(), self.inputs.device.device()
        # The array itself, as another may stand in the same layer by now.
        wanted = (options, models, device, id(layer.data))
        if wanted == self._glanced:
            return
        self._glanced = wanted
        self.glances.cancel()
        self.prediction.fade(True)
        self.glances.start(
            lambda context: glance(image, options, models, context), device, "predict"
        )

    def _forget_glance(self, text: str = "") -> None:
        self._glanced = None
        self.glances.cancel()
        self.prediction.fade(False)
        self.prediction.say(text)

    def _glance_done(self, found: Any) -> None:
        self.prediction.fade(False)
        self.prediction.show_glances(found)
        self.inputs.choice.layer.set_entries(found[0].layers)

    def _glance_failed(self, error: Exception) -> None:
        self.prediction.fade(False)
        self.prediction.say(str(error))

    # Run ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do what is chosen; the same as pressing the button."""
        if not self._may_run(self.inputs.model, self.inputs.other):
            return
        action, layer = self.inputs.action, self.inputs.image.layer()
        try:
            task = self.inputs.task()
        except ValueError as error:
            self.fail(str(error))
            return
        self._save()
        spot = Spot.of(layer, self.viewer) if layer is not None else None
        self._run = Run(action.name, task, spot, layer if action.needs_image else None)
        self._start(lambda context: action.work(task, context), action.button.lower())

    def _start(self, work: Callable[[Context], Any], name: str) -> None:
        self.runner.start(work, self.inputs.device.device(), name)

    def _finish(self, found: Any) -> None:
        """Show the result bit by bit: napari takes long over a layer, and the window must live."""
        assert self._run is not None
        for picker in (self.inputs.model, self.inputs.other):
            picker.note_fetched()
        run = self._run
        self._steps.add(*self.shower.steps(run, found), lambda: self._say(run, facts_of(found[0])))

    def _say(self, run: Run, facts: dict[str, Any]) -> None:
        self.inputs.device.complete()
        self._glance_later.start()
        text = f"Done on {facts.get('device', self.inputs.device.device())}."
        window = str(facts.get("window", ""))
        text += f" Intensity: {window}." if window else ""
        if run.layer is not None and run.layer not in self.viewer.layers:
            text += f" The layer {run.spot.name if run.spot else ''} is gone; its result is here."
        self.run_bar.say(text)

    # Channels ----------------------------------------------------------------------------------

    def _channel_typed(self, channel: int) -> None:
        if self.inputs.action.name == CHANNELS and self.idle:
            self.shower.browser.show_channel(channel)

    def _channel_shown(self, channel: int) -> None:
        box = self.inputs.choice.channel
        box.blockSignals(True)
        box.setValue(channel)
        box.blockSignals(False)

    def _show_unit(self, run: Run, row: dict[str, Any]) -> None:
        """Compute where the channel of a row is active, as a new layer."""
        channel, threshold = int(row["channel"]), float(row["threshold"])
        concept, model = str(row["concept"]), str(row["model"])
        self._start_again(
            run, lambda task, context: unit_mask(task, model, channel, threshold, concept, context)
        )

    def _show_channel(self, run: Run, row: dict[str, Any]) -> None:
        """Lay the channel of a row over the image, the first one of several."""
        channel, model = int(str(row["channels"]).split(",")[0]), str(row["model"])
        self._start_again(run, lambda task, context: one_channel(task, model, channel, context))

    def _start_again(self, run: Run, work: Callable[[Task, Context], list[Any]]) -> None:
        """Do more with the task of a run, on the slice that is looked at now."""
        if not self.idle:
            return
        layer = run.layer
        if layer is not None and layer in self.viewer.layers:
            spot = Spot.of(layer, self.viewer)
            assert isinstance(run.task.options, NeuronOptions)
            options = replace(run.task.options, plane=spot.number)
            run = replace(run, task=replace(run.task, options=options), spot=spot)
        self._run, task = run, run.task
        self._start(lambda context: work(task, context), "channel")

    # End ---------------------------------------------------------------------------------------

    def _close_down(self) -> None:
        self.glances.close()
        self.pick.close_down()
        self.viewer.dims.events.point.disconnect(self._moved)
        self.inputs.close_down()
        self.shower.close_down()
        self._run = None
