"""Which number a path is given: an intervention, with what it means and what is put instead."""

from __future__ import annotations

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cvsuite.paths.options import INTERVENTIONS
from napari_cvsuite.widgets.paths_plot import align, narrow
from napari_cvsuite.widgets.paths_rows import DIFFERENCE, ESTIMATE
from napari_cvsuite.widgets.pickers import LayerPicker
from napari_cvsuite.widgets.views import is_image

__all__ = ["AT_ONCE", "EffectPicker"]

AT_ONCE = ("direct", "removed_final")
"""Numbers that are there as soon as a network has been run."""
_TITLES = {
    "direct": "direct share (direct)",
    "removed_final": "out of the final sum (removed_final)",
    "total_module": "missing throughout (total_module)",
    "total_edge": "kept from the stream (total_edge)",
    "total_layer": "whole layer missing (total_layer)",
    "total_head": "single head missing (total_head)",
    ESTIMATE: "first-order estimate",
    DIFFERENCE: "direct, less another image's",
}
_REPLACED = ("total_module", "total_edge", "total_layer", "total_head")
_INSTEAD = {
    "zero": "nothing (zero)",
    "slices": "mean of the other slices",
    "layers": "mean of the other images",
    "other": "another image's",
}
_OFF = {
    "removed_final": "out of the final sum (removed_final)",
    "total_module": "missing throughout (total_module)",
}
_EXPLAINED = {
    **INTERVENTIONS,
    DIFFERENCE: "Direct share of each path less that in another image: what makes the two differ.",
}


class EffectPicker(QWidget):
    """Chooses an intervention, what is written instead, and what switching off means.

    Parameters
    ----------
    viewer : napari Viewer

    Signals
    -------
    changed ()
        Another number is to be shown.
    off_changed ()
        Switching off means something else, or something else is written instead.
    wanted ()
        The number is to be computed.
    """

    changed = Signal()
    off_changed = Signal()
    wanted = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.number = QComboBox()
        for name, title in _TITLES.items():
            self.number.addItem(title, name)
            place = self.number.count() - 1
            self.number.setItemData(place, _EXPLAINED[name], Qt.ItemDataRole.ToolTipRole)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.kind = QComboBox()
        for name, title in _INSTEAD.items():
            self.kind.addItem(title, name)
        self.kind.setToolTip("What later layers get in the place of what a path writes.")
        self.other = LayerPicker(viewer, is_image)
        self.button = QPushButton("Compute")
        self.button.clicked.connect(lambda _: self.wanted.emit())
        self.off = QComboBox()
        for name, title in _OFF.items():
            self.off.addItem(title, name)
        self.off.setToolTip("What the switches of the picture do to a path.")
        self._lay_out()
        self.number.currentIndexChanged.connect(lambda _: self._tell(True))
        self.kind.currentIndexChanged.connect(lambda _: self._tell(True))
        self.other.changed.connect(lambda: self._tell(True))
        self.off.currentIndexChanged.connect(lambda _: self._tell(False))
        self._arrange()

    def _lay_out(self) -> None:
        first, self._form = QFormLayout(), QFormLayout()
        first.addRow("Show", self.number)
        self._form.addRow("Instead", self.kind)
        self._form.addRow("Other image", self.other)
        self._form.addRow("Switched off", self.off)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(first)
        # A label that wraps gets too much room among the rows of a form.
        column.addWidget(self.words)
        column.addLayout(self._form)
        column.addWidget(self.button)
        for form in (first, self._form):
            align(form)
        for box in self.findChildren(QComboBox):
            narrow(box)

    @property
    def intervention(self) -> str:
        """Name of the intervention whose number is shown."""
        return str(self.number.currentData())

    @property
    def off_intervention(self) -> str:
        """Name of the intervention that a switch makes."""
        return str(self.off.currentData())

    def instead(self) -> tuple[str, Layer | None]:
        """Return what is written instead, and the other image where it is another image's."""
        if self.intervention == DIFFERENCE:
            return "other", self.other.layer()
        if self.intervention in _REPLACED:
            return str(self.kind.currentData()), self.other.layer()
        return "zero", None

    def off_instead(self) -> tuple[str, Layer | None]:
        """Return the same for switches."""
        if self.off_intervention == "removed_final":
            return "zero", None
        return str(self.kind.currentData()), self.other.layer()

    def choose(self, intervention: str) -> None:
        """Choose an intervention; an unknown one changes nothing."""
        place = self.number.findData(intervention)
        if place >= 0:
            self.number.setCurrentIndex(place)

    def choose_off(self, intervention: str) -> None:
        """Choose what switching off means; an unknown one changes nothing."""
        place = self.off.findData(intervention)
        if place >= 0:
            self.off.setCurrentIndex(place)

    def choose_instead(self, kind: str, other: Layer | None = None) -> None:
        """Choose what is written instead; an unknown one changes nothing."""
        place = self.kind.findData(kind)
        if place >= 0:
            self.kind.setCurrentIndex(place)
        if other is not None:
            self.other.choose(other)

    def show_known(self, known: bool, ready: bool) -> None:
        """Offer to compute the number where it is not known and could be."""
        self.button.setVisible(not known)
        self.button.setEnabled(ready)

    def show_switches(self, shown: bool) -> None:
        """Show or hide what switching off means."""
        self._show(self.off, shown)

    def _tell(self, number: bool) -> None:
        self._arrange()
        if number:
            self.changed.emit()
        self.off_changed.emit()

    def _arrange(self) -> None:
        name = self.intervention
        self.words.setText(f"<i>{_EXPLAINED[name]}</i>")
        replaced = name in _REPLACED or self.off_intervention == "total_module"
        self._show(self.kind, replaced)
        another = replaced and self.kind.currentData() == "other"
        self._show(self.other, another or name == DIFFERENCE)

    def _show(self, field: QWidget, shown: bool) -> None:
        label = self._form.labelForField(field)
        if label is not None:
            label.setVisible(shown)
        field.setVisible(shown)

    def close_down(self) -> None:
        """Let go of the viewer."""
        self.other.close_down()
