"""Scores against slices, with their histogram: click to go there, drag the line that rejects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cvsuite.widgets.canvas import PlotCanvas

__all__ = ["ScorePlot", "Series"]

REDRAW_MS = 200
"""A picture takes 20 to 50 ms; more often than this it would make the window sluggish."""
HEIGHT = 200
GRAB_PX = 6
MOST_BINS = 40
_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2")
_REJECTED, _THRESHOLD = "#d55e00", "#d55e00"


@dataclass(frozen=True)
class Series:
    """One line of the plot.

    Parameters
    ----------
    name : str
    x : list of int
        Number of each slice.
    scores : list of float
        NaN leaves a gap.
    """

    name: str
    x: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


class ScorePlot(QWidget):
    """Scores of slices; higher is better.

    Signals
    -------
    point_chosen (int)
        A slice was clicked: its place among all points of all series.
    threshold_moved (float)
        The line was dragged to this score.
    """

    point_chosen = Signal(int)
    threshold_moved = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._figure = Figure()
        self.canvas = PlotCanvas(self._figure)
        grid = self._figure.add_gridspec(1, 2, width_ratios=(5, 1), wspace=0.04)
        self._axes = self._figure.add_subplot(grid[0, 0])
        self._side = self._figure.add_subplot(grid[0, 1], sharey=self._axes)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        self.setFixedHeight(HEIGHT)
        self.setToolTip("Click a slice to go there; drag the dashed line to reject below it.")
        self._series: list[Series] = []
        self._lines: list[Any] = []
        self._extent = 0
        self._threshold: float | None = None
        self._current: int | None = None
        self._kept: NDArray[np.bool_] = np.zeros(0, bool)
        self._xs = self._ys = np.zeros(0)
        self._dragging = False
        self._text = "black"
        self._make_artists()
        self._redraw_later = QTimer(self)
        self._redraw_later.setSingleShot(True)
        self._redraw_later.setInterval(REDRAW_MS)
        self._redraw_later.timeout.connect(self._redraw)
        for event, slot in (
            ("button_press_event", self._pressed),
            ("motion_notify_event", self._moved),
            ("button_release_event", self._released),
            ("resize_event", self._fit),
        ):
            self.canvas.mpl_connect(event, slot)

    def _make_artists(self) -> None:
        axes, side = self._axes, self._side
        axes.set_ylabel("score (higher is better)", fontsize=8)
        self._mark = axes.axvline(0, lw=1, visible=False)
        style: dict[str, Any] = {"color": _THRESHOLD, "lw": 1, "ls": "--", "visible": False}
        self._limits = [one.axhline(0, **style) for one in (axes, side)]
        (self._crosses,) = axes.plot([], [], "x", color=_REJECTED, ms=6, mew=1.5, zorder=3)
        self._bars = side.stairs(
            [0], [0, 1], orientation="horizontal", fill=True, color=_COLOURS[0], alpha=0.7
        )
        side.tick_params(left=False, labelleft=False, bottom=False, labelbottom=False)
        side.set_xlabel("count", fontsize=8)
        # Drawing numbers is what takes longest.
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(labelsize=8)

    def set_colours(self, text: str, back: str) -> None:
        """Follow the theme of the window."""
        self._figure.set_facecolor(back)
        for axes in (self._axes, self._side):
            axes.set_facecolor(back)
            axes.tick_params(colors=text)
            axes.xaxis.label.set_color(text)
            axes.yaxis.label.set_color(text)
            for spine in axes.spines.values():
                spine.set_color(text)
                spine.set_alpha(0.4)
        self._mark.set_color(text)
        self._text = text
        self._redraw_later.start()

    # What is shown ---------------------------------------------------------------------------

    def set_series(self, series: Sequence[Series], extent: int = 0, label: str = "slice") -> None:
        """Show other series.

        Parameters
        ----------
        series : sequence of Series
        extent : int
            Number of slices to leave room for while more are to come.
        label : str
            What is counted from left to right.
        """
        self._series, self._extent = list(series), extent
        self._axes.set_xlabel(label, fontsize=8)
        self._kept, self._current = np.zeros(0, bool), None
        self._gather()
        self._later()

    def add(self, number: int, x: int, score: float) -> None:
        """Add a slice to the series of that number; drawn with the next picture."""
        self._series[number].x.append(x)
        self._series[number].scores.append(score)
        self._later()

    def _gather(self) -> None:
        self._xs = np.array([x for one in self._series for x in one.x], float)
        self._ys = np.array([y for one in self._series for y in one.scores], float)

    def set_kept(self, kept: Sequence[bool], threshold: float | None) -> None:
        """Mark the points that are rejected, and draw the line that rejects them."""
        self._kept, self._threshold = np.array(kept, bool), threshold
        self._later()

    def set_current(self, point: int | None) -> None:
        """Mark the slice that the viewer shows."""
        if point != self._current:
            self._current = point
            self._later()

    @property
    def length(self) -> int:
        """Number of points."""
        return sum(len(one.x) for one in self._series)

    @property
    def points(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Slices and scores of all points."""
        self._gather()
        return self._xs, self._ys

    def _later(self) -> None:
        # Not started anew while it runs: a job that reports all the time must not put it off.
        if not self._redraw_later.isActive():
            self._redraw_later.start()

    def _redraw(self) -> None:
        self._gather()
        self._draw_lines()
        known = self._ys[np.isfinite(self._ys)]
        low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
        if self._threshold is not None:
            low, high = min(low, self._threshold), max(high, self._threshold)
        room = 0.08 * (high - low) or 0.05
        self._axes.set_ylim(low - room, high + room)
        last = max(self._extent - 1, int(self._xs.max()) if self._xs.size else 0)
        first = 0 if self._extent or not self._xs.size else int(self._xs.min())
        margin = 0.02 * (last - first) or 0.5
        self._axes.set_xlim(first - margin, last + margin)
        bins = int(np.clip(np.sqrt(known.size) * 2, 5, MOST_BINS))
        counts, edges = np.histogram(known, bins, (low - room / 2, high + room / 2))
        self._bars.set_data(counts, edges)
        self._side.set_xlim(0, max(1, counts.max()) * 1.05)
        shown = self._threshold is not None
        for line in self._limits:
            line.set_visible(shown)
            line.set_ydata([self._threshold or 0.0] * 2)
        lost = ~self._kept if len(self._kept) == len(self._xs) else np.zeros(len(self._xs), bool)
        self._crosses.set_data(self._xs[lost], self._ys[lost])
        here = self._current is not None and self._current < len(self._xs)
        self._mark.set_visible(here)
        if here:
            self._mark.set_xdata([self._xs[self._current]] * 2)
        self._draw()

    def _draw(self) -> None:
        if not self.isVisible():
            return
        start = time.monotonic()
        self.canvas.draw()
        # On a busy machine a picture takes longer; most of the time stays with the window.
        spent = round(1000 * (time.monotonic() - start))
        self._redraw_later.setInterval(max(REDRAW_MS, 5 * spent))

    def showEvent(self, event: QShowEvent | None) -> None:
        """Draw what has changed while nobody could see it."""
        super().showEvent(event)
        self._later()

    def _draw_lines(self) -> None:
        while len(self._lines) > len(self._series):
            self._lines.pop().remove()
        while len(self._lines) < len(self._series):
            colour = _COLOURS[len(self._lines) % len(_COLOURS)]
            self._lines += self._axes.plot([], [], color=colour, lw=1.2, ms=3)
        for line, one in zip(self._lines, self._series, strict=True):
            line.set_data(one.x, one.scores)
            # Points that lie closer than they are wide only cost time.
            line.set_marker("o" if len(one.x) <= 100 else "")
        old = self._axes.get_legend()
        if old is not None:
            old.remove()
        if 1 < len(self._series) <= len(_COLOURS):
            names = [one.name for one in self._series]
            self._axes.legend(
                self._lines, names, fontsize=7, framealpha=0.3, labelcolor=self._text, loc="best"
            )

    def _fit(self, *_: object) -> None:
        """Keep the margins in pixels, so that the labels fit at any size."""
        width, height = self.canvas.get_width_height()
        if width > 120 and height > 80:
            place = (16 / width, 0.56)
            self._axes.yaxis.set_label_coords(*place, transform=self._figure.transFigure)
            self._figure.subplots_adjust(
                left=66 / width, right=1 - 6 / width, bottom=36 / height, top=1 - 6 / height
            )

    # The mouse -------------------------------------------------------------------------------

    def _pressed(self, event: Any) -> None:
        if event.inaxes is None or event.button != 1:
            return
        if self._threshold is not None:
            line = self._axes.transData.transform((0, self._threshold))[1]
            if abs(event.y - line) <= GRAB_PX:
                self._dragging = True
                return
        if event.inaxes is self._axes and self._xs.size:
            usable = np.isfinite(self._ys)
            at = self._axes.transData.transform(np.stack([self._xs, self._ys], axis=1))
            # Between lines the nearest one counts, along one line mainly the slice.
            away = np.abs(at[:, 0] - event.x) + 0.1 * np.abs(at[:, 1] - event.y)
            away[~usable] = np.abs(at[~usable, 0] - event.x) + 1
            self.point_chosen.emit(int(np.argmin(away)))

    def _moved(self, event: Any) -> None:
        if self._dragging and event.ydata is not None:
            self.threshold_moved.emit(float(event.ydata))

    def _released(self, event: Any) -> None:
        self._dragging = False

    def close_down(self) -> None:
        """Draw no more."""
        self._redraw_later.stop()
