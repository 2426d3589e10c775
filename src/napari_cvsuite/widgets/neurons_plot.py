"""The small plots of the Neurons dock; bars can be clicked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cvsuite.widgets.canvas import PlotCanvas

__all__ = ["Bars", "Interval", "Line", "Plot"]

HEIGHT = 170
_COLOURS = ("#56b4e9", "#e69f00")
_FILLED = 0.8
"""Of the height of a name the part that its bars fill."""
_ROW, _AROUND = 15, 70
"""Pixels of a bar, and of what is above and below the bars."""


@dataclass(frozen=True)
class Line:
    """A line of a plot."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    colour: int = 0


@dataclass(frozen=True)
class Interval:
    """A number with its interval, on a row of its own."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bars:
    """Bars of one network: shares in [0, 1], and the counts that they are made from."""

    name: str
    shares: Sequence[float]
    counts: Sequence[int]


class Plot(QWidget):
    """A small picture of lines, of intervals or of bars.

    Signals
    -------
    bar_chosen (str, str)
        A bar was clicked, or the row that it stands in: the name of the bars, and its own.
    """

    bar_chosen = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._figure = Figure(layout="constrained")
        self.canvas = PlotCanvas(self._figure)
        self.axes = self._figure.add_subplot()
        self._text, self._back = "black", "white"
        self._names: list[str] = []
        self._bars: list[Bars] = []
        self.canvas.mpl_connect("button_press_event", self._pressed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        self.setFixedHeight(HEIGHT)
        self.setVisible(False)

    def set_colours(self, text: str, back: str) -> None:
        """Take the colours of the window's theme."""
        self._text, self._back = text, back
        self._redraw()

    def show_lines(self, lines: Sequence[Line], x: str, y: str) -> None:
        """Draw lines."""
        self._begin(x, y)
        for line in lines:
            style = "--" if line.dashed else "-"
            colour = _COLOURS[line.colour % len(_COLOURS)]
            self.axes.plot(line.x, line.y, style, color=colour, lw=1.5, label=line.name)
        self._legend()
        self._redraw()

    def show_intervals(
        self, intervals: Sequence[Interval], band: tuple[float, float], x: str
    ) -> None:
        """Draw intervals between 0 and 1 above one another, and a band."""
        self._begin(x, "")
        self.axes.axvspan(*band, color="#009e73", alpha=0.35, lw=0)
        self.axes.text(
            band[0] - 0.01,
            len(intervals) - 0.6,
            "people",
            ha="right",
            va="top",
            fontsize=7,
            color=self._text,
        )
        for row, one in enumerate(intervals):
            colour = _COLOURS[row % len(_COLOURS)]
            error = [[one.value - one.low], [one.high - one.value]]
            self.axes.errorbar(one.value, row, xerr=error, fmt="o", color=colour, capsize=4)
        self.axes.set_xlim(0, 1)
        self.axes.set_ylim(-0.6, len(intervals) - 0.4)
        self.axes.set_yticks(range(len(intervals)), [one.name for one in intervals])
        self._redraw()

    def show_bars(self, names: Sequence[str], bars: Sequence[Bars], x: str) -> None:
        """Draw horizontal bars, those of one name side by side, the first name on top.

        Parameters
        ----------
        names : sequence of str
        bars : sequence of Bars
            One or two, with a share for each name.
        x : str
            What the shares are of.
        """
        self._begin(x, "")
        self._names, self._bars = list(names), list(bars)
        thick = _FILLED / len(bars)
        for number, one in enumerate(bars):
            at = [row + (number + 0.5) * thick - _FILLED / 2 for row in range(len(names))]
            colour = _COLOURS[number % len(_COLOURS)]
            drawn = self.axes.barh(at, one.shares, thick, color=colour, label=one.name)
            marks = [str(count) for count in one.counts]
            self.axes.bar_label(drawn, marks, padding=2, fontsize=7, color=self._text)
        # Room for the count of the longest bar; without any bar there is still an axis.
        longest = max((share for one in bars for share in one.shares), default=0.0)
        self.axes.set_xlim(0, 1.12 * longest or 1.0)
        self.axes.set_ylim(len(names) - 0.5, -0.5)
        self.axes.set_yticks(range(len(names)), names)
        self.axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        if len(bars) > 1:
            self._legend()
        self.setFixedHeight(max(HEIGHT, _AROUND + _ROW * len(names) * len(bars)))
        self._redraw()

    def _pressed(self, event: Any) -> None:
        if event.inaxes is not self.axes or event.button != 1 or not self._bars:
            return
        row = min(max(round(event.ydata), 0), len(self._names) - 1)
        thick = _FILLED / len(self._bars)
        number = int((event.ydata - row + _FILLED / 2) // thick)
        bars = self._bars[min(max(number, 0), len(self._bars) - 1)]
        self.bar_chosen.emit(bars.name, self._names[row])

    def _begin(self, x: str, y: str) -> None:
        self.axes.clear()
        self._names, self._bars = [], []
        self.setFixedHeight(HEIGHT)
        self.axes.set_xlabel(x, fontsize=8)
        self.axes.set_ylabel(y, fontsize=8)
        self.axes.tick_params(labelsize=7)
        self.setVisible(True)

    def _legend(self, columns: int = 2) -> None:
        # Above the axes, where it covers nothing.
        self.axes.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=columns,
            fontsize=7,
            frameon=False,
            labelcolor=self._text,
        )

    def _redraw(self) -> None:
        self._figure.set_facecolor(self._back)
        self.axes.set_facecolor(self._back)
        self.axes.tick_params(colors=self._text)
        for spine in self.axes.spines.values():
            spine.set_color(self._text)
        for label in (self.axes.xaxis.label, self.axes.yaxis.label):
            label.set_color(self._text)
        self.canvas.draw_idle()
