"""Where the files of a report on a pair lie: folders and files to choose in the Neurons dock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QToolButton,
    QWidget,
)

from napari_cvsuite.widgets.neurons_task import PairData

__all__ = ["DataFields", "PathField"]


_TITLES = {"images": "Image folder", "out": "Write into"}


class PathField(QWidget):
    """A folder, or a file, that may be left out.

    Parameters
    ----------
    holds : str
        What it holds, in words.
    files : str
        Filter of a dialog for files; empty for a folder.
    """

    changed = Signal()

    def __init__(self, holds: str, files: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._holds, self._files = holds, files
        self.path: Path | None = None
        self.button = QPushButton()
        self.button.clicked.connect(self._ask)
        self.clear_button = QToolButton()
        self.clear_button.setText("✕")
        self.clear_button.setToolTip("Leave it out.")
        self.clear_button.clicked.connect(lambda: self.set_path(None))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.button, 1)
        row.addWidget(self.clear_button)
        self.set_path(None)

    def set_path(self, path: Path | None) -> None:
        """Choose a path, or none."""
        self.path = path
        self.button.setText(path.name or str(path) if path else "Choose…")
        self.button.setToolTip(str(path) if path else f"{self._holds}.")
        self.clear_button.setEnabled(path is not None)
        self.changed.emit()

    def _ask(self) -> None:
        if self._files:
            path, _ = QFileDialog.getOpenFileName(self, self._holds, "", self._files)
        else:
            path = QFileDialog.getExistingDirectory(self, self._holds)
        if path:
            self.set_path(Path(path))


class DataFields(QWidget):
    """The files that a report on a pair is made from, and the folder it goes into."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.column = QLineEdit("label")
        self.column.setToolTip("Column of the labels in the table.")
        self.paths = {
            "images": PathField("Folder with a folder of images for each class, or of images"),
            "table": PathField("Table of labels, for images without such folders", "CSV (*.csv)"),
            "stimuli": PathField("Folder of cue-conflict images named SHAPE1-TEXTURE1.png"),
            "masks": PathField(
                "Folder of label images named like the images, or of such folders, one a group"
            ),
            "names": PathField('Names of the labels, such as {"1": "nucleus"}', "JSON (*.json)"),
            "out": PathField("Folder for report.html and report.json"),
        }
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        for name, field in self.paths.items():
            form.addRow(_TITLES.get(name, name.capitalize()), field)
            if name == "table":
                form.addRow("Column", self.column)
            field.changed.connect(self.changed)
        self.column.textChanged.connect(lambda _: self.changed.emit())

    def value(self) -> PairData:
        """Return what is chosen; an empty column is the usual one."""
        chosen = {name: field.path for name, field in self.paths.items()}
        return PairData(column=self.column.text().strip() or "label", **chosen)

    def state(self) -> dict[str, str]:
        """Return what is kept between sessions."""
        chosen = {name: str(one.path) for name, one in self.paths.items() if one.path}
        return chosen | {"column": self.column.text()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Choose what was kept; what is no longer there is passed over."""
        for name, field in self.paths.items():
            path = Path(str(state.get(name, "")))
            if name in state and path.exists():
                field.set_path(path)
        self.column.setText(str(state.get("column", "label")))
