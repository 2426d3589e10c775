"""The bar under a form: run or cancel, progress, place in the queue, one line of words."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_cvsuite.jobs import Progress
from napari_cvsuite.widgets.bridge import JobRunner

__all__ = ["RunBar"]

_COLOURS = {"info": "", "warning": "color: #d9a441;", "error": "color: #e5534b;"}


class RunBar(QWidget):
    """Shows what a :class:`JobRunner` does.

    Parameters
    ----------
    runner : JobRunner
    text : str
        Text of the button.
    """

    run_wanted = Signal()

    def __init__(self, runner: JobRunner, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runner, self._text = runner, text
        self._problem = ""
        self.button = QPushButton(text)
        self.button.setDefault(True)
        self.button.clicked.connect(self._clicked)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setVisible(False)
        self.message = QLabel()
        self.message.setWordWrap(True)
        row = QHBoxLayout()
        row.addWidget(self.button)
        row.addWidget(self.bar, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.message)
        runner.started.connect(self._started)
        runner.ended.connect(self._ended)
        runner.progressed.connect(self._progressed)
        runner.positioned.connect(self._positioned)
        runner.warned.connect(lambda text: self.say(text, "warning"))
        runner.failed.connect(lambda error: self.say(str(error) or type(error).__name__, "error"))
        runner.cancelled.connect(lambda: self.say("Cancelled; no layer was changed."))

    def say(self, text: str, kind: str = "info") -> None:
        """Show a line; `kind` is "info", "warning" or "error"."""
        self.message.setText(text)
        if self.message.styleSheet() != _COLOURS[kind]:
            self.message.setStyleSheet(_COLOURS[kind])

    def set_text(self, text: str) -> None:
        """Give the button another text; while a job runs it says Cancel."""
        self._text = text
        if not self._runner.busy:
            self.button.setText(text)

    def set_problem(self, text: str) -> None:
        """Disable the button and say what is wrong; an empty text enables it."""
        if not self._runner.busy:
            self.button.setEnabled(not text)
            if text:
                self.say(text, "error")
            elif self._problem:
                self.say("")
        self._problem = text

    def _clicked(self) -> None:
        if self._runner.busy:
            self._runner.cancel()
        else:
            self.run_wanted.emit()

    def _started(self) -> None:
        self.button.setText("Cancel")
        self.button.setEnabled(True)
        self.bar.setRange(0, 0)
        self.bar.setVisible(True)
        self.say("")

    def _ended(self) -> None:
        self.button.setText(self._text)
        self.button.setEnabled(not self._problem)
        self.bar.setVisible(False)

    def _progressed(self, progress: Progress) -> None:
        # A bar counts in whole numbers; thousandths are finer than its pixels.
        share = progress.done / progress.total if progress.total else 0.0
        self.bar.setRange(0, 1000 if progress.total else 0)
        self.bar.setValue(round(1000 * share))
        if progress.message:
            self.say(progress.message[0].upper() + progress.message[1:])

    def _positioned(self, position: int) -> None:
        if position > 0:
            place = {1: "next", 2: "2nd", 3: "3rd"}.get(position, f"{position}th")
            self.say(f"Waiting: {place} in the queue")
