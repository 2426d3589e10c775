"""The Segment dock: from an open image to labels that can be corrected."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer, Shapes
from napari.viewer import Viewer
from qtpy.QtWidgets import QComboBox, QFormLayout, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context, OptionError
from napari_cvsuite.segmentation.options import MOST_PIXELS, PredictOptions, RetrainOptions
from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets._compat import look_at
from napari_cvsuite.widgets.dock import Dock
from napari_cvsuite.widgets.forms import OptionsForm
from napari_cvsuite.widgets.garbage import GarbagePause
from napari_cvsuite.widgets.keeping import ModelKeeper
from napari_cvsuite.widgets.object_table import ObjectTable
from napari_cvsuite.widgets.pickers import DevicePicker, LayerPicker, ModelPicker, choice_box
from napari_cvsuite.widgets.prepare import prepare
from napari_cvsuite.widgets.preview import Preview
from napari_cvsuite.widgets.quality_rows import skip_of
from napari_cvsuite.widgets.result_layers import (
    Mode,
    Prepared,
    Source,
    UndoTooLarge,
    new_labels,
    new_map,
    write_labels,
)
from napari_cvsuite.widgets.segment_retrain import RetrainBox, learn
from napari_cvsuite.widgets.settings import load_state, preference

if TYPE_CHECKING:
    from napari_cvsuite.segmentation.retrain import RetrainResult

__all__ = ["RUN_KEY", "SegmentDock"]

RUN_KEY = "Control-Shift-R"
"""Keyboard shortcut that runs the dock."""

_WHOLE, _VIEW = "whole image", "current view"
_ALL_PLANES, _THIS_PLANE, _KEPT_PLANES = "all planes", "current plane", "not rejected"
_MODES: tuple[Mode, ...] = ("new layer", "replace", "fill empty only")
_WRONG = "QComboBox { border: 1px solid #e5534b; }"


class SegmentDock(Dock):
    """Segment the chosen image layer with the chosen model.

    Parameters
    ----------
    napari_viewer : napari Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "segment", RUN_KEY, "Segment")
        self._preview: Preview | None = None
        self._garbage = GarbagePause()
        self._kept: Labels | None = None
        # napari's first Labels layer of a session imports SciPy, for a fifth of a second.
        Labels(np.zeros((1, 1), np.uint8))
        self._make_inputs()
        self._lay_out()
        self._restore()
        self._connect()
        self._begin()

    def _make_inputs(self) -> None:
        viewer = self.viewer
        self.image = LayerPicker(viewer, lambda layer: isinstance(layer, ImageLayer))
        self.model = ModelPicker("segmentation")
        self.device = DevicePicker(preference("segment", "device", "auto"))
        self.region = choice_box((_WHOLE, _VIEW), "Part of the image to segment.")
        self.shapes = LayerPicker(viewer, lambda layer: isinstance(layer, Shapes), "no box")
        self.shapes.setToolTip("A Shapes layer whose (selected) box is segmented alone.")
        self.planes = choice_box(
            (_ALL_PLANES, _THIS_PLANE, _KEPT_PLANES),
            "Planes of a stack to segment; not rejected: those kept in the Quality dock.",
        )
        self.show_as = choice_box(
            ("automatic", "objects", "classes"), "What the Labels layer holds after the run."
        )
        self.mode = choice_box(_MODES, "What happens to labels that are there already.")
        self.target = LayerPicker(viewer, self._fits, "choose a layer")
        self.form = OptionsForm(PredictOptions, leave_out=("model",))
        self.retrain = RetrainBox(viewer, self.image, self._selection)
        self.keeper = ModelKeeper(
            self.model, self.run_bar, "Keep the new model", "my-segmentation", self
        )
        self.table = ObjectTable()

    def _lay_out(self) -> None:
        top = QFormLayout()
        top.addRow("Image", self.image)
        top.addRow("Model", self.model)
        where = QFormLayout()
        where.addRow("Region", self.region)
        where.addRow("Box", self.shapes)
        where.addRow("Planes", self.planes)
        where.addRow("Show", self.show_as)
        where.addRow("Write to", self.mode)
        where.addRow("Labels", self.target)
        where.addRow("Device", self.device)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(where)
        column.addWidget(self.form.main.native)
        column.addWidget(self.form.advanced.native)
        self.more = QCollapsible("Options")
        self.more.setContent(inner)
        self.more.collapse(animate=False)
        self.teach = QCollapsible("Learn from corrections")
        self.teach.setContent(self.retrain)
        self.teach.collapse(animate=False)
        layout = QVBoxLayout(self)
        layout.addLayout(top)
        layout.addWidget(self.run_bar)
        layout.addWidget(self.more)
        layout.addWidget(self.teach)
        layout.addWidget(self.table, 1)
        layout.addStretch()
        for box in self.findChildren(QComboBox):
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def _connect(self) -> None:
        for picker in (self.image, self.model, self.shapes, self.target):
            picker.changed.connect(self._changed)
        self.image.changed.connect(self.target.refresh)
        for box in (self.device, self.region, self.planes, self.show_as, self.mode):
            box.currentIndexChanged.connect(self._changed)
        self.form.on_change(self._changed)
        self.model.failed.connect(self.fail)
        self.table.failed.connect(self.fail)
        self.table.row_chosen.connect(self._go_to)
        self.retrain.failed.connect(self.fail)
        self.retrain.wanted.connect(self.learn)
        self.retrain.form.on_change(self._changed)
        self.runner.started.connect(partial(self.retrain.set_busy, True))
        self.runner.ended.connect(partial(self.retrain.set_busy, False))
        self.runner.previewed.connect(self._show_tile)
        self.runner.done.connect(self._finish)
        self.runner.ended.connect(self._over)

    # State ---------------------------------------------------------------------------------

    def _restore(self) -> None:
        state = load_state("segment")
        self.model.choose(str(state.get("model", preference("segment", "model", "qtseg-nuclei"))))
        if "device" in state:
            self.device.choose(str(state["device"]))
        for name, box in self._boxes().items():
            # findText gives -1 for what an older version saved; the default stays then.
            index = box.findText(str(state.get(name, "")))
            if index >= 0:
                box.setCurrentIndex(index)
        options = state.get("options")
        self.form.set_values(options if isinstance(options, dict) else {})
        learning = state.get("learning")
        self.retrain.form.set_values(learning if isinstance(learning, dict) else {})

    def _boxes(self) -> dict[str, QComboBox]:
        return {"region": self.region, "planes": self.planes, "show": self.show_as}

    def _state(self) -> dict[str, Any]:
        card = self.model.card()
        state: dict[str, Any] = {name: box.currentText() for name, box in self._boxes().items()}
        state |= {"device": self.device.device(), "options": self.form.values()}
        state["learning"] = self.retrain.form.values()
        if card is not None:
            state["model"] = card.name
        return state

    # What is wrong, before Run ----------------------------------------------------------------

    def _fits(self, layer: Layer) -> bool:
        image = self.image.layer() if hasattr(self, "image") else None
        if image is None or not isinstance(layer, Labels):
            return False
        return bool(layer.data.shape == regions.whole(image).shape)

    def _problem(self) -> tuple[str, QWidget | None]:
        layer = self.image.layer()
        if layer is None:
            return "Open an image to segment.", self.image
        try:
            Image.from_layer(layer)
        except ValueError as error:
            return str(error), self.image
        if self.model.card() is None:
            return "Choose a model.", self.model
        if self.mode.currentText() != _MODES[0] and self.target.layer() is None:
            return "Choose the Labels layer to write to, or write to a new layer.", self.target
        try:
            options = self._options()
        except OptionError as error:
            return str(error), None
        except ValueError as error:
            return f"{error}.", self.planes
        pixels = int(np.prod(regions.whole(layer).shape, dtype=np.int64))
        if self.region.currentText() == _WHOLE and pixels > MOST_PIXELS:
            return f"{pixels / 1e6:.0f} million pixels: choose a region of the image.", self.region
        if options.stain != "none" and not layer.rgb:
            return f"Stain {options.stain!r} needs an RGB image; choose 'none'.", self.image
        return "", None

    def _validate(self) -> None:
        text, field = self._problem()
        for picker in (self.image, self.model, self.target, self.planes):
            style = _WRONG if picker is field else ""
            # Setting a style costs milliseconds even when it is the same one.
            if picker.styleSheet() != style:
                picker.setStyleSheet(style)
        writes = self.mode.currentText() != _MODES[0]
        self.target.setEnabled(writes)
        layer = self.image.layer()
        self.planes.setEnabled(layer is not None and layer.ndim > 2)
        self.region.setEnabled(self.shapes.layer() is None)
        self.run_bar.set_problem(text)

    def _options(self) -> PredictOptions:
        card, layer = self.model.card(), self.image.layer()
        made = self.form.read(model=card.name if card else "")
        assert isinstance(made, PredictOptions)
        if layer is None or layer.ndim <= 2 or self.planes.currentText() == _THIS_PLANE:
            return replace(made, skip="")
        if self.planes.currentText() == _KEPT_PLANES:
            return replace(made, skip=skip_of(layer, made.axis))
        return made

    # Run ------------------------------------------------------------------------------------

    def _selection(self, layer: Layer) -> regions.Selection:
        shapes = self.shapes.layer()
        if isinstance(shapes, Shapes):
            chosen = regions.shapes_box(layer, shapes)
        elif self.region.currentText() == _VIEW:
            chosen = regions.current_view(layer)
        else:
            chosen = regions.whole(layer)
        if self.planes.currentText() == _THIS_PLANE:
            chosen = regions.current_plane(chosen, layer, self.viewer)
        return chosen

    def run(self) -> None:
        """Segment; the same as pressing the button."""
        layer, card = self.image.layer(), self.model.card()
        if not self._may_run(self.model) or layer is None or card is None:
            return
        try:
            options, selection = self._options(), self._selection(layer)
            image = Image.from_layer(layer)
        except ValueError as error:
            self.fail(str(error))
            return
        self._source = Source.of(layer, selection)
        self._mode, self._target = self.mode.currentText(), self.target.layer()
        self._preview = Preview(self.viewer, self._source, max(len(card.classes), 2))
        classes, name, show = card.classes, str(layer.name), self.show_as.currentText()

        def work(context: Context) -> Prepared:
            # Here, since it imports torch.
            from napari_cvsuite.segmentation.predict import run

            result = run(regions.crop(image, selection), options, context)
            context.check()
            return prepare(result, classes, options, name, show)

        self._save_later.start()
        self._garbage.begin()
        self._steps.take(self._preview.open)
        self.runner.start(work, self.device.device(), f"segment {name}")

    def _show_tile(self, tile: Any) -> None:
        if self._preview is not None:
            self._preview.add(tile)

    def _finish(self, found: Prepared | RetrainResult) -> None:
        self.model.note_fetched()
        if isinstance(found, Prepared):
            self._finish_run(found)
        else:
            self._finish_learning(found)

    def _finish_run(self, prepared: Prepared) -> None:
        preview, self._preview = self._preview, None
        assert preview is not None
        self._kept = preview.release()
        # Of the first run torch has come since the beginning.
        self._garbage.begin()
        self._steps.add(lambda: self._show(prepared, preview.brushes))

    def _show(self, prepared: Prepared, brushes: list[Callable[[], object]]) -> Iterator[None]:
        """Show the result bit by bit: napari takes long over a layer, and the window must live."""
        for name in prepared.maps:
            new_map(self.viewer, name, prepared, self._source, self._kept)
            yield
        message = yield from self._put(prepared)
        if self._kept is self._shown:
            self._kept = None
        else:
            brushes.clear()
        try:
            self.device.complete()
            seconds = prepared.provenance.get("seconds", 0.0)
            self.run_bar.say(f"{message} {seconds:.1f} s on {prepared.provenance.get('device')}.")
            yield
            self._bring_forward()
            yield
            self.table.set_rows(prepared.rows, prepared.classes, in_order=True)
            while brushes:
                yield
                brushes.pop()()
        finally:
            # The dock was closed meanwhile.
            while brushes:
                brushes.pop()()

    def _put(self, prepared: Prepared) -> Generator[None, None, str]:
        """Write the result where it was asked for; return what happened in words."""
        found = f"{len(prepared.rows)} objects."
        target = self._target
        if self._mode != _MODES[0] and isinstance(target, Labels):
            if target not in self.viewer.layers:
                found += " The Labels layer is gone; the result is a new layer."
            else:
                try:
                    budget = int(preference("segment", "undo_memory", 256)) << 20
                    mode: Mode = "replace" if self._mode == "replace" else "fill empty only"
                    part = self._source.selection
                    count = yield from write_labels(target, prepared, part, mode, budget)
                    self._shown: Layer = target
                    return f"{found} {count} pixels changed; Ctrl+Z takes it back."
                except UndoTooLarge:
                    found += " Too large to undo, so the result is a new layer."
                except ValueError as error:
                    found += f" A new layer: {error}."
        self._shown = new_labels(self.viewer, prepared, self._source, self._kept)
        return found

    def _bring_forward(self) -> None:
        """Put the labels on top and select them."""
        layers = self.viewer.layers
        if self._shown in layers:
            if layers[-1] is not self._shown:
                layers.move(layers.index(self._shown), len(layers))
            layers.selection.active = self._shown

    def _over(self) -> None:
        if self._preview is not None:
            # There is no result. Hiding the layer is quick; its removal, which stops the window
            # for longer, can wait.
            self._kept, self._preview = self._preview.release(), None
            if self._kept is not None:
                self._kept.visible = False
        self._steps.add(self._drop_kept, self._garbage.end)

    def _drop_kept(self) -> None:
        """Remove the layer of the preview, unless it has become the result."""
        kept, self._kept = self._kept, None
        if kept in self.viewer.layers:
            self.viewer.layers.remove(kept)

    def _go_to(self, row: dict[str, Any]) -> None:
        layer = self._shown
        if layer not in self.viewer.layers:
            self.run_bar.say("The labels of this table are gone.", "warning")
            return
        image_index = int(row.get("plane", 0))
        look_at(self.viewer, self._place_of(row, layer, image_index))
        if isinstance(layer, Labels):
            layer.selected_label = int(row["index"])

    def _place_of(self, row: dict[str, Any], layer: Layer, plane: int) -> tuple[float, ...]:
        """Return the world position of an object's centre."""
        selection = self._source.selection
        inside = np.unravel_index(plane, selection.shape[:-2]) if len(selection.shape) > 2 else ()
        size = np.abs(np.asarray(self._source.geometry["scale"], float))[-2:]
        pixel = (row["centroid_y"] / size[0], row["centroid_x"] / size[1])
        offset = (0,) * len(selection.shape) if layer is not self._target else selection.start
        index = [float(a + b) for a, b in zip((*inside, *pixel), offset, strict=True)]
        return tuple(float(v) for v in layer.data_to_world(index))

    # Learn ----------------------------------------------------------------------------------

    def learn(self) -> None:
        """Have the chosen model learn from the corrected images in the list."""
        card = self.model.card()
        if not self.idle or self.keeper.busy:
            return
        if card is None:
            self.fail("Choose a model.")
            return
        if not self._permitted(self.model):
            return
        try:
            corrected = self.retrain.corrected()
            shared = {name: self.form.values()[name] for name in ("axis", "channels", "stain")}
            options = self.retrain.form.read(model=card.name, **shared)
        except ValueError as error:
            self.fail(str(error))
            return
        assert isinstance(options, RetrainOptions)
        device, name = self.device.device(), f"learn from {len(corrected)} images"
        self.runner.start(lambda c: learn(corrected, options, c), device, name, "training")

    def _finish_learning(self, found: RetrainResult) -> None:
        def keep(name: str) -> str:
            # Here, since it imports torch.
            from napari_cvsuite.segmentation.retrain import keep

            return keep(found, name)

        self._steps.add(lambda: self.keeper.offer(found.in_words(), found.better, keep))

    # End ------------------------------------------------------------------------------------

    def _close_down(self) -> None:
        self._garbage.end()
        self._drop_kept()
        self.keeper.close_down()
        self.retrain.close_down()
        for picker in (self.image, self.shapes, self.target):
            picker.close_down()
        self.form.close_down()
        self.model.close_down()
        self.table.close_down()
