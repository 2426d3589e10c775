"""One path of the picture of a transformer: a switch, and a number to click."""

from __future__ import annotations

import math

from qtpy.QtCore import QPoint, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from qtpy.QtWidgets import QAbstractButton, QWidget

__all__ = ["BOX", "NEGATIVE", "POSITIVE", "PathBox", "diverging", "long_name"]

BOX = QSize(98, 22)
"""Size of a box at least."""
NEGATIVE, POSITIVE = QColor("#2166ac"), QColor("#b2182b")
"""Ends of the blue-white-red scale."""
_OFF = QColor("#8c8c8c")
_SWITCH = QRectF(6, 0, 20, 10)
_MOVES = (
    Qt.Key.Key_Up,
    Qt.Key.Key_Down,
    Qt.Key.Key_Left,
    Qt.Key.Key_Right,
    Qt.Key.Key_Home,
    Qt.Key.Key_End,
)


def diverging(value: float, limit: float) -> QColor:
    """Return the colour of a number between ``-limit`` (blue) and ``limit`` (red); 0 is white."""
    share = max(-1.0, min(1.0, value / limit)) if limit > 0 else 0.0
    end = POSITIVE if share > 0 else NEGATIVE
    mixed = (round(255 + abs(share) * (one - 255)) for one in end.getRgb()[:3])
    return QColor(*mixed)


def long_name(name: str) -> str:
    """Return what a path is, in words."""
    kind, _, number = name.partition("_")
    words = {"embed": "embedding of the image", "msa": "attention", "ffn": "feed-forward network"}
    return words.get(kind, name) + (f" of layer {number}" if number else "")


class PathBox(QAbstractButton):
    """A path: checked while it is in the sum.

    The switch on its left end puts it in and out, as the space bar does; a click on the rest, or
    the return key, picks it.

    Parameters
    ----------
    name : str
        Such as ``msa_0``.

    Signals
    -------
    picked ()
    moved (int)
        A key that leads to another box.
    """

    picked = Signal()
    moved = Signal(int)

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = name
        self.value, self.limit, self.what = math.nan, 1.0, ""
        self.marked = False
        self.weight = 1.0
        self.setCheckable(True)
        self.setChecked(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.toggled.connect(self._describe)
        self._describe()

    def show_value(self, value: float, limit: float, what: str) -> None:
        """Show a number, NaN for none.

        Parameters
        ----------
        value, limit : float
            The number, and that which has the strongest colour.
        what : str
            What the number is, in words.
        """
        self.value, self.limit, self.what = value, limit, what
        self._describe()
        self.update()

    def set_weight(self, weight: float) -> None:
        """Weigh the path while it is in the sum; 0 takes it out. Nobody is told."""
        self.blockSignals(True)
        self.setChecked(weight != 0)
        self.blockSignals(False)
        self.weight = weight or 1.0
        self._describe()
        self.update()

    def set_marked(self, marked: bool) -> None:
        """Show whether this is the picked path."""
        self.marked = marked
        self.update()

    def _describe(self, *_: object) -> None:
        state = "in the sum" if self.isChecked() else "taken out"
        if self.isChecked() and self.weight != 1:
            state = f"weighed by {self.weight:g}"
        share = "" if math.isnan(self.value) else f"{self.what} {self.value:+.4g}"
        self.setAccessibleName(", ".join(filter(None, (self.name, share, state))))
        lines = [f"<b>{self.name}</b>: {long_name(self.name)}", share, f"It is {state}."]
        lines.append("Switch: take out or put back (space). Number: pick it (return).")
        self.setToolTip("<br>".join(filter(None, lines)))

    # Events ------------------------------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """Return the size of a box."""
        return BOX

    def _switch(self) -> QRectF:
        return _SWITCH.translated(0, (self.height() - _SWITCH.height()) / 2)

    def hitButton(self, pos: QPoint) -> bool:
        """Return whether a place belongs to the switch."""
        return self.rect().contains(pos) and pos.x() < self._switch().right() + 4

    def mouseReleaseEvent(self, e: QMouseEvent | None) -> None:
        """Pick the path where it was not the switch that was clicked."""
        if e is not None and e.button() == Qt.MouseButton.LeftButton:
            place = e.pos()
            if self.rect().contains(place) and not self.hitButton(place):
                self.picked.emit()
        super().mouseReleaseEvent(e)

    def keyPressEvent(self, e: QKeyEvent | None) -> None:
        """Pick, or lead to another box; the space bar is the button's own."""
        if e is not None and e.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.picked.emit()
        elif e is not None and e.key() in _MOVES:
            self.moved.emit(int(e.key()))
        else:
            super().keyPressEvent(e)

    # Drawing -----------------------------------------------------------------------------------

    def paintEvent(self, e: QPaintEvent | None) -> None:
        """Draw the box, its switch and its number."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        on, known = self.isChecked(), not math.isnan(self.value)
        face = diverging(self.value, self.limit) if on and known else QColor("#d9d9d9")
        edge = QPen(QColor("#e69f00") if self.marked else QColor("#4d4d4d"))
        edge.setWidthF(2.5 if self.marked else 1.0)
        body = QRectF(self.rect()).adjusted(1.5, 1.5, -1.5, -1.5)
        painter.setPen(edge)
        painter.setBrush(face)
        painter.drawRoundedRect(body, 4, 4)
        if not on:
            painter.setPen(QPen(_OFF, 1.2))
            painter.drawLine(body.topLeft(), body.bottomRight())
            painter.drawLine(body.bottomLeft(), body.topRight())
        dark = face.lightness() < 150
        ink = QColor("white" if dark else "#1a1a1a") if on else QColor("#5a5a5a")
        self._draw_switch(painter, on, ink)
        painter.setPen(ink)
        font = painter.font()
        font.setStrikeOut(not on)
        painter.setFont(font)
        place = body.adjusted(self._switch().right() + 2, 0, -4, 0)
        text = f"{self.value:+.2f}" if known else self.name
        # The number is that of the network as it is.
        text = f"× {self.weight:g}" if on and self.weight != 1 else text
        painter.drawText(place, int(Qt.AlignmentFlag.AlignCenter), text)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(ink, 1, Qt.PenStyle.DotLine))
            painter.drawRoundedRect(body.adjusted(2.5, 2.5, -2.5, -2.5), 3, 3)

    def _draw_switch(self, painter: QPainter, on: bool, ink: QColor) -> None:
        """Draw a slide with its knob, filled while the path is in the sum."""
        slide = self._switch()
        painter.setPen(QPen(ink, 1.2))
        painter.setBrush(ink if on else Qt.BrushStyle.NoBrush)
        painter.drawRoundedRect(slide, slide.height() / 2, slide.height() / 2)
        radius = slide.height() / 2 - 2
        side = slide.right() - radius - 2 if on else slide.left() + radius + 2
        painter.setPen(Qt.PenStyle.NoPen)
        inner = QColor("#1a1a1a") if ink.lightness() > 127 else QColor("white")
        painter.setBrush(inner if on else ink)
        painter.drawEllipse(QPointF(side, slide.center().y()), radius, radius)
