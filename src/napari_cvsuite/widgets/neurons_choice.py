"""The tabs of the Neurons dock: what to do, and what that asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.layers import Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QPushButton,
    QSpinBox,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.neurons.copy_options import ALL
from napari_cvsuite.neurons.options import CAMS
from napari_cvsuite.widgets.forms import OptionsForm
from napari_cvsuite.widgets.neurons_actions import (
    ACTIONS,
    COPIES,
    DISSECT,
    MAXIMISE,
    TABS,
    Action,
    actions_of,
)
from napari_cvsuite.widgets.neurons_data import DataFields
from napari_cvsuite.widgets.neurons_fields import ConceptList, EntryBox, RadiusField
from napari_cvsuite.widgets.neurons_layers import UNIT
from napari_cvsuite.widgets.pickers import LayerPicker

__all__ = ["Choice"]

_METHOD_OPTIONS = {
    "samples": ("smoothgrad",),
    "sigma": ("smoothgrad",),
    "baseline": ("integrated_gradients", "deeplift"),
    "tolerance": ("integrated_gradients",),
    "window": ("occlusion",),
    "stride": ("occlusion",),
    "fill": ("occlusion",),
    "masks": ("rise",),
    "cells": ("rise",),
    "shown": ("rise",),
}
"""Methods that heed an option of saliency maps."""
_PRESET_OPTIONS = {"quantile": "paper", "shifts": "labels", "seed": "labels"}
"""Preset that heeds an option of a dissection."""
_SILHOUETTE = "silhouette"
_MOST = {"l2": 0.08 * 3**0.5, "linf": 0.125}
"""Where the slider of the radius ends; of L2 for each pixel of a side, ten times the suggested."""


def _is_labels(layer: Layer) -> bool:
    # Masks of channels are ours, and no objects of the user's.
    return isinstance(layer, Labels) and UNIT not in layer.metadata


class Choice(QWidget):
    """What to do, with the fields that it needs.

    Parameters
    ----------
    viewer : napari Viewer

    Attributes
    ----------
    forms : dict of str to OptionsForm
        By action; their advanced parts are to be put elsewhere.

    Signals
    -------
    changed ()
        Anything is chosen.
    action_changed ()
        Something else is to be done.
    """

    changed = Signal()
    action_changed = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._chosen = {tab: actions_of(tab)[0].name for tab in TABS}
        self._folders: dict[str, Path] = {}
        self._card: ModelCard | None = None
        self._make_tabs()
        self._make_fields(viewer)
        self._lay_out()
        self._connect()
        self._arrange()

    def _make_tabs(self) -> None:
        self.tabs = QTabBar()
        self.tabs.setExpanding(False)
        self.tabs.setDrawBase(False)
        # All tabs in sight: whoever has to scroll does not know that there are more.
        self.tabs.setUsesScrollButtons(False)
        for tab in TABS:
            self.tabs.addTab(tab.replace("&", "&&"))
        self.what = QComboBox()

    def _make_fields(self, viewer: Viewer) -> None:
        self.target = EntryBox("predicted", "Class to explain.")
        self.against = EntryBox("nothing", "Explain the difference to this class.")
        self.label = EntryBox("predicted", "Class that the attack leads away from.")
        self.pick = QPushButton("Pick on the image")
        self.pick.setCheckable(True)
        self.pick.setToolTip(
            "While it is down, a click on the image chooses the class that leads there, by the map "
            "“Class at each place” of the first model."
        )
        self.layer = EntryBox("last", "Layer of the network.")
        self.channel = QSpinBox()
        self.channel.setRange(-1, 100_000)
        self.channel.setValue(-1)
        self.channel.setSpecialValueText("all")
        self.channel.setToolTip("Number of a channel of the layer, from 0.")
        self.radius = RadiusField()
        self.concepts = ConceptList(viewer, _is_labels)
        self.mask_picker = LayerPicker(viewer, _is_labels, first="none")
        self.mask_picker.setToolTip(
            "Labels layer of the size of the image, painted where the object is."
        )
        self.together = QCheckBox("each layer is one concept")
        self.together.setChecked(True)
        self.together.setToolTip("Else every number in a layer is a concept of its own.")
        self.folder_button = QPushButton("Choose a folder…")
        self.data = DataFields()
        self.forms = {
            name: OptionsForm(action.options, leave_out=action.left_out)
            for name, action in ACTIONS.items()
        }
        self._fields: dict[str, QWidget] = {
            "what": self.what,
            "target": self.target,
            "against": self.against,
            "label": self.label,
            "pick": self.pick,
            "layer": self.layer,
            "channel": self.channel,
            "radius": self.radius,
            "concepts": self.concepts,
            "together": self.together,
            "mask": self.mask_picker,
            "folder": self.folder_button,
            "data": self.data,
        }

    def _lay_out(self) -> None:
        self._asked = QFormLayout()
        titles = {"what": "Show", "target": "Class", "label": "Class", "pick": "", "together": ""}
        for name, widget in self._fields.items():
            if name == "data":
                # It has titles of its own.
                self._asked.addRow(widget)
            else:
                self._asked.addRow(titles.get(name, name.capitalize()), widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tabs)
        column.addLayout(self._asked)
        for form in self.forms.values():
            column.addWidget(form.main.native)

    def _connect(self) -> None:
        for box in (self.target, self.against, self.label, self.layer):
            box.currentIndexChanged.connect(self._tell)
        for field in (self.concepts, self.radius, self.mask_picker, self.data):
            field.changed.connect(self._tell)
        self.channel.valueChanged.connect(self._tell)
        self.together.toggled.connect(self._tell)
        self.tabs.currentChanged.connect(self._tab_changed)
        self.what.activated.connect(lambda index: self.set_action(self.what.itemText(index)))
        self.folder_button.clicked.connect(self._ask_folder)
        for form in self.forms.values():
            form.on_change(self._tell)

    # What to do --------------------------------------------------------------------------------

    @property
    def action(self) -> Action:
        """What the chosen tab does."""
        return ACTIONS[self._chosen[TABS[self.tabs.currentIndex()]]]

    @property
    def form(self) -> OptionsForm:
        """The options of the action."""
        return self.forms[self.action.name]

    @property
    def folder(self) -> Path | None:
        """The folder of the action."""
        return self._folders.get(self.action.name)

    def set_action(self, name: str) -> None:
        """Choose what to do, by its name; an unknown one changes nothing."""
        if name in ACTIONS:
            self._chosen[ACTIONS[name].tab] = name
            self.tabs.setCurrentIndex(TABS.index(ACTIONS[name].tab))
            self._tab_changed()

    def set_card(self, card: ModelCard | None) -> None:
        """Offer the classes of a model."""
        self._card = card
        for box in (self.target, self.against, self.label):
            box.set_entries(card.classes if card is not None else ())

    def choose_class(self, name: str) -> None:
        """Choose a class in the box that the action asks for."""
        (self.target if "target" in self.action.asks else self.label).choose(name)

    def set_folder(self, folder: Path) -> None:
        """Give the action a folder."""
        self._folders[self.action.name] = folder
        self._tell()

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, f"Folder with {self.action.folder}")
        if path:
            self.set_folder(Path(path))

    def _tab_changed(self, *_: object) -> None:
        self._arrange()
        self.action_changed.emit()
        self._tell()

    def _tell(self, *_: object) -> None:
        self._arrange_fields()
        self.changed.emit()

    # What is shown -----------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Show what the action asks for, and nothing else."""
        action = self.action
        actions = actions_of(action.tab)
        self.what.clear()
        for number, one in enumerate(actions):
            self.what.addItem(one.name)
            self.what.setItemData(number, one.tip, Qt.ItemDataRole.ToolTipRole)
        self.what.setCurrentIndex(actions.index(action))
        self.what.setToolTip(action.tip)
        self.channel.setMinimum(0 if action.name == MAXIMISE else -1)
        for name, form in self.forms.items():
            for part in (form.main, form.advanced):
                part.native.setVisible(name == action.name and len(part) > 0)
        self._arrange_fields()

    def _arrange_fields(self) -> None:
        action, values = self.action, self.form.values()
        asks = {*action.asks, *(("what",) if len(actions_of(action.tab)) > 1 else ())}
        asks |= {"together"} if "concepts" in asks else set()
        asks |= {"pick"} if asks & {"target", "label"} else set()
        if "target" in asks:
            asks -= set() if values["method"] in CAMS else {"layer"}
            for name, methods in _METHOD_OPTIONS.items():
                self.form.show((name,), values["method"] in methods)
        if action.name == DISSECT:
            for name, preset in _PRESET_OPTIONS.items():
                self.form.show((name,), values["preset"] == preset)
        if action.name == COPIES and values["distortion"] not in (ALL, _SILHOUETTE):
            asks -= {"mask"}
        if "radius" in asks:
            norm = str(values["norm"])
            side = self._card.input.tile if self._card is not None and norm == "l2" else 1
            self.radius.set_range(_MOST[norm] * side)
        for name, field in self._fields.items():
            label = self._asked.labelForField(field)
            if label is not None:
                label.setVisible(name in asks)
            field.setVisible(name in asks)
        if "pick" not in asks:
            self.pick.setChecked(False)
        folder = self.folder
        self.folder_button.setText(folder.name if folder else "Choose a folder…")
        self.folder_button.setToolTip(str(folder) if folder else f"With {action.folder}.")

    # What is chosen ----------------------------------------------------------------------------

    def own_options(self) -> dict[str, Any]:
        """Return the options that the fields give.

        Raises
        ------
        ValueError
            They do not go together.
        """
        action, target = self.action, self.target.value()
        if self.against.value() and "against" in action.asks:
            if not target:
                raise ValueError("A difference needs a class: choose one besides that against it.")
            target = f"{target}-{self.against.value()}"
        needs_layer = "method" not in self.form.values() or self.form.values()["method"] in CAMS
        fields: dict[str, Any] = {
            "target": target,
            "label": self.label.value(),
            "layer": self.layer.value() if needs_layer else "",
            "channel": self.channel.value(),
            "eps": self.radius.value(),
        }
        return {name: fields[name] for name in action.own if name in fields}

    def problem(self) -> tuple[str, QWidget | None]:
        """Return what is missing, in words, and the field it is about."""
        asks = self.action.asks
        if "folder" in asks and self.folder is None:
            return f"Choose a folder with {self.action.folder}.", self.folder_button
        if "concepts" in asks and not self.concepts.layers():
            return "Tick the Labels layers that show your concepts.", self.concepts
        if self.form.values().get("distortion") == _SILHOUETTE and self.mask_picker.layer() is None:
            return "Choose the Labels layer that shows the object.", self.mask_picker
        if "data" in asks and self.data.value().out is None:
            return "Choose a folder for the report.", self.data.paths["out"].button
        return "", None

    # State -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what is kept between sessions."""
        return {
            "action": self.action.name,
            "layer": self.layer.wanted,
            "radius": self.radius.value(),
            "together": self.together.isChecked(),
            "options": {name: form.values() for name, form in self.forms.items()},
            "folders": {name: str(path) for name, path in self._folders.items()},
            "data": self.data.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Choose what was kept; what is unknown is passed over."""
        self.layer.choose(str(state.get("layer", "")))
        radius = state.get("radius")
        self.radius.set_value(radius if isinstance(radius, float) else 0.0)
        self.together.setChecked(state.get("together") is not False)
        options, folders = state.get("options"), state.get("folders")
        for name, form in self.forms.items():
            values = options.get(name) if isinstance(options, dict) else None
            form.set_values(values if isinstance(values, dict) else {})
        for name, path in (folders if isinstance(folders, dict) else {}).items():
            if name in ACTIONS and Path(str(path)).is_dir():
                self._folders[name] = Path(str(path))
        data = state.get("data")
        self.data.restore(data if isinstance(data, dict) else {})
        self.set_action(str(state.get("action", "")))

    def close_down(self) -> None:
        """Let go of the viewer."""
        self.concepts.close_down()
        self.mask_picker.close_down()
        for form in self.forms.values():
            form.close_down()
