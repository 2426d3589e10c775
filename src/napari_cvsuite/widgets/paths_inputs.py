"""What the Paths dock looks at: image, transformer, region, class, and what is wrong with them."""

from __future__ import annotations

from typing import Any

from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_cvsuite.images import Image, usable_channels
from napari_cvsuite.jobs.request import InputReference
from napari_cvsuite.models.plane_options import PlaneOptions
from napari_cvsuite.paths.options import DEFAULT_MODEL, ContributionOptions
from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets.forms import OptionsForm
from napari_cvsuite.widgets.neurons_fields import EntryBox
from napari_cvsuite.widgets.neurons_layers import Spot
from napari_cvsuite.widgets.paths_job import Asked, Instead
from napari_cvsuite.widgets.paths_plot import align
from napari_cvsuite.widgets.pickers import DevicePicker, LayerPicker, ModelPicker
from napari_cvsuite.widgets.settings import preference
from napari_cvsuite.widgets.views import RegionPicker, is_image

__all__ = ["Inputs", "reference"]

_WRONG = "border: 1px solid #e5534b;"
_NONE = (
    "There is no vision transformer yet: choose “Add model…” under Model to import one, or train "
    "one with: napari-cvsuite train classifier --arch vit-tiny"
)


class Inputs(QObject):
    """Image, model, region and class.

    Parameters
    ----------
    viewer : napari Viewer

    Attributes
    ----------
    top, more : QWidget
        What all pages share, and the options that few need.

    Signals
    -------
    changed ()
        Something else is looked at.
    target_changed ()
        Another class is asked for.
    """

    changed = Signal()
    target_changed = Signal()

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.image = LayerPicker(viewer, is_image)
        self.model = ModelPicker("classification", architecture="vit")
        self.region = RegionPicker(viewer)
        self.label = EntryBox("predicted", "Class whose logit is taken apart.")
        self.against = EntryBox("nothing", "Take the difference to this class apart.")
        self.device = DevicePicker(preference("paths", "device", "auto"))
        self.planes = OptionsForm(PlaneOptions, leave_out=("axis",))
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        self.top = QWidget()
        form = QFormLayout(self.top)
        classes = QHBoxLayout()
        classes.addWidget(self.label, 1)
        classes.addWidget(self.against, 1)
        for name, field in (("Image", self.image), ("Model", self.model), ("Region", self.region)):
            form.addRow(name, field)
        form.addRow("Class, against", classes)
        align(form)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        where = QFormLayout()
        where.addRow("Device", self.device)
        column.addLayout(where)
        for part in (self.planes.main, self.planes.advanced):
            column.addWidget(part.native)
        self.more = QCollapsible("Options")
        self.more.setContent(inner)
        self.more.collapse(animate=False)
        for widget in (self.top, self.more):
            for box in widget.findChildren(QComboBox):
                box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def _connect(self) -> None:
        for field in (self.image, self.region):
            field.changed.connect(self._tell)
        self.model.changed.connect(self._model_changed)
        self.device.currentIndexChanged.connect(self._tell)
        self.planes.on_change(self._tell)
        for box in (self.label, self.against):
            box.currentIndexChanged.connect(lambda _: self.target_changed.emit())
        self._model_changed()

    def _model_changed(self) -> None:
        card = self.model.card()
        for box in (self.label, self.against):
            box.set_entries(card.classes if card is not None else ())
        self._tell()

    def _tell(self, *_: object) -> None:
        self.changed.emit()

    # What is chosen ----------------------------------------------------------------------------

    @property
    def layers(self) -> int:
        """Number of layers of the chosen model; 0 where its card does not say."""
        card = self.model.card()
        number = card.options.get("num_layers", 0) if card is not None else 0
        return number if isinstance(number, int) else 0

    def model_name(self) -> str:
        """Return the name of the chosen model, empty for none."""
        card = self.model.card()
        return card.name if card is not None else ""

    def target(self) -> str:
        """Return the class, or the difference of two, as jobs write it.

        Raises
        ------
        ValueError
            There is a class to compare with, but none that is compared.
        """
        label, against = self.label.value(), self.against.value()
        if not against:
            return label
        if not label:
            raise ValueError("“This against that” needs a class: choose one besides the second.")
        if label == against:
            raise ValueError("Both classes are the same: their difference is 0 for every path.")
        return f"{label}-{against}"

    def asked(self) -> Asked:
        """Return what is looked at.

        Raises
        ------
        ValueError
            It does not go together.
        """
        layer = self.image.layer()
        if layer is None:
            raise ValueError("Open an image to look at.")
        options = ContributionOptions(
            **self.planes.values(),
            model=self.model_name(),
            plane=Spot.of(layer, self._viewer).number,
            target="",
            **self.region.options(layer),
        )
        return Asked(Image.from_layer(layer), options)

    def instead(self, kind: str, other: Layer | None) -> Instead:
        """Return what is written in place of paths.

        Parameters
        ----------
        kind : {"zero", "slices", "layers", "other"}
            Nothing, the mean over the other slices of the stack, or over the other images that
            are open, or what an image gives.
        other : napari Layer or None
            That image.

        Raises
        ------
        ValueError
            There is no such image.
        """
        layer = self.image.layer()
        plane = Spot.of(layer, self._viewer).number if layer is not None else 0
        if kind == "slices":
            return Instead("mean", "mean of slices", (), ("slices", plane))
        if kind == "layers":
            found = [one for one in self._viewer.layers if is_image(one) and one is not layer]
            if not found:
                raise ValueError("A mean of other images needs another open image: open one.")
            images = tuple(Image.from_layer(one) for one in found)
            ids = tuple(id(one.data) for one in found)
            named = tuple(reference(one, "others") for one in found)
            return Instead("mean", "mean of images", images, ("layers", *ids), named)
        if kind == "other":
            if other is None:
                raise ValueError("Choose the other image whose paths are written instead.")
            whole = regions.whole(other)
            here = regions.current_plane(whole, other, self._viewer)
            image = regions.crop(Image.from_layer(other), here)
            name = f"{other.name}" + (f" {here.start[:-2]}" if here.start[:-2] else "")
            key = ("other", id(other.data), *here.start)
            return Instead("other", name, (image,), key, (reference(other, "others"),))
        return Instead()

    # What is wrong -----------------------------------------------------------------------------

    def problem(self) -> tuple[str, QWidget | None]:
        """Return what is wrong, in words, and the field it is about."""
        layer = self.image.layer()
        if self.model.card() is None:
            return _NONE, self.model
        if layer is None:
            return "Open an image to look into what a network makes of it.", self.image
        try:
            self.target()
        except ValueError as error:
            return str(error), self.label
        try:
            planes = self.planes.read()
            assert isinstance(planes, PlaneOptions)
            usable_channels(Image.from_layer(layer), planes.channel_numbers)
            self.asked()
        except ValueError as error:
            return str(error), None
        return "", None

    def mark(self, wrong: QWidget | None) -> None:
        """Colour the field that is wrong, and no other."""
        for field in (self.image, self.model, self.label):
            style = f"QComboBox {{ {_WRONG} }}" if field is wrong else ""
            # Setting a style costs milliseconds even when it is the same one.
            if field.styleSheet() != style:
                field.setStyleSheet(style)

    # State -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what is kept between sessions."""
        kept = {
            "device": self.device.device(),
            "region": self.region.state(),
            "planes": self.planes.values(),
        }
        return kept | ({"model": self.model_name()} if self.model_name() else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Choose what was kept; what is unknown is passed over."""
        self.model.choose(str(state.get("model", preference("paths", "model", DEFAULT_MODEL))))
        if "device" in state:
            self.device.choose(str(state["device"]))
        self.region.restore(state.get("region"))
        planes = state.get("planes")
        self.planes.set_values(planes if isinstance(planes, dict) else {})

    def close_down(self) -> None:
        """Let go of the viewer."""
        for picker in (self.image, self.region, self.model):
            picker.close_down()
        self.planes.close_down()


def reference(layer: Layer, role: str = "") -> InputReference:
    """Return where an image is found: its file, or the layer of that name."""
    path = getattr(layer.source, "path", None)
    if path:
        return InputReference("file", str(path), role)
    return InputReference("layer", str(layer.name), role)
