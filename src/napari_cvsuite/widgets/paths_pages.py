"""Pages of the Paths dock that are about one image: picture, numbers and maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
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
from superqt import QLabeledDoubleSlider

from napari_cvsuite.paths.options import MOST_WEIGHT
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
    """The network as parallel paths, a weight for the picked one, a way to put all of them back.

    Signals
    -------
    weighed ()
        The picked path was given another weight by the user.
    stack_wanted ()
        The same is to be done to every slice.
    """

    weighed = Signal()
    stack_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.picture = PathPicture()
        self.hint = QLabel("Switch: take a path out. Number: show where it looks, and weigh it.")
        self.hint.setWordWrap(True)
        self.words = words_label()
        self.weight = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.weight.setRange(0, MOST_WEIGHT)
        self.weight.setDecimals(2)
        self.weight.setSingleStep(0.05)  # type: ignore[arg-type]  # It takes fractions.
        self.weight.setToolTip("0 takes the path out, 1 leaves it as it is.")
        self.stack_button = QPushButton("Apply to stack")
        self.stack_button.setToolTip(
            "Predict every slice without the paths that are out, and with the others as weighed."
        )
        self.all_button = QPushButton("Put all paths back")
        self._lay_out()
        self.picture.toggled.connect(self._toggled)
        self.weight.valueChanged.connect(self._weigh)
        self.stack_button.clicked.connect(lambda _: self.stack_wanted.emit())

    def _lay_out(self) -> None:
        self._weight_of = QLabel()
        weight, row = QHBoxLayout(), QHBoxLayout()
        weight.addWidget(self._weight_of)
        weight.addWidget(self.weight, 1)
        row.addStretch(1)
        row.addWidget(self.stack_button)
        row.addWidget(self.all_button)
        column = _column(self, self.hint, self.picture)
        column.addLayout(weight)
        column.addWidget(self.words)
        column.addLayout(row)
        self._weighing, self._shown = -1, (self.hint, self.stack_button, self.all_button)
        for widget in (self.words, self.weight, self._weight_of, *self._shown):
            widget.setVisible(False)

    def set_paths(self, names: Sequence[str]) -> None:
        """Draw the paths of a network."""
        if len(names) != len(self.picture.boxes):
            self.show_weight(-1)
        self.picture.set_paths(names)
        for widget in self._shown:
            widget.setVisible(bool(names))

    # Weights -----------------------------------------------------------------------------------

    def set_weights(self, weights: Mapping[int, float]) -> None:
        """Weigh these paths, and no others; 0 takes a path out. Nobody is told."""
        self.picture.set_weights(weights)
        self.show_weight(self._weighing)

    def show_weight(self, number: int) -> None:
        """Offer the weight of a path, -1 for none."""
        self._weighing = number
        for widget in (self.weight, self._weight_of):
            widget.setVisible(number >= 0)
        if number >= 0:
            self._weight_of.setText(f"Weight of {self.picture.boxes[number].name}")
            self.weight.blockSignals(True)
            self.weight.setValue(self.picture.weights.get(number, 1.0))
            self.weight.blockSignals(False)

    def _toggled(self, number: int, on: bool) -> None:
        if number == self._weighing:
            self.show_weight(number)

    def _weigh(self, weight: float) -> None:
        before = self.picture.weights
        # The slider counts in fractions of its pixels.
        self.picture.set_weights({**before, self._weighing: round(weight, 2)})
        if self.picture.weights != before:
            self.weighed.emit()

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
