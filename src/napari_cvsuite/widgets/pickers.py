"""Choices of a layer, a model and a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QMessageBox, QWidget

from napari_cvsuite.jobs import Context
from napari_cvsuite.models import licences
from napari_cvsuite.models.catalog import Catalogue, ModelCard
from napari_cvsuite.models.files import WeightsError
from napari_cvsuite.models.local import is_here
from napari_cvsuite.widgets.bridge import JobRunner

__all__ = ["DevicePicker", "LayerPicker", "ModelPicker", "choice_box", "describe_card"]

_ADD = "Add model…"


def choice_box(entries: tuple[str, ...], tip: str) -> QComboBox:
    """Return a box with fixed entries."""
    box = QComboBox()
    box.addItems(entries)
    box.setToolTip(tip)
    return box


class LayerPicker(QComboBox):
    """The layers of a viewer that `accepts` lets through, kept up to date.

    `changed` comes with another choice, and when something is written into a layer's metadata.

    Parameters
    ----------
    viewer : napari Viewer
    accepts : callable
        Layer -> whether it can be chosen.
    first : str
        Text of a first entry that stands for no layer; empty for none.
    last : callable, optional
        Returns members of an Enum, offered below the layers by their values; with it `changed`
        also comes when layers are shown, hidden or selected.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: Viewer,
        accepts: Callable[[Layer], bool],
        first: str = "",
        parent: QWidget | None = None,
        last: Callable[[], Sequence[Enum]] | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._accepts, self._first, self._last = viewer, accepts, first, last
        self.setMinimumContentsLength(12)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self.refresh)
        if last is not None:
            viewer.layers.selection.events.changed.connect(self._tell)
        self._wanted: Enum | None = None
        self.activated.connect(lambda _: self._note())
        self._heard: list[Layer] = []
        self.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.refresh()

    def layer(self) -> Layer | None:
        """Return the chosen layer, None for the first entry or where there is none."""
        found = self.currentData()
        return found if isinstance(found, Layer) and found in self._viewer.layers else None

    def other(self) -> Enum | None:
        """Return the chosen one of the entries below the layers."""
        found = self.currentData()
        return found if isinstance(found, Enum) else None

    def choose(self, layer: Layer | Enum | None) -> None:
        """Choose an entry; one that is not in the list changes nothing."""
        self._select(layer)
        self._note()

    def _note(self) -> None:
        self._wanted = self.other()

    def _select(self, layer: Layer | Enum | None) -> None:
        for index in range(self.count()):
            if self.itemData(index) is layer:
                self.setCurrentIndex(index)
                return

    def refresh(self, *_: object) -> None:
        """Read the layers anew; the choice stays where its layer does."""
        before = self.currentData()
        self._listen(list(self._viewer.layers))
        self.blockSignals(True)
        self.clear()
        if self._first:
            self.addItem(self._first, None)
        # The layer on top comes first, as in napari's own list.
        for layer in reversed(self._viewer.layers):
            if self._accepts(layer):
                self.addItem(layer.name, layer)
        for entry in self._last() if self._last is not None else ():
            self.addItem(str(entry.value), entry)
        # An entry that stood there for want of a layer gives way to the first layer.
        self._select(before if isinstance(before, Layer) else self._wanted)
        self.blockSignals(False)
        self.changed.emit()

    def _listen(self, layers: list[Layer]) -> None:
        """Listen to these layers and no others; napari takes long over each connection."""
        for layer in self._heard:
            if layer not in layers:
                layer.events.name.disconnect(self.refresh)
                layer.events.metadata.disconnect(self._tell)
                if self._last is not None:
                    layer.events.visible.disconnect(self._tell)
        for layer in layers:
            if layer not in self._heard:
                layer.events.name.connect(self.refresh)
                layer.events.metadata.connect(self._tell)
                if self._last is not None:
                    layer.events.visible.connect(self._tell)
        self._heard = layers

    def _tell(self, *_: object) -> None:
        self.changed.emit()

    def close_down(self) -> None:
        """Stop listening to the viewer and its layers."""
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self.refresh)
        self._listen([])
        if self._last is not None:
            self._viewer.layers.selection.events.changed.disconnect(self._tell)
            self._last = None
        self._accepts = lambda layer: False


def describe_card(card: ModelCard) -> str:
    """Return a model card as short rich text."""
    figures = ", ".join(f"{name} {value:.3g}" for name, value in card.metrics.items())
    lines = [
        f"<b>{card.name}</b>: {card.description}",
        f"Classes: {', '.join(card.classes)}",
        f"Licence: {card.license}",
    ]
    lines += [f"Data: {card.data}"] if card.data else []
    lines += [f"Measured: {figures}"] if figures else []
    return "<p>" + "<br>".join(lines) + "</p>"


class ModelPicker(QComboBox):
    """The models of a task, their cards as tooltips, and a way to add one's own.

    Parameters
    ----------
    task : str
    architecture : str
        Offer no models but these; empty offers all.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, task: str, parent: QWidget | None = None, architecture: str = "") -> None:
        super().__init__(parent)
        self._task, self._architecture = task, architecture
        self._runner = JobRunner(self)
        self._runner.done.connect(self._added)
        self._runner.failed.connect(lambda error: self.failed.emit(str(error)))
        self.setMinimumContentsLength(12)
        self.refresh()
        self.activated.connect(self._activated)
        self.currentIndexChanged.connect(self._show_card)
        self._show_card()

    def card(self) -> ModelCard | None:
        """Return the card of the chosen model."""
        found = self.currentData()
        return found if isinstance(found, ModelCard) else None

    def choose(self, name: str) -> None:
        """Choose a model by name; an unknown one changes nothing."""
        for index in range(self.count()):
            card = self.itemData(index)
            if isinstance(card, ModelCard) and card.name == name:
                self.setCurrentIndex(index)

    def refresh(self) -> None:
        """Read the catalogue anew."""
        before = self.card()
        self.blockSignals(True)
        self.clear()
        for card in Catalogue():
            if self._task in card.task and self._architecture in ("", card.architecture):
                self.addItem(card.name if is_here(card) else f"{card.name} (download)", card)
                tip = describe_card(card)
                self.setItemData(self.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.addItem(_ADD, None)
        if before is not None:
            self.choose(before.name)
        self.blockSignals(False)
        self._show_card()

    def permitted(self) -> bool:
        """Return whether the chosen model may be used; ask before a first download if need be."""
        card = self.card()
        if card is None or is_here(card) or licences.is_accepted(card):
            return True
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        text = (
            f"{licences.terms(card)}\n\nDo you accept this licence? The weights are then fetched."
        )
        if QMessageBox.question(self, "Licence", text, yes | no, no) != yes:
            return False
        try:
            licences.accept(card)
        except WeightsError as error:
            self.failed.emit(str(error))
            return False
        return True

    def note_fetched(self) -> None:
        """Say no longer that the chosen model is to be fetched, once it is here."""
        card = self.card()
        if card is not None and self.currentText() != card.name and is_here(card):
            self.refresh()

    def add(self, path: Path) -> None:
        """Import a weight file or bundle in the background and choose it."""

        def work(context: Context) -> str:
            # Here, since reading weights needs torch, which opening a dock must not load.
            from napari_cvsuite.models import weights

            if path.suffix == ".zip":
                return weights.import_bundle(path)[0].name
            return weights.import_file(path).name

        self._runner.start(work, "io", f"import {path.name}")

    def close_down(self) -> None:
        """Cancel an import that is going on."""
        self._runner.close()

    def _activated(self, index: int) -> None:
        if self.itemData(index) is not None:
            return
        self.setCurrentIndex(0)
        kinds = "Weights (*.safetensors *.pt *.pth *.zip)"
        path, _ = QFileDialog.getOpenFileName(self, "Add model", "", kinds)
        if path:
            self.add(Path(path))

    def _added(self, name: Any) -> None:
        self.refresh()
        self.choose(str(name))
        chosen, card = self.card(), Catalogue().get(str(name))
        if chosen != card:
            here = self._architecture or self._task
            self.failed.emit(
                f"{name} was added, but is not for this dock: it is a {card.architecture} network "
                f"for {card.task}, and {here} is wanted here."
            )

    def _show_card(self) -> None:
        card = self.card()
        self.setToolTip(describe_card(card) if card else "")
        self.changed.emit()


class DevicePicker(QComboBox):
    """The devices of this machine; the list is complete once the engine has started."""

    def __init__(self, preferred: str = "auto", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.addItem("Automatic", "auto")
        self.addItem("CPU", "cpu")
        self.choose(preferred)

    def device(self) -> str:
        """Return the chosen device, ``"auto"`` for the best one."""
        return str(self.currentData())

    def choose(self, device: str) -> None:
        """Choose a device; an unknown one is added, so that it is reported when missing."""
        index = self.findData(device)
        if index < 0:
            self.addItem(device, device)
            index = self.count() - 1
        self.setCurrentIndex(index)

    def complete(self) -> None:
        """Add the accelerators; call it when torch is loaded."""
        from napari_cvsuite.models.device import available_devices

        for info in available_devices():
            if self.findData(info.device) < 0:
                self.addItem(f"{info.name} ({info.device})", info.device)
