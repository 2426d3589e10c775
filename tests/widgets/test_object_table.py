"""The table of objects as it reads; that it follows clicks and saves is tested with the dock."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt

from napari_cvsuite.widgets.object_table import ObjectTable, RowModel


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("class", 2.0, "tumour"),
        ("class", 7.0, "7"),
        ("area", 152_345.0, "152345"),
        ("area", 12.34567, "12.35"),
        ("area", float("nan"), "nan"),
        ("index", 12_345, "12345"),
    ],
)
def test_cells_are_words_and_plain_numbers(column: str, value: Any, text: str) -> None:
    model = RowModel()
    model.set_rows([{column: value}], ("background", "cell", "tumour"))
    assert model.data(model.index(0, 0)) == text
    assert model.data(model.index(0, 0), Qt.ItemDataRole.ToolTipRole) is None


def test_rows_are_sorted_by_number_not_by_text(qtbot: Any) -> None:
    table = ObjectTable()
    qtbot.addWidget(table)
    table.set_rows([{"index": i, "area": a} for i, a in ((1, 9.0), (2, 10_000.0), (3, 200.0))])
    table.view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    shown = table.view.model()
    assert [shown.index(row, 0).data() for row in range(3)] == ["2", "3", "1"]


def test_sorting_leaves_empty_cells_last_and_equal_ones_as_they_were() -> None:
    model = RowModel()
    nan = float("nan")
    values = [3.0, None, "b", nan, 1, "A", True, 3]
    model.set_rows([{"value": value, "index": i} for i, value in enumerate(values)])

    def shown() -> list[str]:
        return [model.data(model.index(line, 1)) for line in range(len(values))]

    model.sort(0)
    assert shown() == ["4", "6", "0", "7", "5", "2", "1", "3"]
    assert [model.place(model.index(line, 0)) for line in (0, 7)] == [4, 3]
    assert model.at(5, 1).row() == 4
    model.sort(0, Qt.SortOrder.DescendingOrder)
    assert shown() == ["2", "5", "0", "7", "4", "6", "1", "3"]
    # The rows themselves stay as they are.
    assert [row["index"] for row in model.rows] == list(range(8))
    model.sort(-1)
    assert shown() == [str(i) for i in range(8)]


def test_what_is_selected_stays_so_when_sorted(qtbot: Any) -> None:
    table = ObjectTable()
    qtbot.addWidget(table)
    table.set_rows([{"index": i, "area": float(a)} for i, a in enumerate((5, 9, 7))])
    table.view.selectRow(1)
    table.view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    [index] = table.view.selectionModel().selectedRows()
    assert (index.row(), index.data()) == (0, "1")


def test_a_row_is_revealed_however_the_table_is_sorted(qtbot: Any) -> None:
    table, chosen = ObjectTable(), []
    qtbot.addWidget(table)
    table.resize(300, 160)
    table.row_chosen.connect(chosen.append)
    table.set_rows([{"model": "m", "index": number} for number in range(100)])
    table.show()
    table.view.setColumnHidden(0, True)
    table.view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    table.reveal(10)
    (index,) = table.view.selectionModel().selectedRows(1)
    assert index.data() == "10" and index.row() == 89
    area = table.view.viewport().rect()
    # In sight, where the table begins with the 99th row; nothing runs but by a click.
    assert area.contains(table.view.visualRect(index)) and not chosen
    table.view.scrollToTop()
    assert not area.contains(table.view.visualRect(index))
    table.reveal(10)
    assert area.contains(table.view.visualRect(index))
