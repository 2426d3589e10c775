"""A transformer drawn as parallel paths: one row a layer, a box a path, what each writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPaintEvent, QPen, QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_cvsuite.widgets.paths_box import BOX, NEGATIVE, POSITIVE, PathBox, diverging

__all__ = ["PathPicture"]

ROW = 34
"""Height of a layer."""
HEAD, TAIL = 50, 34
"""Heights above the first layer (titles and embedding), and of the classifier below the last."""
LEGEND = 40
_LABELS = 34
_GAP = 14
_WIDEST = 150
_THICKEST = 5.0
_OFF = QColor("#8c8c8c")


class PathPicture(QWidget):
    """The network as an ensemble of paths, from the image at the top to the class at the bottom.

    Every layer adds two paths to the identity line: attention (MSA) and feed-forward network
    (FFN). The latter reads what the former wrote, which a dotted line shows. Boxes have the colour
    of their number, and lines back to the sum its thickness.

    Signals
    -------
    toggled (int, bool)
        A path was put in (True) or taken out (False) by the user.
    picked (int)
        A path was chosen.
    """

    toggled = Signal(int, bool)
    picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.boxes: list[PathBox] = []
        self._current = 0
        self._limit, self._title, self._outcome = 0.0, "", ""
        self._text = QColor("black")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Paths of the network")

    # What is shown -----------------------------------------------------------------------------

    def set_paths(self, names: Sequence[str]) -> None:
        """Draw other paths, all of them in the sum.

        Parameters
        ----------
        names : sequence of str
            ``embed``, ``msa_0``, ``ffn_0``, ``msa_1`` and so on.
        """
        if [box.name for box in self.boxes] == list(names):
            self.set_weights({})
            return
        for box in self.boxes:
            box.setParent(None)
            box.deleteLater()
        self.boxes = [PathBox(name, self) for name in names]
        for number, box in enumerate(self.boxes):
            box.toggled.connect(partial(self._toggled, number))
            box.picked.connect(partial(self._picked, number))
            box.moved.connect(partial(self._move, number))
            box.show()
        self._current = 0
        self._limit, self._title, self._outcome = 0.0, "", ""
        self._settle_focus()
        self._place()
        self.updateGeometry()
        self.update()

    def set_values(self, values: Iterable[float] | None, title: str = "") -> None:
        """Show a number for every path; None shows names.

        Parameters
        ----------
        values : iterable of float, optional
            Of every path.
        title : str
            What the numbers are, in words.

        Raises
        ------
        ValueError
            There are more or fewer numbers than paths.
        """
        given = [math.nan] * len(self.boxes) if values is None else [float(one) for one in values]
        if len(given) != len(self.boxes):
            raise ValueError(f"{len(self.boxes)} paths need as many numbers; got {len(given)}")
        known = [abs(one) for one in given if math.isfinite(one)]
        self._limit, self._title = max(known, default=0.0), title if known else ""
        for box, value in zip(self.boxes, given, strict=True):
            box.show_value(value, self._limit, title)
        self.update()

    def set_weights(self, weights: Mapping[int, float]) -> None:
        """Weigh these paths, and no others; 0 takes a path out. Nobody is told."""
        for number, box in enumerate(self.boxes):
            box.set_weight(weights.get(number, 1.0))
        self.update()

    def set_outcome(self, text: str) -> None:
        """Say in the classifier what it makes of the sum."""
        self._outcome = text
        self.update()

    def set_picked(self, number: int | None) -> None:
        """Mark a path, or none; nobody is told."""
        for place, box in enumerate(self.boxes):
            box.set_marked(place == number)
        if number is not None and 0 <= number < len(self.boxes):
            self._current = number
            self._settle_focus()

    def set_colours(self, text: str, back: str) -> None:
        """Take the colours of the window's theme; what lies behind is drawn by the window."""
        self._text = QColor(text)
        self.update()

    @property
    def off(self) -> frozenset[int]:
        """Numbers of the paths that are taken out."""
        return frozenset(n for n, box in enumerate(self.boxes) if not box.isChecked())

    @property
    def weights(self) -> dict[int, float]:
        """Weights of the paths that have another than 1; 0 for those that are taken out."""
        found = {n: box.weight if box.isChecked() else 0.0 for n, box in enumerate(self.boxes)}
        return {number: weight for number, weight in found.items() if weight != 1}

    @property
    def current(self) -> int:
        """Number of the path that the keyboard is at."""
        return self._current

    # What the user does ------------------------------------------------------------------------

    def _toggled(self, number: int, on: bool) -> None:
        self._current = number
        self._settle_focus()
        self.update()
        self.toggled.emit(number, on)

    def _picked(self, number: int) -> None:
        self.set_picked(number)
        self.picked.emit(number)

    def _move(self, number: int, key: int) -> None:
        """Go to another box: up and down through the layers, left and right within one."""
        last = len(self.boxes) - 1
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: -2, Qt.Key.Key_Down: 2}
        if key == Qt.Key.Key_Home:
            there = 0
        elif key == Qt.Key.Key_End:
            there = last
        else:
            step = next(size for one, size in steps.items() if key == one)
            # The embedding stands above the attention of the first layer.
            there = number + (1 if number == 0 and step == 2 else step)
        self._current = max(0, min(last, there))
        self._settle_focus()
        self.boxes[self._current].setFocus(Qt.FocusReason.TabFocusReason)

    def _settle_focus(self) -> None:
        """Let the tab key come to one box only; arrows lead on from there."""
        for number, box in enumerate(self.boxes):
            here = number == self._current
            policy = Qt.FocusPolicy.StrongFocus if here else Qt.FocusPolicy.ClickFocus
            if box.focusPolicy() != policy:
                box.setFocusPolicy(policy)

    # Places ------------------------------------------------------------------------------------

    @property
    def _layers(self) -> int:
        return len(self.boxes) // 2

    @property
    def _width(self) -> float:
        """Width of a box."""
        room = (self.width() - _LABELS - 3 * _GAP - BOX.width()) / 2
        return max(BOX.width(), min(_WIDEST, room))

    @property
    def _line(self) -> float:
        """Where the identity line runs."""
        return _LABELS + BOX.width() / 2

    def _left(self, column: int) -> float:
        """Return where the boxes of a column begin."""
        return _LABELS + BOX.width() + _GAP + column * (self._width + 1.5 * _GAP)

    def _top(self, layer: int) -> float:
        return HEAD + layer * ROW

    def _place(self) -> None:
        for number, box in enumerate(self.boxes):
            if number == 0:
                box.setGeometry(_LABELS, 20, BOX.width(), BOX.height())
                continue
            layer, column = divmod(number - 1, 2)
            top = round(self._top(layer) + (ROW - BOX.height()) / 2)
            box.setGeometry(round(self._left(column)), top, round(self._width), BOX.height())

    def sizeHint(self) -> QSize:
        """Return a size at which everything can be read."""
        return self.minimumSizeHint()

    def minimumSizeHint(self) -> QSize:
        """Return the same, since the height is fixed."""
        width = _LABELS + 3 * BOX.width() + round(3.5 * _GAP)
        return QSize(width, HEAD + self._layers * ROW + TAIL + LEGEND if self.boxes else 0)

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        """Move the boxes."""
        super().resizeEvent(a0)
        self._place()

    # Drawing -----------------------------------------------------------------------------------

    def paintEvent(self, a0: QPaintEvent | None) -> None:
        """Draw all lines, the titles, the classifier and the legend."""
        if not self.boxes:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._draw_titles(painter)
        end = self._top(self._layers)
        self._draw_line(painter, 0, QPointF(self._line, 34), QPointF(self._line, end))
        for layer in range(self._layers):
            self._draw_layer(painter, layer)
        self._draw_classifier(painter, end)
        self._draw_legend(painter, end + TAIL + 8)

    def _pen(self, width: float = 1.2) -> QPen:
        return QPen(self._text, width)

    def _draw_titles(self, painter: QPainter) -> None:
        painter.setPen(self._pen())
        centre = int(Qt.AlignmentFlag.AlignCenter)
        painter.drawText(QRectF(_LABELS, 0, BOX.width(), 18), centre, "embedding")
        for column, title in enumerate(("attention (MSA)", "feed-forward (FFN)")):
            place = QRectF(self._left(column) - 12, 0, self._width + 24, 18)
            painter.drawText(place, centre, title)
        painter.drawText(
            QRectF(0, HEAD - 18, _LABELS + 6, 16), int(Qt.AlignmentFlag.AlignLeft), "layer"
        )

    def _draw_layer(self, painter: QPainter, layer: int) -> None:
        """Draw how the identity line feeds both paths, and how they add to it."""
        top, bottom = self._top(layer) + 2, self._top(layer) + ROW - 3
        middle = (top + bottom) / 2
        painter.setPen(self._pen())
        number = QRectF(0, middle - 9, _LABELS - 8, 18)
        painter.drawText(number, int(Qt.AlignmentFlag.AlignCenter), str(layer))
        thin = self._pen(1.0)
        centres = [self._left(column) + self._width / 2 for column in (0, 1)]
        painter.setPen(thin)
        painter.drawLine(QPointF(self._line, top), QPointF(centres[1], top))
        for centre in centres:
            painter.drawLine(QPointF(centre, top), QPointF(centre, middle))
        dotted = QPen(self._text, 1.4, Qt.PenStyle.DotLine)
        painter.setPen(dotted)
        painter.drawLine(
            QPointF(self._left(0) + self._width, middle), QPointF(self._left(1), middle)
        )
        # The attention's line lies on top, to be seen where both run together.
        for column in (1, 0):
            corner = QPointF(centres[column], bottom)
            path = 2 * layer + 1 + column
            self._draw_line(painter, path, QPointF(centres[column], middle), corner)
            self._draw_line(painter, path, corner, QPointF(self._line, bottom))
        painter.setBrush(self._text)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.drawEllipse(QPointF(self._line, bottom), 3, 3)

    def _draw_line(self, painter: QPainter, path: int, start: QPointF, end: QPointF) -> None:
        """Draw what a path gives to the sum, as thick as its number is large."""
        box = self.boxes[path]
        if path == 0:
            pen = self._pen(1.8)
        elif not box.isChecked():
            pen = QPen(_OFF, 1.2, Qt.PenStyle.DashLine)
        elif math.isnan(box.value) or self._limit == 0:
            pen = self._pen(1.2)
        else:
            share = abs(box.value) / self._limit
            pen = QPen(POSITIVE if box.value > 0 else NEGATIVE, 1.0 + (_THICKEST - 1.0) * share)
            pen.setColor(pen.color().lighter(130))
        painter.setPen(pen)
        painter.drawLine(start, end)

    def _draw_classifier(self, painter: QPainter, top: float) -> None:
        right = self._left(1) + self._width
        body = QRectF(_LABELS, top + 2, right - _LABELS, TAIL - 6)
        painter.setPen(self._pen())
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(body, 4, 4)
        text = f"sum → classifier: {self._outcome}" if self._outcome else "sum → classifier"
        shown = painter.fontMetrics().elidedText(
            text, Qt.TextElideMode.ElideRight, round(body.width()) - 12
        )
        painter.drawText(body, int(Qt.AlignmentFlag.AlignCenter), shown)

    def _draw_legend(self, painter: QPainter, top: float) -> None:
        if self._limit == 0:
            return
        right = self._left(1) + self._width
        painter.setPen(self._pen())
        centre = int(Qt.AlignmentFlag.AlignCenter)
        low, high = f"{-self._limit:.2f}", f"+{self._limit:.2f}"
        bar = QRectF(_LABELS + 44, top, right - _LABELS - 88, 10)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        for place in (0.0, 0.5, 1.0):
            gradient.setColorAt(place, diverging(2 * place - 1, 1.0))
        painter.fillRect(bar, gradient)
        painter.drawText(QRectF(_LABELS, top - 5, 42, 20), centre, low)
        painter.drawText(QRectF(right - 42, top - 5, 42, 20), centre, high)
        words = painter.fontMetrics().elidedText(
            self._title, Qt.TextElideMode.ElideRight, round(right - _LABELS)
        )
        painter.drawText(QRectF(_LABELS, top + 12, right - _LABELS, 18), centre, words)
