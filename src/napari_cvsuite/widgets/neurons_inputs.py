"""What the Neurons dock asks for, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_cvsuite.images import Image, usable_channels
from napari_cvsuite.jobs.options import Options
from napari_cvsuite.models.local import is_here
from napari_cvsuite.models.plane_options import PlaneOptions
from napari_cvsuite.neurons.options import DEFAULT_MODEL
from napari_cvsuite.widgets.forms import OptionsForm
from napari_cvsuite.widgets.neurons_actions import Action
from napari_cvsuite.widgets.neurons_choice import Choice
from napari_cvsuite.widgets.neurons_fields import SecondPicker, knows
from napari_cvsuite.widgets.neurons_layers import Spot
from napari_cvsuite.widgets.neurons_task import Task
from napari_cvsuite.widgets.pickers import DevicePicker, LayerPicker, ModelPicker
from napari_cvsuite.widgets.settings import preference
from napari_cvsuite.widgets.views import RegionPicker, View, is_image

__all__ = ["Inputs", "View", "pair_name"]

_WRONG = "border: 1px solid #e5534b;"


def pair_name(models: Sequence[str]) -> str:
    """Return the name of a pair, of which NAME-s and NAME-r are chosen in this order.

    Raises
    ------
    ValueError
        Other models are chosen.
    """
    first = (*models, "")[0]
    if not first.endswith("-s") or list(models) != [first, f"{first[:-2]}-r"]:
        raise ValueError(
            "A report compares NAME-s with NAME-r: choose the standard model of a pair, and its "
            "robust one to compare with."
        )
    return first[:-2]


class Inputs(QObject):
    """Image, models, region, and what to do with them.

    Parameters
    ----------
    viewer : napari Viewer

    Attributes
    ----------
    top, more : QWidget
        What all tabs share, and the options that few need.
    choice : Choice
        The tabs, and what each of them asks for.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._paired = ""
        self.image = LayerPicker(viewer, is_image)
        self.model = ModelPicker("classification")
        self.other = SecondPicker("classification")
        self.region = RegionPicker(viewer)
        self.device = DevicePicker(preference("neurons", "device", "auto"))
        self.planes = OptionsForm(PlaneOptions, leave_out=("axis",))
        self.choice = Choice(viewer)
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        self.top = QWidget()
        shared = QFormLayout(self.top)
        shared.setContentsMargins(0, 0, 0, 0)
        shared.addRow("Image", self.image)
        shared.addRow("Model", self.model)
        shared.addRow("Compare with", self.other)
        shared.addRow("Region", self.region)
        inner = QWidget()
        options = QVBoxLayout(inner)
        options.setContentsMargins(0, 0, 0, 0)
        where = QFormLayout()
        where.addRow("Device", self.device)
        options.addLayout(where)
        for form in self.choice.forms.values():
            options.addWidget(form.advanced.native)
        for part in (self.planes.main, self.planes.advanced):
            options.addWidget(part.native)
        self.more = QCollapsible("Options")
        self.more.setContent(inner)
        self.more.collapse(animate=False)
        for widget in (self.top, self.choice, self.more):
            for box in widget.findChildren(QComboBox):
                box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def _connect(self) -> None:
        for field in (self.image, self.region, self.choice):
            field.changed.connect(self._tell)
        self.model.changed.connect(self._model_changed)
        self.other.changed.connect(self._other_changed)
        self.device.currentIndexChanged.connect(self._tell)
        self.planes.on_change(self._tell)

    @property
    def action(self) -> Action:
        """What is to be done."""
        return self.choice.action

    def _model_changed(self) -> None:
        card = self.model.card()
        self.choice.set_card(card)
        if card is not None and not knows(self.other, card.name):
            # It has just been added, perhaps as the second of a pair.
            self.other.refresh()
        self._choose_pair()
        self._tell()

    def _other_changed(self) -> None:
        card = self.other.card()
        if card is not None and not knows(self.model, card.name):
            self.model.refresh()
        self._tell()

    def _choose_pair(self) -> None:
        """Compare NAME-s with NAME-r, where there is one and the user compares with no other."""
        card, other = self.model.card(), self.other.card()
        if other is not None and other.name != self._paired:
            return
        name = card.name if card is not None else ""
        self._paired = f"{name[:-1]}r" if name.endswith("-s") else ""
        if other is None or other.name != self._paired:
            self.other.choose_none()
            self.other.choose(self._paired)

    def _tell(self, *_: object) -> None:
        self.region.setEnabled(self.action.needs_image)
        self.changed.emit()

    # What is chosen ----------------------------------------------------------------------------

    def models(self) -> tuple[str, ...]:
        """Return the names of the chosen models."""
        return tuple(card.name for card in (self.model.card(), self.other.card()) if card)

    def models_here(self) -> bool:
        """Return whether the weights of the chosen models are on this machine."""
        cards = [card for card in (self.model.card(), self.other.card()) if card]
        return bool(cards) and all(is_here(card) for card in cards)

    def view_options(self) -> dict[str, Any]:
        """Return the options of what the network sees of the image; raises ValueError."""
        chosen: dict[str, Any] = {**self.planes.values(), "model": (*self.models(), "")[0]}
        layer = self.image.layer()
        if layer is not None:
            chosen |= {"plane": Spot.of(layer, self._viewer).number, **self.region.options(layer)}
        return chosen

    def options(self) -> Options:
        """Return the options; raises ValueError for those that do not go together."""
        given: dict[str, Any] = {"model": self.models()[0]}
        if self.action.needs_image:
            given = self.view_options()
        elif "pair" in self.action.own:
            given = {"pair": pair_name(self.models())}
        return self.choice.form.read(**given, **self.choice.own_options())

    def task(self) -> Task:
        """Return what is to be run; raises ValueError for what does not go together."""
        action, choice = self.action, self.choice
        layer = self.image.layer() if action.needs_image else None
        ticked = choice.concepts.layers() if "concepts" in action.asks else []
        mask = choice.mask_picker.layer() if "mask" in action.asks else None
        return Task(
            self.options(),
            self.models(),
            None if layer is None else Image.from_layer(layer),
            choice.folder,
            tuple(Image.from_layer(one) for one in ticked),
            choice.together.isChecked(),
            None if mask is None else Image.from_layer(mask),
            choice.data.value(),
        )

    # What is wrong -----------------------------------------------------------------------------

    def problem(self) -> tuple[str, QWidget | None]:
        """Return what is wrong, in words, and the field it is about."""
        layer = self.image.layer() if self.action.needs_image else None
        if self.action.needs_image and layer is None:
            return "Open an image to look into what a network makes of it.", self.image
        if self.model.card() is None:
            return "Choose a model.", self.model
        if self.models()[1:] == self.models()[:1]:
            return "Both models are the same: choose another to compare with.", self.other
        text, field = self.choice.problem()
        if text:
            return text, field
        try:
            if layer is not None:
                planes = self.planes.read()
                assert isinstance(planes, PlaneOptions)
                usable_channels(Image.from_layer(layer), planes.channel_numbers)
            self.options()
        except ValueError as error:
            return str(error), None
        return "", None

    def mark(self, wrong: QWidget | None) -> None:
        """Colour the field that is wrong, and no other."""
        kinds: dict[QWidget, str] = {
            self.image: "QComboBox",
            self.model: "QComboBox",
            self.other: "QComboBox",
            self.choice.folder_button: "QPushButton",
            self.choice.concepts: "QListWidget",
            self.choice.mask_picker: "QComboBox",
            self.choice.data.paths["out"].button: "QPushButton",
        }
        for field, kind in kinds.items():
            style = f"{kind} {{ {_WRONG} }}" if field is wrong else ""
            # Setting a style costs milliseconds even when it is the same one.
            if field.styleSheet() != style:
                field.setStyleSheet(style)

    # State -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what is kept between sessions."""
        card, other = self.model.card(), self.other.card()
        kept: dict[str, Any] = {
            **self.choice.state(),
            "device": self.device.device(),
            "region": self.region.state(),
            "other": other.name if other is not None else "",
            "planes": self.planes.values(),
        }
        return kept | ({"model": card.name} if card is not None else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Choose what was kept; what is unknown is passed over."""
        self.model.choose(str(state.get("model", preference("neurons", "model", DEFAULT_MODEL))))
        self._model_changed()
        if "other" in state:
            self.other.choose_none()
            self.other.choose(str(state["other"]))
        if "device" in state:
            self.device.choose(str(state["device"]))
        self.region.restore(state.get("region"))
        planes = state.get("planes")
        self.planes.set_values(planes if isinstance(planes, dict) else {})
        self.choice.restore(state)

    def close_down(self) -> None:
        """Let go of the viewer."""
        for picker in (self.image, self.region, self.choice):
            picker.close_down()
        for model in (self.model, self.other):
            model.close_down()
        self.planes.close_down()
