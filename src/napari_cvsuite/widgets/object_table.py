"""A table of objects or slices: sort it, click a row to go there, save it."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_cvsuite.images import replacing
from napari_cvsuite.jobs import Context
from napari_cvsuite.widgets.bridge import JobRunner

__all__ = ["ObjectTable", "RowModel", "write_csv"]

Row = dict[str, Any]
_NOWHERE = QModelIndex()


class RowModel(QAbstractTableModel):
    """Rows of equal keys as a Qt table.

    It sorts by itself: Qt's proxy asks Python for every value that it compares, and with tens of
    thousands of rows the window would stand still meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.columns: list[str] = []
        self._classes: tuple[str, ...] = ()
        self._order: list[int] = []

    def set_rows(self, rows: list[Row], classes: Sequence[str] = ()) -> None:
        """Show other rows; the column ``class`` by the names of the classes."""
        self.beginResetModel()
        self.rows, self.columns = rows, list(rows[0]) if rows else []
        self._classes = tuple(classes)
        self._order = list(range(len(rows)))
        self.endResetModel()

    def place(self, index: QModelIndex) -> int:
        """Return where the row of a cell is in :attr:`rows`, however they are sorted."""
        return self._order[index.row()]

    def at(self, place: int, column: int) -> QModelIndex:
        """Return the cell of a row of :attr:`rows`, however they are sorted."""
        return self.index(self._order.index(place), column)

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Show the rows by a column, empty cells last; by none (-1) as they were given."""
        self.layoutAboutToBeChanged.emit()
        held = self.persistentIndexList()
        places = [self.place(index) for index in held]
        self._order = list(range(len(self.rows)))
        if 0 <= column < len(self.columns):
            values = [row[self.columns[column]] for row in self.rows]
            full = [place for place in self._order if not _is_empty(values[place])]
            empty = [place for place in self._order if _is_empty(values[place])]
            down = order == Qt.SortOrder.DescendingOrder
            full.sort(key=lambda place: _rank(values[place]), reverse=down)
            self._order = full + empty
        lines = {place: line for line, place in enumerate(self._order)}
        moved = [
            self.index(lines[place], index.column())
            for place, index in zip(places, held, strict=True)
        ]
        self.changePersistentIndexList(held, moved)
        self.layoutChanged.emit()

    def rowCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of rows."""
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = _NOWHERE) -> int:
        """Return the number of columns."""
        return 0 if parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a cell."""
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        column = self.columns[index.column()]
        return self._text(column, self.rows[self.place(index)][column])

    def _text(self, column: str, value: Any) -> str:
        if column == "class" and self._classes and 0 <= int(value) < len(self._classes):
            return self._classes[int(value)]
        if not isinstance(value, float):
            return str(value)
        return f"{value:.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return the name of a column."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return self.columns[section].replace("_", " ")
        return None


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and math.isnan(value))


def _rank(value: Any) -> tuple[bool, Any]:
    """Return what sorts numbers by their size and before words."""
    is_word = not isinstance(value, (Real, np.bool_))
    return is_word, str(value).casefold() if is_word else value


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write rows to a CSV file, whole or not at all.

    Raises
    ------
    ImageError
        The file cannot be written.
    """
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]) if rows else ["index"])
        writer.writeheader()
        writer.writerows(rows)


class ObjectTable(QWidget):
    """The rows of the last run.

    Parameters
    ----------
    noun : str
        What a row is, in the plural.
    model : RowModel, optional
    filename : str
        Proposed for the file with the table.
    """

    row_chosen = Signal(dict)
    failed = Signal(str)

    def __init__(
        self,
        noun: str = "objects",
        model: RowModel | None = None,
        filename: str = "objects.csv",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.noun, self._filename = noun, filename
        self.model = model or RowModel()
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setSortingEnabled(True)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        vertical, horizontal = self.view.verticalHeader(), self.view.horizontalHeader()
        if vertical is not None and horizontal is not None:
            vertical.setVisible(False)
            # Widths from the first rows; measuring thousands of cells would stop the window.
            horizontal.setResizeContentsPrecision(20)
        self.view.clicked.connect(self._clicked)
        self.count = QLabel()
        self.save_button = QPushButton("Save table…")
        self.save_button.clicked.connect(self._ask_and_save)
        self._runner = JobRunner(self)
        self._runner.failed.connect(lambda error: self.failed.emit(f"Not saved: {error}"))
        row = QHBoxLayout()
        row.addWidget(self.count, 1)
        row.addWidget(self.save_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.view)
        self.setVisible(False)

    def set_rows(
        self, rows: list[Row], classes: Sequence[str] = (), in_order: bool = False
    ) -> None:
        """Show other rows; without any the table hides.

        Parameters
        ----------
        rows : list of dict
        classes : sequence of str
            Names for the column ``class``.
        in_order : bool
            Leave the rows as they are; sorting thousands would stop the window for a moment.
        """
        if in_order:
            self.view.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
        self.model.set_rows(rows, classes)
        self.count.setText(f"{len(rows)} {self.noun}")
        self.setVisible(bool(rows))
        if rows:
            if not in_order:
                self.view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
            self.view.resizeColumnsToContents()

    def reveal(self, place: int) -> None:
        """Select a row and scroll to it; nothing is run as by a click.

        Parameters
        ----------
        place : int
            Among the rows as they were given, however they are sorted.
        """
        shown = (c for c in range(len(self.model.columns)) if not self.view.isColumnHidden(c))
        # Qt scrolls to no cell of a hidden column.
        index = self.model.at(place, next(shown, 0))
        self.view.selectRow(index.row())
        self.view.scrollTo(index)

    def save(self, path: Path) -> None:
        """Write the table in the background."""
        rows = list(self.model.rows)

        def work(context: Context) -> None:
            write_csv(path, rows)

        if not self._runner.busy:
            self._runner.start(work, "io", f"save {path.name}")

    def close_down(self) -> None:
        """Cancel a save that is going on."""
        self._runner.close()

    def _ask_and_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save table", self._filename, "CSV (*.csv)")
        if path:
            self.save(Path(path))

    def _clicked(self, index: QModelIndex) -> None:
        self.row_chosen.emit(self.model.rows[self.model.place(index)])
