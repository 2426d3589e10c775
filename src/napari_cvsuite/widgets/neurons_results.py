"""What the Neurons dock shows beside layers: the prediction, sentences, a plot and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from qtpy.QtCore import QModelIndex, Qt, Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_cvsuite.widgets.object_table import ObjectTable, RowModel

if TYPE_CHECKING:
    from napari_cvsuite.widgets.neurons_job import Glance

__all__ = ["Interval", "Line", "NumberModel", "Panel", "Plot", "Prediction"]

COUNT = 5
_THOUSANDTHS = 1000
_COLOURS = ("#56b4e9", "#e69f00")
_HEIGHT = 170
_WIDEST = 190


class _Share(QProgressBar):
    """A probability as a bar, with the name of its class on it."""

    def __init__(self) -> None:
        super().__init__()
        self._words = ""
        self.setRange(0, _THOUSANDTHS)
        self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.setFixedHeight(18)

    def show_share(self, name: str, share: float) -> None:
        self._words = f" {name}  {share:.1%}"
        self.setValue(round(_THOUSANDTHS * share))
        self.setToolTip(f"{name}: probability {share:.4f}")
        self.update()

    def text(self) -> str:
        """Return the words on the bar."""
        return self._words


class Prediction(QWidget):
    """The likeliest classes of one network, or of two beside one another."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.glances: list[Glance] = []
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.titles = [QLabel() for _ in range(2)]
        self.bars = [[_Share() for _ in range(COUNT)] for _ in range(2)]
        self._grid = grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        grid.addWidget(self.words, 0, 0, 1, 2)
        for column, (title, bars) in enumerate(zip(self.titles, self.bars, strict=True)):
            grid.addWidget(title, 1, column)
            for row, bar in enumerate(bars):
                grid.addWidget(bar, row + 2, column)
        self.say("")

    def say(self, text: str) -> None:
        """Show words in the place of the bars; no text shows nothing."""
        self.glances = []
        self.words.setText(text)
        self.words.setVisible(bool(text))
        for widget in (*self.titles, *self.bars[0], *self.bars[1]):
            widget.setVisible(False)

    def show_glances(self, glances: Sequence[Glance]) -> None:
        """Show what networks say of an image."""
        self.say("")
        self.glances = list(glances)
        for column in range(2):
            # One network has all the room.
            self._grid.setColumnStretch(column, int(column < len(glances)))
        for title, bars, one in zip(self.titles, self.bars, glances, strict=False):
            title.setText(f"<b>{one.model}</b>")
            title.setVisible(True)
            for bar, likely in zip(bars, one.likely, strict=False):
                bar.show_share(likely.name, likely.probability)
                bar.setVisible(True)

    def fade(self, faded: bool) -> None:
        """Show that the bars are those of what was chosen before."""
        self.setEnabled(not faded)


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


class Plot(QWidget):
    """A small picture of lines or of intervals."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._figure = Figure(layout="constrained")
        self.canvas = FigureCanvasQTAgg(self._figure)
        self.axes = self._figure.add_subplot()
        self._text, self._back = "black", "white"
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        self.setFixedHeight(_HEIGHT)
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
        # Above the lines, where it covers none of them.
        self.axes.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=2,
            fontsize=7,
            frameon=False,
            labelcolor=self._text,
        )
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

    def _begin(self, x: str, y: str) -> None:
        self.axes.clear()
        self.axes.set_xlabel(x, fontsize=8)
        self.axes.set_ylabel(y, fontsize=8)
        self.axes.tick_params(labelsize=7)
        self.setVisible(True)

    def _redraw(self) -> None:
        self._figure.set_facecolor(self._back)
        self.axes.set_facecolor(self._back)
        self.axes.tick_params(colors=self._text)
        for spine in self.axes.spines.values():
            spine.set_color(self._text)
        for label in (self.axes.xaxis.label, self.axes.yaxis.label):
            label.set_color(self._text)
        self.canvas.draw_idle()


class NumberModel(RowModel):
    """Rows of measures; what is not a number stays empty."""

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell; a long text also as its tip."""
        if role == Qt.ItemDataRole.ToolTipRole:
            return super().data(index)
        return super().data(index, role)

    def _text(self, column: str, value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else ""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, float) and column == "drop":
            return f"{value:.2%}"
        if isinstance(value, float) and abs(value) < 1000:
            return f"{value:.3g}"
        return super()._text(column, value)


class Panel(QWidget):
    """The last result of one action.

    Parameters
    ----------
    noun : str
        What a row of the table is, in the plural.
    filename : str
        Proposed for the file with the table.
    """

    row_chosen = Signal(dict)
    failed = Signal(str)

    def __init__(self, noun: str, filename: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.plot = Plot()
        self.table = ObjectTable(noun, NumberModel(), filename)
        self.table.setMinimumHeight(180)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words)
        layout.addWidget(self.plot)
        layout.addWidget(self.table, 1)
        self.table.row_chosen.connect(self.row_chosen)
        self.table.failed.connect(self.failed)
        self.words.setVisible(False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table."""
        return self.table.model.rows

    def show_result(self, words: str, rows: Sequence[dict[str, Any]] = ()) -> None:
        """Show words and rows, in the order given; a plot comes afterwards."""
        self.words.setText(words)
        self.words.setVisible(bool(words))
        self.plot.setVisible(False)
        self.table.set_rows(list(rows), in_order=True)
        view, columns = self.table.view, self.table.model.columns
        for number, column in enumerate(columns):
            view.setColumnWidth(number, min(view.columnWidth(number), _WIDEST))
            # One network is named above; its name in every row would only take space.
            alone = column == "model" and len({row["model"] for row in rows}) == 1
            view.setColumnHidden(number, alone)

    def close_down(self) -> None:
        """Cancel a save that is going on."""
        self.table.close_down()
