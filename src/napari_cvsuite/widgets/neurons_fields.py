"""Inputs that the Neurons dock has beside those all docks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari.layers import Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QCompleter,
    QDoubleSpinBox,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QSlider,
    QWidget,
)

from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.widgets.pickers import ModelPicker

__all__ = ["ConceptList", "EntryBox", "RadiusField", "SecondPicker", "knows"]

_STEPS = 200
_NUMBER = 140
_ROW = 22
_SHOWN = 4


class EntryBox(QComboBox):
    """Texts to choose from, a first entry that stands for the empty text, and a search.

    Attributes
    ----------
    wanted : str
        What was chosen last; the texts may not have it (yet).
    """

    def __init__(self, first: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._first = first
        self.wanted = ""
        self.setToolTip(tip)
        self.setMinimumContentsLength(8)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        completer, edit = self.completer(), self.lineEdit()
        if completer is not None and edit is not None:
            completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
            completer.setFilterMode(Qt.MatchFlag.MatchContains)
            # Text that is no entry gives way to the entry that is chosen.
            edit.editingFinished.connect(
                lambda: self.setEditText(self.itemText(self.currentIndex()))
            )
        self.activated.connect(lambda _: self._note())
        self.set_entries(())

    def value(self) -> str:
        """Return the chosen text, empty for the first entry."""
        return self.itemText(self.currentIndex()) if self.currentIndex() > 0 else ""

    def choose(self, text: str) -> None:
        """Choose a text, now or as soon as it is there."""
        self.wanted = text
        self.setCurrentIndex(self._place(text))

    def set_entries(self, entries: Sequence[str]) -> None:
        """Offer other texts."""
        if self.count() and [self.itemText(n) for n in range(1, self.count())] == list(entries):
            return
        before = self.value()
        self.blockSignals(True)
        self.clear()
        self.addItems([self._first, *entries])
        self.setCurrentIndex(self._place(self.wanted))
        self.blockSignals(False)
        if self.value() != before:
            self.currentIndexChanged.emit(self.currentIndex())

    def _place(self, text: str) -> int:
        # A class may be called like the first entry.
        return next((n for n in range(1, self.count()) if self.itemText(n) == text), 0)

    def _note(self) -> None:
        self.wanted = self.value()


def knows(picker: ModelPicker, name: str) -> bool:
    """Return whether a picker offers a model."""
    cards = (picker.itemData(index) for index in range(picker.count()))
    return any(isinstance(card, ModelCard) and card.name == name for card in cards)


class SecondPicker(ModelPicker):
    """A model to compare with, or none."""

    def refresh(self) -> None:
        """Read the catalogue anew."""
        before = self.card()
        super().refresh()
        self.blockSignals(True)
        self.insertItem(0, "none", None)
        if before is None:
            self.setCurrentIndex(0)
        self.blockSignals(False)
        self._show_card()

    def choose_none(self) -> None:
        """Compare with nothing."""
        self.setCurrentIndex(0)

    def _activated(self, index: int) -> None:
        if index > 0:
            super()._activated(index)

    def _show_card(self) -> None:
        super()._show_card()
        if self.card() is None:
            self.setToolTip("A second model, such as the robust one of a pair, to compare with.")


class RadiusField(QWidget):
    """A radius by slider or number; 0 leaves it to the program."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._most = 1.0
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.number = QDoubleSpinBox()
        self.number.setRange(0, 1000)
        self.number.setDecimals(4)
        self.number.setSpecialValueText("suggested")
        self.number.setFixedWidth(_NUMBER)
        self.setToolTip(
            "Largest change, where intensities lie from 0 to 1; at the left end one is suggested "
            "for the norm and the size of the image."
        )
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        self.slider.valueChanged.connect(self._slid)
        self.number.valueChanged.connect(self._typed)

    def value(self) -> float:
        """Return the radius, 0 for the suggested one."""
        return float(self.number.value())

    def set_value(self, radius: float) -> None:
        """Choose a radius."""
        self.number.setValue(radius)

    def set_range(self, most: float) -> None:
        """Let the slider end at a radius; larger ones can be typed."""
        if most != self._most:
            self._most = most
            self.number.setSingleStep(most / _STEPS)
            self._follow()

    def _slid(self, place: int) -> None:
        self.number.setValue(place * self._most / _STEPS)

    def _typed(self, _: float) -> None:
        self._follow()
        self.changed.emit()

    def _follow(self) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(min(_STEPS, round(self.value() * _STEPS / self._most)))
        self.slider.blockSignals(False)


class ConceptList(QListWidget):
    """The Labels layers of a viewer, each with a tick where it is a concept.

    Parameters
    ----------
    viewer : napari Viewer
    accepts : callable
        Layer -> whether it is offered.
    """

    changed = Signal()

    def __init__(
        self, viewer: Viewer, accepts: Callable[[Layer], bool], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._accepts = viewer, accepts
        self._layers: list[Layer] = []
        self.setToolTip("Labels layers of the size of the image; what you have painted stays.")
        self.itemChanged.connect(self._tell)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self.refresh)
        self.refresh()

    def layers(self) -> list[Layer]:
        """Return the ticked layers, the one on top first."""
        return [
            layer
            for number, layer in enumerate(self._layers)
            if self._item(number).checkState() == Qt.CheckState.Checked
        ]

    def tick(self, layer: Layer, on: bool = True) -> None:
        """Tick a layer, or take its tick away."""
        state = Qt.CheckState.Checked if on else Qt.CheckState.Unchecked
        self._item(self._layers.index(layer)).setCheckState(state)

    def refresh(self, *_: object) -> None:
        """Read the layers anew; ticks stay."""
        ticked = self.layers()
        self._forget()
        self.blockSignals(True)
        self.clear()
        for layer in reversed(self._viewer.layers):
            if not isinstance(layer, Labels) or not self._accepts(layer):
                continue
            layer.events.name.connect(self.refresh)
            self._layers.append(layer)
            item = QListWidgetItem(layer.name)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            known = any(layer is one for one in ticked)
            item.setCheckState(Qt.CheckState.Checked if known else Qt.CheckState.Unchecked)
            self.addItem(item)
        self.blockSignals(False)
        self.setFixedHeight(_ROW * min(max(self.count(), 1), _SHOWN) + 6)
        self.changed.emit()

    def close_down(self) -> None:
        """Stop listening to the viewer and its layers."""
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self.refresh)
        self._forget()
        self._accepts = lambda layer: False

    def _item(self, number: int) -> QListWidgetItem:
        item = self.item(number)
        assert item is not None
        return item

    def _tell(self, *_: Any) -> None:
        self.changed.emit()

    def _forget(self) -> None:
        for layer in self._layers:
            layer.events.name.disconnect(self.refresh)
        self._layers = []
