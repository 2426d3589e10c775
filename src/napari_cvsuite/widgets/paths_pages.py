"""Pages of the Paths dock that are about one image: picture, numbers and maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_cvsuite.widgets.neurons_fields import EntryBox
from napari_cvsuite.widgets.neurons_results import NumberModel
from napari_cvsuite.widgets.object_table import ObjectTable
from napari_cvsuite.widgets.paths_picture import PathPicture
from napari_cvsuite.widgets.paths_plot import PathPlot, align, narrow, show_rows, words_label
from napari_cvsuite.widgets.paths_rows import facts_columns

if TYPE_CHECKING:
    from napari_cvsuite.paths.maps import PathMap

__all__ = ["MapsPage", "NumbersPage", "PicturePage"]

_MAPS = {
    "share": "share drawn from each patch",
    "attention": "attention of the class token",
    "rollout": "attention through all layers (rollout)",
    "relevance": "relevance for the class (Chefer)",
    "similarity": "similarity to the class token",
    "token_norm": "length of the tokens",
}


def _column(page: QWidget, *widgets: QWidget) -> QVBoxLayout:
    column = QVBoxLayout(page)
    column.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        column.addWidget(widget)
    return column


class PicturePage(QWidget):
    """The network as parallel paths, with a way to put all of them back."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.picture = PathPicture()
        self.hint = QLabel("Switch: take a path out. Number: show where it looks.")
        self.hint.setWordWrap(True)
        self.words = words_label()
        self.all_button = QPushButton("Put all paths back")
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.all_button)
        column = _column(self, self.hint, self.picture, self.words)
        column.addLayout(row)
        self.words.setVisible(False)
        self.hint.setVisible(False)
        self.all_button.setVisible(False)

    def set_paths(self, names: Sequence[str]) -> None:
        """Draw the paths of a network."""
        self.picture.set_paths(names)
        self.hint.setVisible(bool(names))
        self.all_button.setVisible(bool(names))

    def say(self, text: str) -> None:
        """Show words under the picture; none hides them."""
        self.words.setText(text)
        self.words.setVisible(bool(text))


class NumbersPage(QWidget):
    """Bars of paths, and a table with a column for each intervention."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = PathPlot()
        self.words = words_label()
        self.table = ObjectTable("parts", NumberModel(), "paths.csv")
        self.table.setMinimumHeight(240)
        _column(self, self.plot, self.words, self.table)
        self.words.setVisible(False)

    def show_rows(self, rows: Sequence[dict[str, Any]], words: str) -> None:
        """Show rows as they come, and words above them."""
        self.words.setText(words)
        self.words.setVisible(bool(words))
        show_rows(self.table, rows, facts_columns())


class MapsPage(QWidget):
    """Which map to lay over the image."""

    wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kind = QComboBox()
        for name, title in _MAPS.items():
            self.kind.addItem(title, name)
        self.path = EntryBox("all paths together", "Path whose share is mapped.")
        self.layer = self._number("last", "Layer, from 0.")
        self.head = self._number("all together", "Attention head, from 0.")
        self.button = QPushButton("Show map")
        self.words = words_label()
        self._form = QFormLayout()
        self._form.addRow("Map", self.kind)
        self._form.addRow("Path", self.path)
        self._form.addRow("Layer", self.layer)
        self._form.addRow("Head", self.head)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        align(self._form)
        column.addLayout(self._form)
        column.addWidget(self.button)
        column.addWidget(self.words)
        column.addStretch(1)
        for box in self.findChildren(QComboBox):
            narrow(box)
        self.kind.currentIndexChanged.connect(lambda _: self._arrange())
        self.button.clicked.connect(lambda _: self.wanted.emit())
        self._arrange()

    def _number(self, special: str, tip: str) -> QSpinBox:
        box = QSpinBox()
        box.setRange(-1, 1000)
        box.setValue(-1)
        box.setSpecialValueText(special)
        box.setToolTip(tip)
        return box

    def _arrange(self) -> None:
        kind = self.kind.currentData()
        shown: dict[QWidget, bool] = {
            self.path: kind == "share",
            self.layer: kind in ("attention", "similarity", "token_norm"),
            self.head: kind in ("share", "attention"),
        }
        for field, visible in shown.items():
            label = self._form.labelForField(field)
            if label is not None:
                label.setVisible(visible)
            field.setVisible(visible)

    def set_paths(self, names: Sequence[str]) -> None:
        """Offer the paths of a network."""
        self.path.set_entries(names)

    def options(self) -> dict[str, Any]:
        """Return what is chosen, as options of a map."""
        kind = str(self.kind.currentData())
        path = self.path.value() if kind == "share" else ""
        heads = kind == "attention" or path.startswith("msa_")
        return {
            "kind": kind,
            "path": path,
            "layer": self.layer.value() if self.layer.isVisibleTo(self) else -1,
            "head": self.head.value() if heads else -1,
        }

    def show_map(self, found: PathMap) -> None:
        """Say what a map is of."""
        lines = [f"<b>{found.name}</b>, {found.values.shape[0]} × {found.values.shape[1]} patches."]
        if found.total is not None and found.own is not None:
            lines.append(
                f"The patches give {found.total - found.own:+.3f} of {found.total:+.3f}; the rest, "
                f"{found.own:+.3f}, comes from what has no place in the image: the class token."
            )
        lines.append("<i>Click a patch of the map to see what every path draws from it.</i>")
        self.words.setText("<br>".join(lines))
