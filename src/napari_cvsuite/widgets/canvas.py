"""Matplotlib's canvas, as the docks use it."""

from __future__ import annotations

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from qtpy.QtGui import QShowEvent

__all__ = ["PlotCanvas"]


class PlotCanvas(FigureCanvasQTAgg):
    """A canvas that is drawn once it is seen.

    A picture takes 20 to 100 ms, and Qt gives hidden widgets new sizes, each of which
    matplotlib answers with one.
    """

    def draw_idle(self) -> None:
        """Draw soon, but not while nobody can see it."""
        if self.isVisible():
            super().draw_idle()

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what has changed meanwhile."""
        super().showEvent(event)
        self.draw_idle()
