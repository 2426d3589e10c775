"""What the Neurons dock shows beside layers: the prediction, sentences, a plot and a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QModelIndex, Qt, Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_cvsuite.widgets.neurons_plot import Bars, Plot
from napari_cvsuite.widgets.object_table import ObjectTable, RowModel

if TYPE_CHECKING:
    from napari_cvsuite.widgets.neurons_job import Glance

__all__ = ["NumberModel", "Panel", "Prediction"]

COUNT = 5
_THOUSANDTHS = 1000
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
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.words.setOpenExternalLinks(True)
        self.plot = Plot()
        self._places: dict[tuple[str, str], int] = {}
        self.table = ObjectTable(noun, NumberModel(), filename)
        self.table.setMinimumHeight(180)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words)
        layout.addWidget(self.plot)
        layout.addWidget(self.table, 1)
        self.table.row_chosen.connect(self.row_chosen)
        self.table.failed.connect(self.failed)
        self.plot.bar_chosen.connect(self._reveal)
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

    def show_bars(
        self, names: Sequence[str], bars: Sequence[Bars], x: str, places: Mapping[Any, int]
    ) -> None:
        """Draw bars; see :meth:`Plot.show_bars`.

        Parameters
        ----------
        names, bars, x
            See there.
        places : mapping of (str, str) to int
            Name of the bars and the bar -> the row of the table that a click on it leads to.
        """
        self._places = dict(places)
        self.plot.show_bars(names, bars, x)

    def _reveal(self, bars: str, name: str) -> None:
        if (bars, name) in self._places:
            self.table.reveal(self._places[bars, name])

    def close_down(self) -> None:
        """Cancel a save that is going on."""
        self.table.close_down()
