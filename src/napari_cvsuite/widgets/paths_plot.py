"""The plots of the Paths dock: bars of paths, curves, and what pruning does to scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator, PercentFormatter
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSizePolicy, QWidget

from napari_cvsuite.widgets.neurons_plot import Plot
from napari_cvsuite.widgets.object_table import ObjectTable

__all__ = [
    "COLOURS",
    "Curve",
    "PathPlot",
    "align",
    "by_depth",
    "narrow",
    "show_rows",
    "words_label",
]

COLOURS = {"embed": "#009e73", "msa": "#56b4e9", "ffn": "#e69f00"}
"""Of bars, by the kind of a path."""
_WORDS = {"embed": "embedding", "msa": "attention (MSA)", "ffn": "feed-forward (FFN)"}
_TALL = 210
LABEL = 100
"""Width of the names in forms."""
_GAP = 0.6
"""Between two layers, in bars."""
_FIRST = 2.4
"""Where the first layer begins, far enough from the embedding for the names of both."""
_MARK = "#cc79a7"


@dataclass(frozen=True)
class Curve:
    """A line of a plot.

    Parameters
    ----------
    name : str
    x, y : sequence of float
    colour : str
    style : str
        matplotlib's, such as ``"--"``.
    low, high : sequence of float
        Ends of intervals; empty for none.
    named : bool
        Whether the legend has it.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = COLOURS["msa"]
    style: str = "-"
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    named: bool = True


def by_depth(number: int, count: int) -> str:
    """Return the colour of one of several depths, from dark blue to yellow."""
    from matplotlib.colors import to_hex

    return str(to_hex(colormaps["viridis"](0.15 + 0.8 * number / max(1, count - 1))))


def words_label() -> QLabel:
    """Return a label for sentences, which can be copied."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def show_rows(table: ObjectTable, rows: Sequence[dict[str, Any]], hidden: Sequence[str]) -> None:
    """Show rows as they come; the columns in `hidden` are for the file, not for the eye."""
    for number in range(len(table.model.columns)):
        # Widths of hidden columns would stay nothing.
        table.view.setColumnHidden(number, False)
    table.set_rows(list(rows), in_order=True)
    for number, name in enumerate(table.model.columns):
        table.view.setColumnHidden(number, name in hidden)


def align(form: QFormLayout) -> None:
    """Give the names in a form the width that they have in all forms of the dock."""
    form.setContentsMargins(0, 0, 0, 0)
    for row in range(form.rowCount()):
        item = form.itemAt(row, QFormLayout.ItemRole.LabelRole)
        label = item.widget() if item is not None else None
        if label is not None:
            label.setMinimumWidth(LABEL)


def narrow(box: QComboBox) -> None:
    """Let a box be as wide as there is room for, whatever the length of its texts."""
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(8)


class PathPlot(Plot):
    """A picture of bars or curves.

    Signals
    -------
    path_chosen (int)
        The bar of a path was clicked.
    place_chosen (int)
        Curves over whole numbers were clicked, nearest this one.
    """

    path_chosen = Signal(int)
    place_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._paths: list[str] = []
        self._values: list[float] = []
        self._at: list[float] = []
        self._title, self._counts = "", False
        self.mark: Any = None
        self.canvas.mpl_connect("motion_notify_event", self._hovered)
        self.canvas.mpl_connect("button_press_event", self._clicked)

    def show_paths(
        self, paths: Sequence[str], values: Sequence[float], constant: float, title: str
    ) -> None:
        """Draw a bar for each path.

        Parameters
        ----------
        paths : sequence of str
        values : sequence of float
            NaN leaves a gap.
        constant : float
            Drawn as a line; NaN for none.
        title : str
            What the numbers are.
        """
        self._start(f"layer; bars: {title}", "")
        self._paths, self._values, self._title = list(paths), list(values), title
        self._at = [_place(number) for number in range(len(paths))]
        for kind, colour in COLOURS.items():
            mine = [n for n, path in enumerate(paths) if path.partition("_")[0] == kind]
            heights = [0.0 if math.isnan(values[n]) else values[n] for n in mine]
            places = [self._at[n] for n in mine]
            self.axes.bar(places, heights, 0.9, color=colour, label=_WORDS[kind])
        self.axes.axhline(0, color=self._text, lw=0.8)
        if not math.isnan(constant):
            self.axes.axhline(constant, color=_MARK, ls="--", lw=1.2, label="constant")
        drawn = 3 + (not math.isnan(constant))
        layers = len(paths) // 2
        # Numbers of many layers would run into one another.
        step = max(1, math.ceil(layers / 12))
        middles = [(self._at[2 * n + 1] + self._at[2 * n + 2]) / 2 for n in range(0, layers, step)]
        self.axes.set_xticks([0, *middles], ["embed", *map(str, range(0, layers, step))])
        self._legend(drawn)
        self._redraw()

    def show_curves(
        self, curves: Sequence[Curve], x: str, y: str, percent: bool = False, whole: bool = False
    ) -> None:
        """Draw lines, with intervals where there are some.

        Parameters
        ----------
        curves : sequence of Curve
        x, y : str
        percent : bool
            Whether the vertical axis is of shares.
        whole : bool
            Whether the horizontal axis counts.
        """
        self._start(x, y)
        for one in curves:
            label = one.name if one.named else "_hidden"
            self.axes.plot(one.x, one.y, one.style, color=one.colour, lw=1.5, label=label)
            if len(one.low):
                self.axes.fill_between(one.x, one.low, one.high, color=one.colour, alpha=0.2, lw=0)
        if percent:
            self.axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        self._counts = whole
        if whole:
            self.axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        self._legend(min(4, sum(one.named for one in curves)))
        self._redraw()

    def set_mark(self, x: float | None) -> None:
        """Draw a vertical line over curves, or none."""
        if self.mark is not None:
            self.mark.remove()
            self.mark = None
        if x is not None:
            self.mark = self.axes.axvline(x, color=_MARK, lw=1.5, ls=":")
        self.canvas.draw_idle()

    def png(self) -> bytes:
        """Return the picture as a file, twice as fine as on the screen."""
        made = BytesIO()
        self._figure.savefig(made, format="png", dpi=2 * self._figure.dpi)
        return made.getvalue()

    def _start(self, x: str, y: str) -> None:
        self.mark, self._counts = None, False
        self._paths, self._values, self._at = [], [], []
        self._begin(x, y)
        self.canvas.setToolTip("")
        self.setFixedHeight(_TALL)

    # The mouse ---------------------------------------------------------------------------------

    def _bar(self, event: Any) -> int | None:
        if event.inaxes is not self.axes or not self._at:
            return None
        number = min(range(len(self._at)), key=lambda n: abs(self._at[n] - event.xdata))
        return number if abs(self._at[number] - event.xdata) <= 0.5 else None

    def _hovered(self, event: Any) -> None:
        number = self._bar(event)
        if not self._at:
            return
        tip = "Hover over a bar for its number; click it to pick its path."
        if number is not None:
            value = self._values[number]
            known = "no number" if math.isnan(value) else f"{value:+.4g}"
            tip = f"{self._paths[number]}: {known} ({self._title})"
        if self.canvas.toolTip() != tip:
            self.canvas.setToolTip(tip)

    def _clicked(self, event: Any) -> None:
        number = self._bar(event)
        if event.button != 1:
            return
        if number is not None:
            self.path_chosen.emit(number)
        elif self._counts and event.inaxes is self.axes:
            self.place_chosen.emit(round(event.xdata))


def _place(number: int) -> float:
    """Return where the bar of a path stands: two of a layer close together."""
    if number == 0:
        return 0.0
    layer, second = divmod(number - 1, 2)
    return _FIRST + layer * (2.0 + _GAP) + second
