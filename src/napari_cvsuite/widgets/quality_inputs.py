"""What the Quality dock asks for, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Layer, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_cvsuite.images import Image, cut_along, usable_channels
from napari_cvsuite.quality.options import MapOptions, ScoreOptions, require_size
from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets.forms import OptionsForm
from napari_cvsuite.widgets.pickers import DevicePicker, LayerPicker, ModelPicker, choice_box
from napari_cvsuite.widgets.quality_job import Item, files_of, image_file, sizes_fit
from napari_cvsuite.widgets.quality_layers import Place
from napari_cvsuite.widgets.quality_rows import Subject, stack_axes
from napari_cvsuite.widgets.settings import preference
from napari_cvsuite.widgets.views import is_image

__all__ = ["MODES", "Inputs", "Many"]

MODES = ("Score", "Map", "Compare")
_WHOLE, _VIEW = "whole image", "current view"
_ALL, _CURRENT = "all slices", "current slice"
_WRONG = "border: 1px solid #e5534b;"
_MAP_ONLY = ("window", "step", "attention")
_TIPS = (
    "How good is each slice?",
    "Where is the image good, where not?",
    "Which version of an image is best?",
)


class Many(Enum):
    """What can be judged besides one layer."""

    VISIBLE = "all visible images"
    SELECTED = "selected images"
    FOLDER = "folder of files…"


def _same(image: Image) -> Image:
    return image


class Inputs(QWidget):
    """Mode, images, model, reference and options.

    Parameters
    ----------
    viewer : napari Viewer

    Attributes
    ----------
    more : QCollapsible
        The options that few need; a widget of its own, to be put below the button that runs.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.folder: Path | None = None
        self._files: list[Path] = []
        self._make_modes()
        self.image = LayerPicker(viewer, self._offers, last=self._last)
        self.folder_button = QPushButton("Choose a folder…")
        self.model = ModelPicker("quality")
        self.reference = LayerPicker(viewer, is_image, "none")
        self.reference.setToolTip("The image without flaws that the others are compared with.")
        self.form = OptionsForm(MapOptions, leave_out=("model",))
        self.region = choice_box((_WHOLE, _VIEW), "Part of the image to judge.")
        self.shapes = LayerPicker(viewer, lambda layer: isinstance(layer, Shapes), "no box")
        self.shapes.setToolTip("A Shapes layer whose (selected) box is judged alone.")
        self.slices = choice_box((_ALL, _CURRENT), "Slices of a stack to judge.")
        self.device = DevicePicker(preference("quality", "device", "auto"))
        self._lay_out()
        self._connect()
        self._arrange()

    def _make_modes(self) -> None:
        self.modes = QButtonGroup(self)
        self._mode_bar = QWidget()
        row = QHBoxLayout(self._mode_bar)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        for number, name in enumerate(MODES):
            button = QPushButton(name)
            button.setCheckable(True)
            button.setToolTip(_TIPS[number])
            self.modes.addButton(button, number)
            row.addWidget(button)
        self._button(0).setChecked(True)

    def _button(self, number: int) -> QPushButton:
        button = self.modes.button(number)
        assert isinstance(button, QPushButton)
        return button

    def _lay_out(self) -> None:
        self._top = QFormLayout()
        self._top.addRow(self._mode_bar)
        self._top.addRow("Image", self.image)
        self._top.addRow("Folder", self.folder_button)
        self._top.addRow("Model", self.model)
        self._top.addRow("Reference", self.reference)
        where = QFormLayout()
        where.addRow("Region", self.region)
        where.addRow("Box", self.shapes)
        where.addRow("Slices", self.slices)
        where.addRow("Device", self.device)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(where)
        column.addWidget(self.form.advanced.native)
        self.more = QCollapsible("Options")
        self.more.setContent(inner)
        self.more.collapse(animate=False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._top)
        layout.addWidget(self.form.main.native)
        for box in self.findChildren(QComboBox):
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def _connect(self) -> None:
        self.modes.idToggled.connect(lambda _, on: self._mode_changed() if on else None)
        self.image.activated.connect(self._picked)
        self.folder_button.clicked.connect(self._ask_folder)
        for picker in (self.image, self.model, self.reference, self.shapes):
            picker.changed.connect(self._tell)
        for box in (self.region, self.slices, self.device):
            box.currentIndexChanged.connect(self._tell)
        self.form.on_change(self._tell)

    # Mode and what it shows --------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """One of :data:`MODES`."""
        return MODES[self.modes.checkedId()]

    def set_mode(self, mode: str) -> None:
        """Choose a mode; an unknown one changes nothing."""
        if mode in MODES:
            self._button(MODES.index(mode)).setChecked(True)

    def _offers(self, layer: Layer) -> bool:
        return self.mode != "Compare" and is_image(layer)

    def _last(self) -> tuple[Many, ...]:
        given = {"Score": (Many.VISIBLE, Many.FOLDER), "Compare": (Many.VISIBLE, Many.SELECTED)}
        return given.get(self.mode, ())

    def _mode_changed(self) -> None:
        self.image.refresh()
        self._arrange()
        self._tell()

    def _arrange(self) -> None:
        """Show what the mode, the image and the model ask for, and nothing else."""
        self.form.show(_MAP_ONLY, self.mode == "Map")
        folder = self.image.other() is Many.FOLDER
        needs = self.compares or self.mode == "Compare"
        for field, shown in ((self.folder_button, folder), (self.reference, needs)):
            label = self._top.labelForField(field)
            if label is not None:
                label.setVisible(shown)
            field.setVisible(shown)
        self.region.setEnabled(not folder and self.shapes.layer() is None)
        self.shapes.setEnabled(not folder)
        self.slices.setEnabled(not folder)

    def _tell(self, *_: object) -> None:
        self._arrange()
        self.changed.emit()

    def _picked(self, index: int) -> None:
        if self.image.itemData(index) is Many.FOLDER and self.folder is None:
            self._ask_folder()

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of images")
        if path:
            self.set_folder(Path(path))

    def set_folder(self, folder: Path) -> None:
        """Judge the image files of a folder."""
        self.folder = folder
        try:
            self._files = files_of(folder)
        # A folder that has gone, or may not be read, is told of like an empty one.
        except OSError:
            self._files = []
        self.folder_button.setText(folder.name or str(folder))
        self.folder_button.setToolTip(str(folder))
        self.image.choose(Many.FOLDER)
        self._tell()

    # What is chosen ----------------------------------------------------------------------------

    @property
    def compares(self) -> bool:
        """Whether the model needs a reference."""
        card = self.model.card()
        return card is not None and bool(card.options.get("use_ref", True))

    def options(self) -> MapOptions | ScoreOptions:
        """Return the options; raises :class:`OptionError` for those that do not go together."""
        card = self.model.card()
        made = self.form.read(model=card.name if card else "")
        assert isinstance(made, MapOptions)
        if self.mode == "Map":
            return made
        return ScoreOptions(**{f.name: getattr(made, f.name) for f in fields(ScoreOptions)})

    def layers(self) -> list[Layer]:
        """Return the layers to judge, the one on top first."""
        other, reference = self.image.other(), self._reference()
        layer = self.image.layer()
        if other is None:
            return [] if layer is None else [layer]
        chosen = self._viewer.layers.selection
        return [
            one
            for one in reversed(self._viewer.layers)
            if is_image(one)
            and (one in chosen if other is Many.SELECTED else one.visible)
            and one is not reference
            and other is not Many.FOLDER
        ]

    def _reference(self) -> Layer | None:
        needed = self.compares or self.mode == "Compare"
        return self.reference.layer() if needed else None

    def problem(self) -> tuple[str, QWidget | None]:
        """Return what is wrong, in words, and the field it is about."""
        if self.image.other() is Many.FOLDER:
            text = self._folder_problem()
            if text:
                return text, self.folder_button
        elif not self.layers():
            return "Open an image (or make one visible) to judge it.", self.image
        if self.model.card() is None:
            return "Choose a model.", self.model
        reference = self._reference()
        if self.compares and reference is None:
            return "This model compares: choose the reference it compares with.", self.reference
        try:
            options = self.options()
        except ValueError as error:
            return str(error), None
        return self._layer_problem(self.layers(), reference, options)

    def _folder_problem(self) -> str:
        if self.folder is None:
            return "Choose a folder."
        return "" if self._files else f"{self.folder.name} holds no image: choose another folder."

    def _layer_problem(
        self, layers: Sequence[Layer], reference: Layer | None, options: ScoreOptions
    ) -> tuple[str, QWidget | None]:
        if self.mode == "Compare":
            if len(layers) < 2:
                how = "Select" if self.image.other() is Many.SELECTED else "Show"
                return f"{how} two image layers or more to compare them.", self.image
            for one in layers[1:]:
                if regions.whole(one).shape != regions.whole(layers[0]).shape:
                    text = f"{one.name} has another size than {layers[0].name}: leave one out."
                    return text, self.image
        for layer in layers:
            if layer is reference:
                return "The reference is the image itself: choose another.", self.reference
            try:
                image = Image.from_layer(layer)
                cut = cut_along(image, options.axis).image
                require_size((cut.size("y"), cut.size("x")))
                usable_channels(image, options.channel_numbers)
            except ValueError as error:
                return f"{layer.name}: {error}", self.image
            try:
                if reference is not None:
                    resize = options.fit_reference
                    sizes_fit(image, Image.from_layer(reference), options.axis, resize)
            except ValueError as error:
                return str(error), self.reference
        return "", None

    def mark(self, wrong: QWidget | None) -> None:
        """Colour the field that is wrong, and no other."""
        for field in (self.image, self.folder_button, self.model, self.reference):
            kind = "QPushButton" if field is self.folder_button else "QComboBox"
            style = f"{kind} {{ {_WRONG} }}" if field is wrong else ""
            # Setting a style costs milliseconds even when it is the same one.
            if field.styleSheet() != style:
                field.setStyleSheet(style)

    # What to run -------------------------------------------------------------------------------

    def items(self) -> tuple[list[Item], list[Place]]:
        """Return the images to judge, and where the layers among them lie.

        Raises
        ------
        ValueError
            The region lies outside an image.
        """
        options, reference = self.options(), self._reference()
        if self.image.other() is Many.FOLDER:
            other = None if reference is None else Image.from_layer(reference)
            # Once more, as files may have come or gone since the folder was chosen.
            self._files = files_of(self.folder) if self.folder is not None else []
            if not self._files:
                raise ValueError(self._folder_problem())
            return [image_file(path, other) for path in self._files], []
        items, places = [], []
        for layer in self.layers():
            image = Image.from_layer(layer)
            selection = self._selection(layer, stack_axes(layer, options.axis))
            other = None
            if reference is not None:
                other = regions.matching(reference, selection, regions.whole(layer))
            part = regions.crop(image, selection)
            subject = Subject.of(layer, selection, options.axis)
            items.append(Item(subject, partial(_same, part), other))
            places.append(Place.of(layer, selection))
        return items, places

    def _selection(self, layer: Layer, axes: Sequence[int]) -> regions.Selection:
        shapes = self.shapes.layer()
        if isinstance(shapes, Shapes):
            chosen = regions.shapes_box(layer, shapes)
        elif self.region.currentText() == _VIEW:
            chosen = regions.current_view(layer)
        else:
            chosen = regions.whole(layer)
        if self.slices.currentText() == _CURRENT:
            chosen = regions.current_plane(chosen, layer, self._viewer, axes)
        return chosen

    # State -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what is kept between sessions."""
        card = self.model.card()
        kept: dict[str, Any] = {
            "mode": self.mode,
            "device": self.device.device(),
            "region": self.region.currentText(),
            "slices": self.slices.currentText(),
            "options": self.form.values(),
        }
        return kept | ({"model": card.name} if card is not None else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Choose what was kept; what is unknown is passed over."""
        default = preference("quality", "model", "topiq-nr-synth")
        self.model.choose(str(state.get("model", default)))
        if "device" in state:
            self.device.choose(str(state["device"]))
        for name, box in (("region", self.region), ("slices", self.slices)):
            index = box.findText(str(state.get(name, "")))
            if index >= 0:
                box.setCurrentIndex(index)
        options = state.get("options")
        self.form.set_values(options if isinstance(options, dict) else {})
        self.set_mode(str(state.get("mode", MODES[0])))

    def close_down(self) -> None:
        """Let go of the viewer."""
        for picker in (self.image, self.reference, self.shapes):
            picker.close_down()
        self.form.close_down()
        self.model.close_down()
