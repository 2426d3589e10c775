"""What the Neurons dock asks for, and what is wrong with it."""

from __future__ import annotations

from enum import Enum
from typing import Any

from napari.layers import Image as ImageLayer
from napari.layers import Layer, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_cvsuite.images import Image, usable_channels
from napari_cvsuite.models.local import is_here
from napari_cvsuite.models.plane_options import PlaneOptions
from napari_cvsuite.neurons.options import DEFAULT_MODEL, NeuronOptions
from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets.forms import OptionsForm
from napari_cvsuite.widgets.neurons_actions import Action
from napari_cvsuite.widgets.neurons_choice import Choice
from napari_cvsuite.widgets.neurons_fields import SecondPicker, knows
from napari_cvsuite.widgets.neurons_job import Task
from napari_cvsuite.widgets.neurons_layers import Spot
from napari_cvsuite.widgets.pickers import DevicePicker, LayerPicker, ModelPicker
from napari_cvsuite.widgets.settings import preference

__all__ = ["Inputs", "View"]

_WRONG = "border: 1px solid #e5534b;"


class View(Enum):
    """Parts of an image that a network can see, besides a box."""

    CENTRE = "middle square"
    WHOLE = "whole image"
    CURRENT = "current view"


def _is_image(layer: Layer) -> bool:
    # Results of ours are no images to look into.
    return isinstance(layer, ImageLayer) and "napari_cvsuite" not in layer.metadata


def _is_box(layer: Layer) -> bool:
    return isinstance(layer, Shapes) and "napari_cvsuite" not in layer.metadata


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
        self.image = LayerPicker(viewer, _is_image)
        self.model = ModelPicker("classification")
        self.other = SecondPicker("classification")
        self.region = LayerPicker(viewer, _is_box, last=lambda: tuple(View))
        self.region.choose(View.CENTRE)
        self.region.setToolTip(
            "What the network sees: a square, or the square around the (selected) box of a Shapes "
            "layer. The whole image is squeezed into a square."
        )
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
            chosen |= {"plane": Spot.of(layer, self._viewer).number, **self._view(layer)}
        return chosen

    def _view(self, layer: Layer) -> dict[str, Any]:
        shapes, other = self.region.layer(), self.region.other()
        if shapes is None and other is not View.CURRENT:
            return {"view": "whole" if other is View.WHOLE else "centre"}
        if isinstance(shapes, Shapes):
            box = regions.shapes_box(layer, shapes)
        else:
            box = regions.current_view(layer)
        region = ",".join(map(str, (*box.start[-2:], *box.shape[-2:])))
        return {"view": "region", "region": region}

    def options(self) -> NeuronOptions:
        """Return the options; raises ValueError for those that do not go together."""
        given = self.view_options() if self.action.needs_image else {"model": self.models()[0]}
        made = self.choice.form.read(**given, **self.choice.own_options())
        assert isinstance(made, NeuronOptions)
        return made

    def task(self) -> Task:
        """Return what is to be run; raises ValueError for what does not go together."""
        action, choice = self.action, self.choice
        layer = self.image.layer() if action.needs_image else None
        ticked = choice.concepts.layers() if "concepts" in action.asks else []
        return Task(
            self.options(),
            self.models(),
            None if layer is None else Image.from_layer(layer),
            choice.folder,
            tuple(Image.from_layer(one) for one in ticked),
            choice.together.isChecked(),
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
        }
        for field, kind in kinds.items():
            style = f"{kind} {{ {_WRONG} }}" if field is wrong else ""
            # Setting a style costs milliseconds even when it is the same one.
            if field.styleSheet() != style:
                field.setStyleSheet(style)

    # State -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what is kept between sessions."""
        view, card, other = self.region.other(), self.model.card(), self.other.card()
        kept: dict[str, Any] = {
            **self.choice.state(),
            "device": self.device.device(),
            "region": view.value if view is not None else View.CENTRE.value,
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
        for view in View:
            if view.value == state.get("region"):
                self.region.choose(view)
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
