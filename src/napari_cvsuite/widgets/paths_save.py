"""Buttons that save a picture of the Paths dock, and what to do to get the same again."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QBuffer, QIODevice, QPoint, Signal
from qtpy.QtGui import QColor, QImage, QPainter
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_cvsuite.images import replacing
from napari_cvsuite.jobs import Context
from napari_cvsuite.widgets.bridge import JobRunner

__all__ = ["SaveRow", "png_of"]

_FINER = 2


def png_of(widget: QWidget, back: str) -> bytes:
    """Return a picture of a widget as a file, twice as fine as on the screen.

    Parameters
    ----------
    widget : QWidget
    back : str
        Colour that it stands on.
    """
    image = QImage(widget.size() * _FINER, QImage.Format.Format_ARGB32)
    image.setDevicePixelRatio(_FINER)
    image.fill(QColor(back))
    painter = QPainter(image)
    widget.render(painter, QPoint(0, 0))
    painter.end()
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    return bytes(buffer.data().data())


class SaveRow(QWidget):
    """Two buttons, and the files they write in the background.

    Signals
    -------
    figure_wanted, recipe_wanted (Path)
    saved (str)
        A file was written.
    failed (str)
    """

    figure_wanted = Signal(object)
    recipe_wanted = Signal(object)
    saved = Signal(str)
    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.figure_button = QPushButton("Save figure…")
        self.figure_button.setToolTip("The picture or plot of this page as a PNG file.")
        self.recipe_button = QPushButton("Save recipe…")
        self.recipe_button.setToolTip("The last job with its options and inputs as a YAML file.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.figure_button)
        row.addWidget(self.recipe_button)
        self._runner = JobRunner(self)
        self._runner.done.connect(lambda path: self.saved.emit(str(path)))
        self._runner.failed.connect(lambda error: self.failed.emit(f"Not saved: {error}"))
        self.figure_button.clicked.connect(lambda _: self._ask("figure"))
        self.recipe_button.clicked.connect(lambda _: self._ask("recipe"))

    def _ask(self, what: str) -> None:
        kinds = {"figure": "PNG (*.png)", "recipe": "YAML (*.yaml)"}
        name = {"figure": "paths.png", "recipe": "paths.yaml"}
        path, _ = QFileDialog.getSaveFileName(self, f"Save {what}", name[what], kinds[what])
        if path:
            wanted = self.figure_wanted if what == "figure" else self.recipe_wanted
            wanted.emit(Path(path))

    def write(self, path: Path, content: bytes) -> None:
        """Write a file in the background, whole or not at all."""

        def work(context: Context) -> Path:
            with replacing(path) as partial:
                partial.write_bytes(content)
            return path

        if not self._runner.busy:
            self._runner.start(work, "io", "save")

    def close_down(self) -> None:
        """Cancel a save that is going on."""
        self._runner.close()
