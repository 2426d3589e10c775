"""Offer to keep a model that was made in a dock, under a name that is asked for."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QInputDialog, QWidget

from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.pickers import ModelPicker
from napari_cvsuite.widgets.run_bar import RunBar

__all__ = ["ModelKeeper"]


class ModelKeeper(QWidget):
    """Asks for the name of a new model, writes it, and chooses it; shows nothing itself.

    Parameters
    ----------
    model : ModelPicker
        Gets the new model.
    run_bar : RunBar
        Says what happened.
    title : str
        Of the question.
    suggestion : str
        Name that stands there at first.
    parent : QWidget
    """

    def __init__(
        self, model: ModelPicker, run_bar: RunBar, title: str, suggestion: str, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self.setVisible(False)
        self._model, self._run_bar = model, run_bar
        self._title, self._suggestion = title, suggestion
        self._open = True
        self._runner = JobRunner(self)
        self._runner.done.connect(self._kept)
        self._runner.failed.connect(lambda error: run_bar.say(str(error), "error"))

    @property
    def busy(self) -> bool:
        """Whether a model is being written."""
        return self._runner.busy

    def offer(self, text: str, better: bool, keep: Callable[[str], str]) -> None:
        """Say what a new model promises before anything is kept.

        Parameters
        ----------
        text : str
            What was found out.
        better : bool
            Only what is better can be kept.
        keep : callable
            Name -> name of the model that was written; called on a worker thread.
        """
        if not better:
            self._run_bar.say(f"{text} No better, so it is not kept.")
            return
        self._run_bar.say(text)
        # Later, since a dialogue lets the timer of the dock run on.
        QTimer.singleShot(0, lambda: self._ask(text, keep))

    def _ask(self, text: str, keep: Callable[[str], str]) -> None:
        if not self._open:
            return
        question = f"{text}\nName of the new model:"
        name, yes = QInputDialog.getText(
            self.parentWidget(), self._title, question, text=self._suggestion
        )
        if not self._open:
            return
        if not yes or not name.strip():
            self._run_bar.say(f"{text} Not kept.")
            return
        self._runner.start(lambda context: keep(name.strip()), "io", "keep the model")

    def _kept(self, name: str) -> None:
        self._model.refresh()
        self._model.choose(name)
        self._run_bar.say(f"Kept as {name}, and chosen.")

    def close_down(self) -> None:
        """Cancel the writing of a model that is going on, and ask for no name any more."""
        self._open = False
        self._runner.close()
