"""Curves of depth, frequency and length in the Paths dock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cvsuite.widgets.neurons_data import PathField
from napari_cvsuite.widgets.neurons_results import NumberModel
from napari_cvsuite.widgets.object_table import ObjectTable
from napari_cvsuite.widgets.paths_plot import (
    COLOURS,
    Curve,
    PathPlot,
    align,
    by_depth,
    narrow,
    show_rows,
    words_label,
)

if TYPE_CHECKING:
    from napari_cvsuite.paths.counting import Lengths
    from napari_cvsuite.paths.depth import Lens
    from napari_cvsuite.paths.frequency import Frequencies
    from napari_cvsuite.paths.stack import StackEffects

__all__ = ["DEPTH", "FREQUENCY", "LENGTHS", "STACK", "CurvesPage"]

DEPTH = "Prediction after each layer"
FREQUENCY = "Spatial frequencies of every path"
LENGTHS = "Lengths of the paths"
STACK = "Every slice, with paths off"
"""Names of the curves."""
_CURVES = {
    DEPTH: "The classifier applied to the sum of the paths up to each layer (logit lens).",
    FREQUENCY: "How coarse or fine what each path writes is: log amplitude along the diagonal of "
    "the grid of patches, relative to the mean. The slices of the image, or a folder of images, "
    "are averaged.",
    LENGTHS: "How many terms the sum has, and through how many modules the routes in them go.",
    STACK: "Every slice of the image without the paths that are switched off in the picture, and "
    "with the others as they are weighed there, one slice at a time.",
}
_FACTS = ("model", "weights_sha256", "image", "version")
_MOST_CLASSES = 5


class CurvesPage(QWidget):
    """Curves of depth, frequency, length or slices, one at a time.

    Signals
    -------
    wanted ()
        To be drawn.
    slice_chosen (int)
        A slice of the curve over slices was clicked, or its row.
    """

    wanted = Signal()
    slice_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.what = QComboBox()
        self.what.addItems(list(_CURVES))
        self.tip = QLabel()
        self.tip.setWordWrap(True)
        self.folder = PathField("Folder of images to average, instead of the slices of the image")
        self.button = QPushButton("Draw")
        self.plot = PathPlot()
        self.words = words_label()
        self.table = ObjectTable("rows", NumberModel(), "curves.csv")
        self.table.setMinimumHeight(160)
        first, self._form = QFormLayout(), QFormLayout()
        first.addRow("Curve", self.what)
        self._form.addRow("Folder", self.folder)
        for form in (first, self._form):
            align(form)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(first)
        column.addWidget(self.tip)
        column.addLayout(self._form)
        for widget in (self.button, self.plot, self.words, self.table):
            column.addWidget(widget)
        column.addStretch(1)
        narrow(self.what)
        self.what.currentIndexChanged.connect(lambda _: self._arrange())
        self.button.clicked.connect(lambda _: self.wanted.emit())
        self.plot.place_chosen.connect(self._place_chosen)
        self.table.row_chosen.connect(self._row_chosen)
        self._slices = 0
        self._arrange()

    def choose(self, name: str) -> None:
        """Choose a curve."""
        self.what.setCurrentText(name)

    def _arrange(self) -> None:
        name = self.what.currentText()
        self.tip.setText(f"<i>{_CURVES[name]}</i>")
        label = self._form.labelForField(self.folder)
        for widget in (label, self.folder):
            if widget is not None:
                widget.setVisible(name == FREQUENCY)

    def _show(self, words: str, found: Any, hidden: Sequence[str] = ()) -> None:
        self._slices = 0
        self.words.setText(words)
        facts = {name: found.provenance[name] for name in _FACTS if name in found.provenance}
        rows = [{**row, **facts} for row in found.rows()]
        show_rows(self.table, rows, (*hidden, *facts))

    def show_lens(self, found: Lens) -> None:
        """Draw the probabilities of the likeliest classes, and of the target, after each layer."""
        shares, depths = found.probabilities, range(len(found.probabilities))
        names = list(dict.fromkeys([found.classes[found.target.one], *_likeliest(found)]))
        colours = [*COLOURS.values(), "#cc79a7", "#0072b2", "#999999"]
        curves = [
            Curve(name, depths, shares[:, found.classes.index(name)].tolist(), colours[number])
            for number, name in enumerate(names[: _MOST_CLASSES + 1])
        ]
        self.plot.show_curves(curves, "layers", "probability", True, True)
        settled, last = _settled(found), found.likely[-1][0].name
        text = (
            f"The prediction is {last} after {settled} of {len(depths) - 1} layers, and stays so."
        )
        self._show(text if settled else f"The prediction is {last} at every depth.", found)

    def show_frequencies(self, found: Frequencies) -> None:
        """Draw a curve for each path, coloured by depth, and the sum."""
        x = found.frequencies.tolist()
        curves = []
        for number, name in enumerate(found.names):
            style = ":" if name.startswith("msa") else "-"
            colour = by_depth(number, len(found.names))
            ends = number in (0, len(found.names) - 1)
            values = found.curves[number].tolist()
            curves.append(Curve(name, x, values, colour, style, named=ends))
        curves.append(Curve("sum of all", x, found.whole.tolist(), "#d55e00"))
        if found.without is not None:
            curves.append(Curve("sum without", x, found.without.tolist(), "#d55e00", "--"))
        self.plot.show_curves(curves, "cycles a patch", "log amplitude, DC = 0")
        finer = [name for name, one in zip(found.names, found.finer(), strict=True) if one]
        text = (
            f"Mean of {found.images} image{'s' if found.images > 1 else ''}; attention dotted, "
            f"from dark (first layer) to bright (last). Finer than the sum: "
            f"{', '.join(finer) or 'none'}. {found.words}"
        )
        self._show(text, found)

    def show_lengths(self, found: Lengths) -> None:
        """Draw how many routes go through how many modules, by the layer they end in."""
        total = sum(found.routes)
        modules = range(len(found.routes))
        curves = [
            Curve(
                "embedding" if layer == 0 else f"layer {layer - 1}",
                modules,
                [math.nan if count == 0 else count / total for count in row],
                by_depth(layer, len(found.ending)),
                named=layer in (0, found.layers),
            )
            for layer, row in enumerate(found.ending)
        ]
        whole = [count / total for count in found.routes]
        curves.append(Curve("all", modules, whole, "#d55e00", "--"))
        self.plot.show_curves(curves, "modules on the route", "share of routes", whole=True)
        counts = found.counts
        self._show(
            f"{found.layers} layers with {found.heads} heads: a sum of {counts.layer} paths by "
            f"layer, {counts.module} by module, {counts.head} by head. Each path holds every "
            f"route that ends in it, {total:.3g} in all; only the paths add up exactly.",
            found,
        )

    # Slices ------------------------------------------------------------------------------------

    def show_stack(self, found: StackEffects) -> None:
        """Draw the target's logit in every slice, before and after."""
        slices, target = range(len(found.indices)), found.target
        after = target.of(found.after).tolist()
        changed = found.changed.nonzero()[0].tolist()
        curves = [
            Curve("whole network", slices, target.of(found.before).tolist()),
            Curve(found.intervention, slices, after, COLOURS["ffn"]),
            Curve("prediction changes", changed, [after[k] for k in changed], "#d55e00", "x"),
        ]
        self.plot.show_curves(curves, "slice", f"logit of {target.name}", whole=True)
        self.plot.canvas.setToolTip("Click a slice to go there.")
        self._show(_stack_words(found), found, _SAME)
        self._slices = len(slices)

    def mark_slice(self, number: int) -> None:
        """Mark a slice, while slices are shown."""
        if self._slices:
            self.plot.set_mark(number)

    def _place_chosen(self, place: int) -> None:
        if self._slices:
            self.slice_chosen.emit(max(0, min(self._slices - 1, place)))

    def _row_chosen(self, row: dict[str, Any]) -> None:
        if self._slices:
            self.slice_chosen.emit(int(row["slice"]))


_SAME = ("class", "paths", "intervention", "replacement")
"""Columns of slices that are the same in every row: for the file, not for the eye."""


def _stack_words(found: StackEffects) -> str:
    known = np.flatnonzero(~np.isnan(found.effects))
    blank = len(found.effects) - len(known)
    text = f"{blank} slices without any finite pixel are left out. " if blank else ""
    if not len(known):
        return text
    most = known[np.abs(found.effects[known]).argmax()]
    return (
        f"By {found.intervention} of {found.name} ({found.replacement}) the prediction changes in "
        f"{found.changed.sum()} of {len(known)} slices. The logit of {found.target.name} loses "
        f"{found.effects[known].mean():+.3f} on average, most in slice {most} "
        f"({found.effects[most]:+.3f}). {text}<i>Click a slice to go there.</i>"
    )


def _likeliest(found: Lens) -> list[str]:
    return [one.name for one in found.likely[-1][:_MOST_CLASSES]]


def _settled(found: Lens) -> int:
    """Return the depth from which on the prediction stays."""
    last = found.likely[-1][0].name
    depth = len(found.likely) - 1
    while depth > 0 and found.likely[depth - 1][0].name == last:
        depth -= 1
    return depth
