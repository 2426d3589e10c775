"""Parts of every dock that have nothing to do with what it does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QFrame, QMainWindow, QScrollArea, QVBoxLayout, QWidget

from napari_cvsuite.widgets.garbage import no_collection

__all__ = ["Steps", "once_after", "scrolled"]

STEP_MS = 10
_END = object()


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


class Steps(QObject):
    """Takes one step after another, and lets the window live in between.

    A step such as adding a layer may take napari as long as a window can stand still unnoticed,
    and drawing it nearly so: what surrounds the canvas is not drawn in the turn of a step but in
    the next one, and the canvas in the one after. The step of a generator function ends at each
    ``yield``.

    Parameters
    ----------
    parent : QWidget
        In the window that is drawn.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._widget = parent
        self._todo: deque[Callable[[], object]] = deque()
        self._undrawn: list[QWidget] = []
        self._timer = QTimer(self)
        self._timer.setInterval(STEP_MS)
        self._timer.timeout.connect(self._turn)

    @property
    def pending(self) -> bool:
        """Whether a step has not been taken, or not been drawn."""
        return bool(self._todo or self._undrawn)

    def add(self, *steps: Callable[[], object]) -> None:
        """Take these steps after those that wait."""
        self._todo.extend(steps)
        self._timer.start()

    def take(self, step: Callable[[], object]) -> None:
        """Take a step at once, before those that wait."""
        self._hold()
        self._timer.start()
        with no_collection():
            rest = step()
        # Without anything undrawn the step itself has cleared all steps.
        if isinstance(rest, Iterator) and self._undrawn:
            self._todo.appendleft(partial(_go_on, rest))

    def clear(self) -> None:
        """Take no more steps; a generator is closed."""
        self._todo.clear()
        self._timer.stop()
        while self._undrawn:
            self._draw()

    def _turn(self) -> None:
        if self._undrawn:
            self._draw()
        elif self._todo:
            self.take(self._todo.popleft())
        else:
            self._timer.stop()

    def _hold(self) -> None:
        if self._undrawn:
            return
        window = self._widget.window()
        centre = window.centralWidget() if isinstance(window, QMainWindow) else None
        self._undrawn = [one for one in (centre, window) if one is not None]
        for one in self._undrawn:
            one.setUpdatesEnabled(False)

    def _draw(self) -> None:
        self._undrawn.pop().setUpdatesEnabled(True)


def _go_on(rest: Iterator[object]) -> Iterator[object] | None:
    """Take the next part of a step; return what is left of it."""
    return None if next(rest, _END) is _END else rest
