"""The part of the Segment dock in which a model learns from labels that were put right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.child import in_child
from napari_cvsuite.segmentation.corrected import Corrected
from napari_cvsuite.segmentation.options import MOST_PIXELS, RetrainOptions
from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets.forms import OptionsForm
from napari_cvsuite.widgets.pickers import LayerPicker

if TYPE_CHECKING:
    from napari_cvsuite.segmentation.retrain import RetrainResult

__all__ = ["RetrainBox", "learn"]

_SHARED = ("model", "name", "axis", "channels", "stain")
"""What the dock asks for elsewhere."""
_ROLE = Qt.ItemDataRole.UserRole


@dataclass(frozen=True, eq=False)
class _Row:
    """What was added to the list: layers, whose labels may still be painted on."""

    image: Layer
    labels: Labels
    selection: regions.Selection


def learn(corrected: list[Corrected], options: RetrainOptions, context: Context) -> RetrainResult:
    """Retrain a model in a process of its own; for a worker thread."""
    # Here, since opening a dock must not load it.
    import torch

    from napari_cvsuite.segmentation import retrain

    # What is wrong with the labels is said before the process starts, which takes a while.
    context.progress(0, 0, "looking at the labels")
    retrain.check(corrected, options, context)
    context.progress(0, 0, "reading the images")
    read = [Corrected(_read(one.image), np.asarray(one.labels)) for one in corrected]
    context.progress(0, 0, "starting to learn")
    target, threads = "napari_cvsuite.segmentation.retrain:run", torch.get_num_threads()
    found: RetrainResult = in_child(target, (read, options), context, threads)
    return found


def _read(image: Image) -> Image:
    """Return the image in memory; lazy arrays need what only this process has."""
    pixels = int(np.prod(image.data.shape, dtype=np.int64))
    if pixels > MOST_PIXELS:
        raise ValueError(f"{image.name} has {pixels / 1e6:.0f} million pixels: choose a region.")
    return replace(image, data=np.asarray(image.data))


class RetrainBox(QWidget):
    """A list of corrected images, and a button that has a model learn from them.

    Parameters
    ----------
    viewer : napari Viewer
    image : LayerPicker
        Of the dock.
    selection : callable
        Image layer -> the part of it that is chosen in the dock.

    Signals
    -------
    wanted
        The learning is to begin.
    failed (str)
        Why nothing was added.
    """

    wanted = Signal()
    failed = Signal(str)

    def __init__(
        self,
        viewer: Viewer,
        image: LayerPicker,
        selection: Callable[[Layer], regions.Selection],
    ) -> None:
        super().__init__()
        self._viewer, self._image, self._selection = viewer, image, selection
        self.labels = LayerPicker(viewer, self._lies_on_image)
        self.labels.setToolTip("The labels that you put right; they lie on the chosen image.")
        self.add_button = QPushButton("Add")
        self.add_button.setToolTip("Add the chosen image and these labels to the list.")
        self.remove_button = QPushButton("Remove")
        self.rows = QListWidget()
        self.rows.setToolTip(
            "What the model learns from. All that is not labelled in these images counts as "
            "background: draw a box where only a part is corrected."
        )
        self.rows.setMaximumHeight(90)
        self.form = OptionsForm(RetrainOptions, leave_out=_SHARED)
        self.learn_button = QPushButton("Learn from corrections…")
        self._busy = False
        self._lay_out()
        self.labels.changed.connect(self._refresh)
        image.changed.connect(self.labels.refresh)
        self.add_button.clicked.connect(self.add)
        self.remove_button.clicked.connect(self._remove)
        self.rows.currentRowChanged.connect(self._refresh)
        self.learn_button.clicked.connect(self.wanted)
        viewer.layers.events.removed.connect(self._drop)
        self._refresh()

    def _lay_out(self) -> None:
        which = QHBoxLayout()
        which.addWidget(self.labels, 1)
        which.addWidget(self.add_button)
        which.addWidget(self.remove_button)
        top = QFormLayout()
        top.addRow("Labels", which)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self.rows)
        layout.addWidget(self.form.main.native)
        layout.addWidget(self.form.advanced.native)
        layout.addWidget(self.learn_button)

    def _lies_on_image(self, layer: Layer) -> bool:
        image = self._image.layer()
        return (
            isinstance(layer, Labels)
            and image is not None
            and regions.covered(image, layer) is not None
        )

    def _list(self) -> list[_Row]:
        items = (self.rows.item(i) for i in range(self.rows.count()))
        return [item.data(_ROLE) for item in items if item is not None]

    def add(self) -> None:
        """Add the chosen image with the chosen labels, in place of what was there of these."""
        image, labels = self._image.layer(), self.labels.layer()
        if image is None or not isinstance(labels, Labels):
            return
        part = regions.covered(image, labels)
        try:
            if part is None:
                raise ValueError(f"{labels.name} does not lie on {image.name}; move it back.")
            if part == regions.whole(image):
                part = self._selection(image)
        except ValueError as error:
            self.failed.emit(str(error))
            return
        self._take_out(lambda row: row.image is image and row.labels is labels)
        size = " × ".join(str(side) for side in part.shape)
        item = QListWidgetItem(f"{image.name} ↔ {labels.name} ({size})")
        item.setData(_ROLE, _Row(image, labels, part))
        self.rows.addItem(item)
        self.rows.setCurrentItem(item)
        self._refresh()

    def _remove(self) -> None:
        self.rows.takeItem(self.rows.currentRow())
        self._refresh()

    def _drop(self, event: Any) -> None:
        """Forget a layer that has left the viewer."""
        self._take_out(lambda row: event.value in (row.image, row.labels))
        self._refresh()

    def _take_out(self, unwanted: Callable[[_Row], bool]) -> None:
        for index in reversed(range(self.rows.count())):
            item = self.rows.item(index)
            if item is not None and unwanted(item.data(_ROLE)):
                self.rows.takeItem(index)

    def set_busy(self, busy: bool) -> None:
        """Allow no second learning while a job runs."""
        self._busy = busy
        self._refresh()

    def _refresh(self, *_: object) -> None:
        count = self.rows.count()
        self.add_button.setEnabled(self.labels.layer() is not None)
        self.remove_button.setEnabled(self.rows.currentRow() >= 0)
        self.learn_button.setEnabled(count > 0 and not self._busy)
        images = "1 image" if count == 1 else f"{count} images"
        self.learn_button.setText(f"Learn from {images}…" if count else "Learn from corrections…")

    def corrected(self) -> list[Corrected]:
        """Return the images, and the labels as they are now.

        Raises
        ------
        ValueError
            Labels do not lie on their image any more.
        ImageError
            An image cannot be used.
        """
        return [self._corrected(row) for row in self._list()]

    def _corrected(self, row: _Row) -> Corrected:
        part = regions.covered(row.image, row.labels)
        inside = part is not None and all(
            a <= c and d <= b
            for a, b, c, d in zip(
                part.start, part.stop, row.selection.start, row.selection.stop, strict=True
            )
        )
        if part is None or not inside:
            raise ValueError(
                f"{row.labels.name} does not lie on {row.image.name} as it did; add it again."
            )
        at = tuple(
            slice(a - start, b - start)
            for a, b, start in zip(row.selection.start, row.selection.stop, part.start, strict=True)
        )
        data = row.labels.data[0] if row.labels.multiscale else row.labels.data
        labels = data[at]
        if isinstance(labels, np.ndarray):
            # Painting goes on meanwhile.
            labels = labels.copy()
        return Corrected(regions.crop(Image.from_layer(row.image), row.selection), labels)

    def close_down(self) -> None:
        """Let go of the viewer and its layers."""
        self._viewer.layers.events.removed.disconnect(self._drop)
        self._selection = regions.whole
        self.rows.clear()
        self.labels.close_down()
        self.form.close_down()
