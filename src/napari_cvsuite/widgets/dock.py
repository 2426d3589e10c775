"""What the docks are alike in: a bar that runs one job at a time, and a state that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QWidget

from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.frame import Steps, once_after
from napari_cvsuite.widgets.pickers import ModelPicker
from napari_cvsuite.widgets.run_bar import RunBar
from napari_cvsuite.widgets.settings import save_state

__all__ = ["Dock"]

SAVE_MS = 300
"""Time without a change after which the state is kept."""


class Dock(QWidget):
    """The base of a dock; a subclass makes its fields and then calls :meth:`_begin`.

    Parameters
    ----------
    viewer : napari Viewer
    name : str
        Of its state on disk.
    run_key : str
        Keyboard shortcut that runs it.
    verb : str
        Text of the button that runs it.
    """

    def __init__(self, viewer: Viewer, name: str, run_key: str, verb: str) -> None:
        super().__init__()
        self.viewer = viewer
        self._name, self._run_key = name, run_key
        self.runner = JobRunner(self)
        self.run_bar = RunBar(self.runner, verb)
        self.run_bar.button.setToolTip(f"Shortcut: {run_key.replace('-', '+')}")
        self._steps = Steps(self)
        self._timers: list[QTimer] = []
        self._save_later = self._after(SAVE_MS, self._save)

    def _after(self, interval: int, slot: Callable[[], None]) -> QTimer:
        """Return a timer as :func:`once_after` does, which the end of the dock stops."""
        timer = once_after(self, interval, slot)
        self._timers.append(timer)
        return timer

    def _begin(self) -> None:
        """Listen to the viewer and the bar, and say what is wrong with what is chosen."""
        self.run_bar.run_wanted.connect(self.run)
        self.viewer.events.theme.connect(self._recolour)
        self.viewer.bind_key(self._run_key, self._run_from_key, overwrite=True)
        self._recolour()
        self._validate()

    @property
    def idle(self) -> bool:
        """Whether no job runs and the last result is shown in full."""
        return not self.runner.busy and not self._steps.pending

    def run(self) -> None:
        """Do what is chosen; the same as pressing the button."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Stop; the dock is free at once and no layer changes."""
        self.runner.cancel()

    def _run_from_key(self, viewer: Viewer) -> None:
        if self.run_bar.button.isEnabled() and not self.runner.busy:
            self.run()

    def _problem(self) -> tuple[str, QWidget | None]:
        """Return what is wrong before a run, and the field it is in; an empty text for nothing."""
        raise NotImplementedError

    def _may_run(self, *models: ModelPicker) -> bool:
        """Whether a job can start with these models; if not, the bar says why."""
        if self.runner.busy or self._steps.pending:
            return False
        text, _ = self._problem()
        if text:
            self.run_bar.set_problem(text)
        return not text and self._permitted(*models)

    def _permitted(self, *models: ModelPicker) -> bool:
        """Whether the licences of the models are accepted, which is asked for."""
        permitted = all(model.permitted() for model in models)
        if not permitted:
            self.run_bar.say("Without its licence the model cannot be fetched.", "warning")
        return permitted

    def fail(self, text: str) -> None:
        """Say in the bar what went wrong."""
        self.run_bar.say(text, "error")

    def _recolour(self, *_: object) -> None:
        """Take the colours of the viewer's theme."""

    def _changed(self, *_: object) -> None:
        """Note that a field has changed."""
        self._validate()
        self._save_later.start()

    def _validate(self) -> None:
        """Say what is wrong with what is chosen."""
        raise NotImplementedError

    def _state(self) -> dict[str, Any]:
        """Return what is kept for the next time."""
        raise NotImplementedError

    def _save(self) -> None:
        save_state(self._name, self._state())

    def _close_down(self) -> None:
        """Let go of the viewer."""
        raise NotImplementedError

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Cancel what runs, keep the state, and let go of the viewer."""
        for timer in self._timers:
            timer.stop()
        self._save()
        self.runner.close()
        self._steps.clear()
        self.viewer.events.theme.disconnect(self._recolour)
        self._close_down()
        self.viewer.bind_key(self._run_key, None, overwrite=True)
        super().closeEvent(event)
