"""Parts of every dock that have nothing to do with what it does."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

__all__ = ["once_after", "scrolled"]


def once_after(parent: QObject, interval: int, slot: Callable[[], None]) -> QTimer:
    """Return a timer that fires once, `interval` milliseconds after the last start."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(interval)
    timer.timeout.connect(slot)
    return timer


def scrolled(dock: QWidget, inner: QWidget) -> None:
    """Fill a dock with a widget that may be higher than the screen of a laptop."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inner)
    outer = QVBoxLayout(dock)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)
    dock.setMinimumWidth(inner.minimumSizeHint().width())
